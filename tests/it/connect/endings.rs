//! How sessions end by somebody else's word: revocation and the grant's end.

use super::{Desk, ended, stage};

#[tokio::test]
async fn revoking_a_grant_ends_a_running_psql_in_the_middle_of_its_statement() {
    let desk = Desk::new(stage().await, "revoked");
    let grant = desk.grant("10m");
    let shell = desk.shell(&grant, "psql -Xc 'SELECT pg_sleep(50)'; echo psql $?");
    let (session, socket) = (shell.session.clone(), shell.socket.clone());
    let mut serving = desk.serve(&grant);
    let other = (serving.session().to_owned(), serving.socket().to_owned());
    desk.query_runs(&session, "pg_sleep").await;

    desk.run(&["grants", "revoke", &grant, "--comment", "wrong person"]).exits(0);
    let ran = shell.finish("revoked").exits(0);
    // psql's own code for a connection that was lost.
    ran.says("psql 2").says("the grant was revoked").says("ended by the control plane");
    let (code, closed) = serving.last();
    assert_eq!((code, &closed["reason"]), (Some(4), &"revoked".into()), "{closed}");
    assert!(closed["detail"].as_str().unwrap().contains("revoked"), "{closed}");
    desk.left_nothing(&session, &socket, "(revoked").await;
    desk.left_nothing(&other.0, &other.1, "(revoked").await;
    desk.run(&["connect", "prod-db", "--grant", &grant, "--", "true"]).exits(125).says("revoked");
}

#[tokio::test]
async fn a_grants_end_is_announced_and_ends_a_running_psql() {
    let desk = Desk::new(stage().await, "expires");
    let grant = desk.grant("5s");
    let mut serving = desk.serve(&grant);
    let other = (serving.session().to_owned(), serving.socket().to_owned());
    let shell = desk.shell(&grant, "psql -Xc 'SELECT pg_sleep(50)'; echo psql $?");
    let (session, socket) = (shell.session.clone(), shell.socket.clone());
    let ran = shell.finish("expires").exits(0);
    ran.says("NOTICE:  this pgate session ends in 1 minute").says("psql 2").says("has expired");
    let (code, closed) = serving.last();
    assert_eq!((code, &closed["reason"]), (Some(0), &"expired".into()), "{closed}");
    desk.left_nothing(&session, &socket, "(expired)").await;
    desk.left_nothing(&other.0, &other.1, "(expired)").await;
    desk.run(&["connect", "prod-db", "--grant", &grant]).exits(4);
}

#[tokio::test]
async fn two_sessions_of_one_person_are_apart_and_end_apart() {
    let desk = Desk::new(stage().await, "twice");
    let grant = desk.grant("10m");
    let one = desk.serve(&grant);
    let mut two = desk.serve(&grant);
    assert_ne!(one.session(), two.session());
    assert_ne!(one.socket(), two.socket());
    assert_ne!(one.ready["password"], two.ready["password"]);
    let (session, socket) = (one.session().to_owned(), one.socket().to_owned());
    assert_eq!(one.psql("SELECT current_user").0.trim(), super::role_of(&session));
    one.end(rustix::process::Signal::INT);
    desk.left_nothing(&session, &socket, "(closed)").await;
    assert_eq!(two.psql("SELECT current_user").0.trim(), super::role_of(two.session()));
    let (session, socket) = (two.session().to_owned(), two.socket().to_owned());
    super::signal(&two.child, rustix::process::Signal::TERM);
    assert_eq!(ended(&mut two.child), Some(0));
    desk.left_nothing(&session, &socket, "(closed)").await;
}

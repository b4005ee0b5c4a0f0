//! A CI job: a token in its environment or in a file, no terminal, nobody to ask.

use std::{collections::BTreeMap, fs};

use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::{Desk, finish, stage};

#[tokio::test]
async fn a_job_needs_nothing_but_its_token() {
    let desk = Desk::new(stage().await, "job");
    let claims = BTreeMap::from([("repository".to_owned(), "acme/shop".to_owned())]);
    let token = desk.stage.issuer().workload_token("pgate-ci", "repo:acme/shop", &claims);
    let file = desk.home().join("token");
    fs::write(&file, format!("{}\n", token.expose_secret())).unwrap();

    for by_file in [false, true] {
        let run = |arguments: &[&str]| {
            let mut command = desk.pgate(arguments);
            if by_file {
                command.env_remove("PGATE_TOKEN").env("PGATE_TOKEN_FILE", &file);
            } else {
                command.env("PGATE_TOKEN", token.expose_secret());
            }
            finish(command, arguments)
        };
        let secret = token.expose_secret();
        run(&["whoami"]).exits(0).says("acme/shop").hides(secret);
        run(&["targets"]).exits(0).says("readonly").hides("writer");
        let ask = ["request", "prod-db", "--role", "readonly", "--reason", "nightly report"];
        let granted = run(&[&ask[..], &["--output", "json"]].concat()).exits(0).hides(secret);
        let grant: Value = serde_json::from_str(&granted.stdout).unwrap();
        let grant = grant["id"].as_str().unwrap();
        run(&["grants"]).exits(0).says(grant).hides(secret);
        let report = "echo $PGATE_SESSION; psql -XAtc 'SELECT count(*) FROM customers'; \
                      env | grep -c PGATE_TOKEN";
        let ran = run(&["connect", "prod-db", "--", "sh", "-c", report]).exits(1).hides(secret);
        let lines = ran.stdout.lines().collect::<Vec<_>>();
        let [session, "12000", "0"] = lines[..] else { panic!("{ran}") };
        run(&["sessions"]).exits(0).says(session).hides(secret);
        run(&["log", "verify", session]).exits(0).says("acme/shop").hides(secret);
        // What would wait for a person is refused at once: no rule gives it to a job.
        let more = ["connect", "prod-db", "--role", "writer", "--reason", "more", "--", "true"];
        run(&more).exits(125).hides(secret);
        run(&["grants", "revoke", grant]).exits(0);
    }
}

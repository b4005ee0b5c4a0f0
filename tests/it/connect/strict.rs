//! `audit = "strict"`: the control plane has a statement's line before the database gets
//! the statement.

use super::{
    Desk,
    faults::at,
    middleman::{Fate, Middleman},
    stage,
};

const CONNECT: [&str; 6] = ["connect", "prod-db", "--role", "strict", "--reason", "INC-9"];

fn uploads(method: &str, path: &str) -> bool {
    method == "PUT" && path.ends_with("/log")
}

#[tokio::test]
async fn a_statement_of_a_strict_role_is_at_the_control_plane_when_its_answer_comes() {
    let stage = stage().await;
    let desk = Desk::new(stage, "strict");
    let archive = stage.server_folder().join("sessions");
    let script = format!(
        "for n in 1 2 3; do psql -qAt -c \"SELECT $n AS on_record\" && \
         grep -c 'AS on_record' '{}'/$PGATE_SESSION.jsonl; done",
        archive.display()
    );
    let command = [&CONNECT[..], &["--", "sh", "-c", &script]].concat();
    let ran = at(&desk, stage.url(), &command).await.exits(0);
    assert_eq!(ran.stdout, "1\n1\n2\n2\n3\n3\n", "{}", ran.stderr);
}

#[tokio::test]
async fn nothing_of_a_strict_role_runs_while_the_control_plane_takes_no_log() {
    let stage = stage().await;
    let desk = Desk::new(stage, "silent");
    let between = Middleman::before(stage.url(), |method, path| match uploads(method, path) {
        true => Fate::Answer(503, "no"),
        false => Fate::Pass,
    })
    .await;
    let insert = "INSERT INTO api_keys (name, secret, created_at) VALUES ('never', '', now())";
    let command = [&CONNECT[..], &["--", "psql", "-c", insert]].concat();
    let ran = at(&desk, &between.url, &command).await.exits(2);
    let ran = ran.says("hasn't confirmed the session log within 10 s");
    ran.says("rule role.strict.audit").says("pgate doctor");
    between.now(|_, _| Fate::Pass);
    let count = "SELECT count(*) FROM api_keys WHERE name = 'never'";
    let command = [&CONNECT[..], &["--", "psql", "-qAt", "-c", count]].concat();
    let ran = at(&desk, &between.url, &command).await.exits(0);
    assert_eq!(ran.stdout, "0\n");
}

//! The main job, end to end: real `pgate`, real PostgreSQL, real psql.

use crate::harness::{pgate, run, stage};

#[tokio::test]
async fn a_request_waits_for_somebody_elses_word_and_never_for_ones_own() {
    let stage = stage().await;
    let ask = ["request", "prod-db", "--role", "writer", "--reason", "INC-1", "--output", "json"];
    let mut waiting = pgate(stage, "dan", &ask);
    waiting.arg("--no-wait");
    let asked = waiting.output().unwrap();
    assert_eq!(asked.status.code(), Some(5), "{asked:?}");
    let grant: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let id = grant["id"].as_str().unwrap();

    run(stage, "dan", &["approve", id]).exits(4);
    run(stage, "ana", &["approve", id]).exits(4);
    run(stage, "dan", &["inbox"]).exits(0).hides(id);
    run(stage, "dan", &["grants", "show", id]).exits(0).says("pending");
}

#[tokio::test]
async fn what_is_unknown_or_not_allowed_is_refused_with_a_way_out() {
    let stage = stage().await;
    let ask = |target, role| ["request", target, "--role", role, "--reason", "INC-2"];
    run(stage, "ana", &ask("nosuch", "readonly")).exits(4).says("nosuch").says("hint");
    run(stage, "ana", &ask("prod-db", "nosuch")).exits(4).says("nosuch").says("hint");
    let mut stranger = stage.pgate("stranger").unwrap();
    let nobody = stranger.args(ask("prod-db", "readonly")).output().unwrap();
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
}

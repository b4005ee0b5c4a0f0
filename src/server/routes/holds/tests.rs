use serde_json::json;

use crate::server::testing::{HELD as ID, Held};

const OTHER: &str = "ho_fedcba9876543210";

#[tokio::test]
async fn a_held_statement_reaches_its_reviewers_and_their_answer_its_proxy() {
    let held = Held::start().await;
    let raised = held.raise(ID).await;
    assert_eq!(
        (&raised["state"], &raised["reviewers"]),
        (&json!("waiting"), &json!({"group": "dba"}))
    );
    let server = &held.server;
    let people = server.people();
    let inbox = server.get("/v1/inbox", &people["bo"]).await.ok(200);
    assert_eq!(inbox["holds"][0]["id"], ID);
    assert_eq!(inbox["grants"], json!([]));
    for stranger in ["ana", "eve"] {
        let inbox = server.get("/v1/inbox", &people[stranger]).await.ok(200);
        assert_eq!(inbox["holds"], json!([]), "{stranger}");
    }
    let view = server.get(&format!("/v1/holds/{ID}"), &people["bo"]).await.ok(200);
    assert_eq!(view["statement"]["parameters"], json!([{"text": "7"}, "null"]));
    assert_eq!(view["statement"]["estimate"]["rows"], 1000);
    assert_eq!((&view["reason"], &view["role"]), (&json!("INC-1"), &json!("writer")));

    let path = format!("/v1/holds/{ID}?wait=30");
    let waiting = server.get(&path, held.token());
    let deciding = async {
        let body = json!({"comment": "go", "scope": "same_statements"});
        held.post(ID, "approve", "bo", body).await.ok(200);
    };
    let (answer, ()) = tokio::join!(waiting, deciding);
    let answer = answer.ok(200);
    assert_eq!(
        (&answer["state"], &answer["scope"]),
        (&json!("approved"), &json!("same_statements"))
    );
    assert_eq!(answer["decision"]["by"]["email"], "bo@example.com");
    assert_eq!(answer["decision"]["comment"], "go");
    held.post(ID, "deny", "cy", json!({})).await.refused(409, "not_waiting");
    let path = format!("/v1/sessions/{}/holds", held.session["session"].as_str().unwrap());
    let list = server.get(&path, &people["ana"]).await.ok(200);
    assert_eq!(list["holds"][0]["state"], "approved");
    server.get(&path, &people["eve"]).await.refused(404, "unknown_session");
}

#[tokio::test]
async fn nobody_decides_on_their_own_statement_or_without_being_a_reviewer_of_its_rule() {
    let held = Held::start().await;
    held.raise(ID).await;
    held.post(ID, "approve", "ana", json!({})).await.refused(403, "own_statement");
    held.post(ID, "deny", "ana", json!({})).await.refused(403, "own_statement");
    held.post(ID, "approve", "eve", json!({})).await.refused(404, "unknown_hold");
    // Ana again, now in the group that reviews.
    let promoted = held.server.issuer.token("ana", &["engineering", "dba"]);
    let path = format!("/v1/holds/{ID}/approve");
    held.server.post(&path, &promoted, json!({})).await.refused(403, "own_statement");
    let inbox = held.server.get("/v1/inbox", &promoted).await.ok(200);
    assert_eq!(inbox["holds"], json!([]));
    // The session's own token decides nothing.
    held.server.post(&path, held.token(), json!({})).await.refused(401, "bad_token");
    held.put(OTHER, held.body(1)).await.ok(201);
    held.post(OTHER, "approve", "bo", json!({})).await.refused(404, "unknown_hold");
}

#[tokio::test]
async fn a_hold_is_raised_once_however_often_it_is_sent_and_only_by_its_session() {
    let held = Held::start().await;
    let raised = held.raise(ID).await;
    assert_eq!(held.put(ID, held.body(0)).await.ok(200), raised);
    let mut other = held.body(0);
    other["statement"]["sql"] = json!("DELETE FROM customers");
    held.put(ID, other).await.refused(409, "busy");
    held.put(OTHER, held.body(7)).await.refused(400, "unknown_rule");
    let mut long = held.body(0);
    long["statement"]["sql"] = json!("x".repeat(200_000));
    held.put(OTHER, long).await.refused(400, "too_long");
    held.put("ho_1", held.body(0)).await.refused(400, "bad_request");
    let path = format!("/v1/holds/{OTHER}");
    let body = Some(held.body(0).to_string().into_bytes());
    let ana = &held.server.people()["ana"];
    held.server.send("PUT", &path, Some(ana), body.clone()).await.refused(403, "not_a_session");
    let stranger = held.server.send("PUT", &path, Some("pgu_guess"), body).await;
    stranger.refused(404, "unknown_session");
    let seen = held.server.send("GET", &format!("/v1/holds/{ID}"), Some("pgu_guess"), None).await;
    seen.refused(404, "unknown_hold");
}

#[tokio::test]
async fn a_withdrawn_hold_can_t_be_approved_and_an_approved_one_not_withdrawn() {
    let held = Held::start().await;
    held.raise(ID).await;
    held.raise(OTHER).await;
    let withdraw = |id: &str| format!("/v1/holds/{id}/withdraw");
    let body = json!({"reason": "the client cancelled it"});
    let ana = &held.server.people()["ana"];
    held.server.post(&withdraw(ID), ana, body.clone()).await.refused(403, "not_a_session");
    let gone = held.server.post(&withdraw(ID), held.token(), body.clone()).await.ok(200);
    assert_eq!((&gone["state"], &gone["because"]), (&json!("withdrawn"), &body["reason"]));
    held.post(ID, "approve", "bo", json!({})).await.refused(409, "not_waiting");
    held.post(OTHER, "approve", "bo", json!({})).await.ok(200);
    held.server.post(&withdraw(OTHER), held.token(), body).await.refused(409, "not_waiting");
}

#[tokio::test]
async fn a_hold_times_out_by_its_rule_and_ends_with_its_session() {
    let held = Held::start().await;
    held.put(OTHER, held.body(1)).await.ok(201);
    let path = format!("/v1/holds/{OTHER}?wait=30");
    assert_eq!(held.server.get(&path, held.token()).await.ok(200)["state"], "timed_out");
    let lee = held.server.issuer.token("lee", &[]);
    let late = held.server.post(&format!("/v1/holds/{OTHER}/approve"), &lee, json!({})).await;
    late.refused(409, "not_waiting");

    held.raise(ID).await;
    let grant = held.server.get("/v1/grants", &held.server.people()["ana"]).await.ok(200);
    let revoke = format!("/v1/grants/{}/revoke", grant["grants"][0]["id"].as_str().unwrap());
    let path = format!("/v1/holds/{ID}?wait=30");
    let waiting = held.server.get(&path, held.token());
    let ana = &held.server.people()["ana"];
    let revoking = async { held.server.post(&revoke, ana, json!({})).await.ok(200) };
    let (answer, _) = tokio::join!(waiting, revoking);
    assert_eq!(answer.ok(200)["state"], "session_ended");
    held.post(ID, "approve", "bo", json!({})).await.refused(409, "not_waiting");
    held.put("ho_00000000000000zz", held.body(0)).await.refused(409, "session_ended");
}

#[tokio::test]
async fn what_has_no_shape_is_approved_for_one_time_only() {
    let held = Held::start().await;
    let mut body = held.body(0);
    body["statement"].as_object_mut().unwrap().remove("shape");
    held.put(ID, body).await.ok(201);
    let same = json!({"scope": "same_statements"});
    held.post(ID, "approve", "bo", same).await.refused(409, "no_shape");
    held.post(ID, "approve", "bo", json!({"scope": "once"})).await.ok(200);
}

#[tokio::test]
async fn a_second_entry_of_the_same_issuer_is_no_reviewer_of_ones_own_statement() {
    let second = "[[issuer]]\nname = \"corp-app\"\nurl = \"ISSUER\"\nclient_id = \"app\"\n\
                  groups_claim = \"groups\"\n";
    let held = Held::with("", second).await;
    held.raise(ID).await;
    let mut claims = held.server.issuer.claims("ana", &["dba"]);
    claims["aud"] = json!("app");
    let ana_too = held.server.issuer.sign(&claims);
    let path = format!("/v1/holds/{ID}/approve");
    held.server.post(&path, &ana_too, json!({})).await.refused(403, "own_statement");
    let inbox = held.server.get("/v1/inbox", &ana_too).await.ok(200);
    assert_eq!(inbox["holds"], json!([]));
}

#[tokio::test]
async fn a_session_cannot_fill_the_store_with_holds_that_it_takes_back() {
    let held = Held::start().await;
    let mut body = held.body(0);
    body["statement"]["parameters"] = json!([{"text": "x".repeat(900_000)}]);
    let id = |number: usize| format!("ho_{number:016}");
    let mut last = 0;
    let refused = loop {
        let answer = held.put(&id(last), body.clone()).await;
        if answer.status != 201 {
            break answer;
        }
        let withdraw = format!("/v1/holds/{}/withdraw", id(last));
        held.server.post(&withdraw, held.token(), json!({"reason": "r"})).await.ok(200);
        last += 1;
        assert!(last < 60, "{last} MB were taken");
    };
    refused.refused(429, "too_many_holds");
    // What was raised before and is asked for again is no new one.
    held.put(&id(0), body.clone()).await.ok(200);
}

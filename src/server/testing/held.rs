//! A session whose statements are held.

use serde_json::{Value, json};

use super::{Answer, TestServer};

/// A hold's id.
pub(in crate::server) const HELD: &str = "ho_0123456789abcdef";

const POLICY: &str = r#"
[target.prod-db]
url = "postgres://127.0.0.1:5432/shop?sslmode=disable"
credential = { kind = "static", user = "app", password = "file:app.password" }

[role.writer]
targets = ["prod-db"]
allow = [{ actions = ["select", "delete"], on = ["shop.*"] }]
hold = [
    { actions = ["delete"], when = "unfiltered", reviewers = "group:dba", timeout = "5m" },
    { actions = ["truncate"], reviewers = "user:lee@example.com", timeout = "1s" },
]

[[access]]
who = { group = "engineering" }
role = "writer"
target = "prod-db"
approval = "auto"
"#;

/// A session of ana's, and its token.
pub(in crate::server) struct Held {
    pub(in crate::server) server: TestServer,
    pub(in crate::server) session: Value,
}

impl Held {
    pub(in crate::server) async fn start() -> Self {
        Self::on(TestServer::with_policy(POLICY).await).await
    }

    /// With further settings of the server, before and after its issuer.
    pub(in crate::server) async fn with(before: &str, after: &str) -> Self {
        Self::on(TestServer::with(POLICY, before, after).await).await
    }

    async fn on(server: TestServer) -> Self {
        let ana = server.people()["ana"].clone();
        let grant = server.request(&ana, "writer").await;
        let session = server.open(&ana, &grant, 5).await.ok(201);
        Self { server, session }
    }

    pub(in crate::server) fn token(&self) -> &str {
        self.session["upload_token"].as_str().unwrap()
    }

    pub(in crate::server) fn body(&self, rule: usize) -> Value {
        json!({
            "session": self.session["session"], "rule": format!("role.writer.hold[{rule}]"),
            "why": "delete without a WHERE clause",
            "statement": {
                "connection": 1, "statement": 3, "protocol": "execute",
                "sql": "DELETE FROM orders", "parameters": [{"text": "7"}, "null"],
                "shape": {"fingerprint": "ff", "text": "DELETE FROM orders"},
                "estimate": {"kind": "planned", "rows": 1000, "cost": 15.5},
            },
        })
    }

    pub(in crate::server) async fn put(&self, id: &str, body: Value) -> Answer {
        let body = Some(body.to_string().into_bytes());
        self.server.send("PUT", &format!("/v1/holds/{id}"), Some(self.token()), body).await
    }

    pub(in crate::server) async fn raise(&self, id: &str) -> Value {
        self.put(id, self.body(0)).await.ok(201)
    }

    pub(in crate::server) async fn post(
        &self,
        id: &str,
        verb: &str,
        person: &str,
        body: Value,
    ) -> Answer {
        let path = format!("/v1/holds/{id}/{verb}");
        self.server.post(&path, &self.server.people()[person], body).await
    }
}

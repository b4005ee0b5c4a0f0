//! LISTEN and NOTIFY, where a role names the channels.

use super::*;

#[tokio::test]
async fn a_role_listens_and_notifies_on_its_channels_and_no_others() {
    let text = r#"
        [target.test]
        url = "postgres://127.0.0.1:5432/test?sslmode=disable"
        credential = { kind = "static", user = "app", password = "env:UNUSED" }

        [role.listener]
        targets = ["test"]
        allow = [{ actions = ["select"], on = ["public.*"] }]
        channels = ["orders_changed"]
    "#;
    let policy = policy::parse(&[("test.toml".to_owned(), text.to_owned())]).unwrap();
    let role = Arc::new(policy.roles["listener"].clone());
    let session = Session::of(Timestamp::now() + SignedDuration::from_hours(1), role).await;
    let mut raw = session.raw().await;
    let mut ask = async |sql: &str| {
        raw.send(&bytes(|out| wire::query(sql, out))).await;
        let messages = raw.until(b'Z').await;
        messages.iter().find(|message| message[0] == b'E').map(|message| {
            let fields = ErrorFields::parse(message).unwrap();
            format!("{} {}", fields.sqlstate(), fields.message())
        })
    };
    for refused in ["LISTEN secrets", "NOTIFY secrets", "SELECT pg_notify('orders_changed', 'x')"] {
        assert!(ask(refused).await.expect(refused).starts_with("42501"), "{refused}");
    }
    assert_eq!(ask("LISTEN orders_changed").await, None);
    // From elsewhere, while the client waits: it comes unasked.
    let elsewhere = "NOTIFY secrets, 'no'; NOTIFY orders_changed, 'from elsewhere'";
    harness::cluster().await.execute(&session.database, elsewhere).await.unwrap();
    let came = raw.message().await.unwrap();
    let found = wire::parse_notification(&came).unwrap();
    assert_eq!((found.channel, found.payload), ("orders_changed", &b"from elsewhere"[..]));
    // From itself, by the extended protocol.
    raw.send(&[extended("NOTIFY orders_changed, 'own'"), SYNC.to_vec()].concat()).await;
    let mut answers = raw.until(b'Z').await;
    if !answers.iter().any(|message| message[0] == b'A') {
        answers.push(raw.message().await.unwrap());
    }
    let own = answers.iter().find(|message| message[0] == b'A').unwrap();
    assert_eq!(wire::parse_notification(own).unwrap().payload, b"own");

    let log = session.log();
    let told: Vec<_> = log.iter().filter(|line| line["type"] == "notification").collect();
    assert_eq!(told.len(), 2);
    assert_eq!((&told[0]["channel"], &told[0]["bytes"]), (&"orders_changed".into(), &14.into()));
    assert_eq!(told[0]["shown"], true);
    assert!(!log.iter().any(|line| line.to_string().contains("from elsewhere")));
}

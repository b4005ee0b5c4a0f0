//! The stage: everything that the demo and the end-to-end tests run on.

use std::time::{Duration, Instant};

use pgate::{api::Client, demo::stage};
use secrecy::ExposeSecret as _;

use crate::harness;

#[tokio::test]
async fn a_stage_serves_and_takes_everything_with_it() {
    let stage = harness::own_stage(stage::Options::default()).await;
    let client = Client::without_login(&stage.url().parse().unwrap()).unwrap();
    let info = client.info().await.unwrap();
    let names = info.issuers.iter().map(|issuer| issuer.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["corp", "ci"]);
    let admin = stage.cluster().admin_url();
    assert!(!stage.server_log().contains(admin.expose_secret()));

    let folders = [stage.folder().to_owned(), stage.cluster().socket_folder().to_owned()];
    let start = Instant::now();
    drop(stage);
    assert!(start.elapsed() < Duration::from_secs(8));
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
    assert!(client.info().await.is_err());
}

//! What the tests share: one throwaway cluster for the whole binary, a database
//! of its own for each test, a hermetic environment for child processes.

use std::sync::atomic::{AtomicU32, Ordering};

use pgate::demo::cluster::{Cluster, Options};
use tokio::sync::OnceCell;

/// The cluster that the tests of this binary share. It goes with the process.
pub(crate) async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || async { Cluster::start(Options::default()).await.expect("a cluster starts") };
    CLUSTER.get_or_init(start).await
}

/// Makes an empty database in the shared cluster and returns its name.
pub(crate) async fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let make = format!("CREATE DATABASE {name}");
    cluster().await.execute("postgres", &make).await.expect("a database can be made");
    name
}

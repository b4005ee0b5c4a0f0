//! The sample shop: a database full of made-up people, and the policy over it.
//!
//! Both are plain files beside this one, so that they can be read as examples;
//! this module only puts them where they are wanted.

use super::cluster::{Cluster, ClusterError};

/// The name of the target that the sample policy is about.
pub const TARGET: &str = "prod-db";
/// The sample roles and access rules; the target is [`target_policy`].
pub const POLICY: &str = include_str!("../policy/shop.toml");
/// How many customers the shop has.
pub const CUSTOMERS: u32 = 12_000;

const TABLES: &str = include_str!("shop.sql");

/// Makes a database of this name (letters, digits and underscores) and fills it
/// with the shop; takes about a second.
pub async fn create(cluster: &Cluster, database: &str) -> Result<(), ClusterError> {
    cluster.execute("postgres", &format!("CREATE DATABASE {database}")).await?;
    cluster.execute(database, TABLES).await
}

/// The policy file that says where the target is. The administrator's URL comes
/// from the environment variable `admin_variable` of the control plane.
pub fn target_policy(port: u16, database: &str, admin_variable: &str) -> String {
    format!(
        "[target.{TARGET}]\n\
         url = \"postgres://127.0.0.1:{port}/{database}?sslmode=disable\"\n\
         credential = {{ kind = \"ephemeral\", admin_url = \"env:{admin_variable}\" }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    #[test]
    fn the_sample_policy_is_valid() {
        let target = target_policy(5432, "shop", "PGATE_DEMO_ADMIN_URL");
        let files =
            [("shop.toml".to_owned(), POLICY.to_owned()), ("target.toml".to_owned(), target)];
        let policy = policy::parse(&files).expect("no problem in it");
        assert_eq!(policy.roles.keys().collect::<Vec<_>>(), ["readonly", "writer"]);
        assert_eq!(policy.access.len(), 3);
    }
}

//! What a crash, a lost connection or an old policy left on the targets.

use std::sync::PoisonError;

use jiff::Timestamp;
use sqlx::{Connection as _, PgConnection};

use super::{
    Broker, BrokerError,
    reach::{self, connect},
    role,
};
use crate::{
    policy::{Credential, Policy, Role, SecretRef, Target},
    server::store::{Store, StoreError},
    sql::quote_identifier,
};

/// Drops every role that should be gone: those of overdue leases, those that this
/// control plane made and knows nothing of, and privilege roles that nobody uses.
///
/// Leases written since `opening_since` may still be waiting for their session.
pub(in crate::server) async fn reap(
    broker: &Broker,
    store: &Store,
    policy: &Policy,
    opening_since: Timestamp,
) -> Result<(), StoreError> {
    for lease in store.overdue_leases(Timestamp::now(), opening_since).await? {
        if let Err(error) = broker.drop_role(store, &lease).await {
            tracing::warn!(%error, name = lease.name, "a role that should be gone stays for now");
        }
    }
    for target in policy.targets.values() {
        let Credential::Ephemeral { admin_url } = &target.credential else { continue };
        let mut connection = match connect(target, admin_url, &broker.folder).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "the target isn't looked after");
                continue;
            }
        };
        let swept = async {
            sweep_sessions(broker, store, target, admin_url, &mut connection).await?;
            sweep_privileges(broker, store, policy, target, admin_url, &mut connection).await
        };
        if let Err(error) = swept.await {
            tracing::warn!(%error, target = target.name, "roles that nobody uses stay for now");
        }
        let _ = connection.close().await;
    }
    Ok(())
}

/// Session roles that bear this control plane's mark but have no lease.
async fn sweep_sessions(
    broker: &Broker,
    store: &Store,
    target: &Target,
    admin_url: &SecretRef,
    connection: &mut PgConnection,
) -> Result<(), BrokerError> {
    let administrator =
        role::Administrator { target: &target.name, url: admin_url, folder: &broker.folder };
    let names = sqlx::query_scalar::<_, String>(
        "SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles
         WHERE pg_catalog.starts_with(rolname::pg_catalog.text, $1)
           AND pg_catalog.shobj_description(oid, 'pg_authid') = $2",
    )
    .bind(role::PREFIX)
    .bind(&broker.mark)
    .fetch_all(&mut *connection)
    .await
    .map_err(|error| reach::told(&target.name, error))?;
    for name in names {
        // Its lease is written before a role, so a role without one is nobody's.
        if store.is_leased(&name).await? {
            continue;
        }
        tracing::warn!(name, target = target.name, "a session role without a lease");
        // One that can't be dropped yet is no reason to leave the others.
        if let Err(error) = role::drop(connection, &administrator, &name, None).await {
            tracing::warn!(%error, name, "a role that should be gone stays for now");
        }
    }
    Ok(())
}

/// Privilege roles of older policies that no session is a member of any more.
async fn sweep_privileges(
    broker: &Broker,
    store: &Store,
    policy: &Policy,
    target: &Target,
    admin_url: &SecretRef,
    connection: &mut PgConnection,
) -> Result<(), BrokerError> {
    let administrator =
        role::Administrator { target: &target.name, url: admin_url, folder: &broker.folder };
    let failed = |error| reach::told(&target.name, error);
    for name in store.privilege_roles(&target.name).await? {
        if broker.in_force(policy, &target.name, &name) {
            continue;
        }
        let quoted = quote_identifier(&name);
        if role::exists(connection, &name).await.map_err(failed)? {
            role::become_member(connection, &quoted).await.map_err(failed)?;
            // Its members may have acted as it. It has no business in other databases.
            role::clear_elsewhere(connection, &administrator, &name).await?;
        }
        let mut transaction = connection.begin().await.map_err(failed)?;
        role::lock(&mut transaction).await.map_err(failed)?;
        let used = sqlx::query_scalar::<_, bool>(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_auth_members m
               JOIN pg_catalog.pg_roles p ON p.oid = m.roleid
               JOIN pg_catalog.pg_roles s ON s.oid = m.member
             WHERE p.rolname = $1
               AND pg_catalog.starts_with(s.rolname::pg_catalog.text, $2))",
        )
        .bind(&name)
        .bind(role::PREFIX)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        if used {
            continue;
        }
        if role::exists(&mut transaction, &name).await.map_err(failed)? {
            for sql in [format!("DROP OWNED BY {quoted}"), format!("DROP ROLE {quoted}")] {
                reach::execute(&mut transaction, sql).await.map_err(failed)?;
            }
        }
        transaction.commit().await.map_err(failed)?;
        store.forget_privilege_role(&target.name, &name).await?;
        tracing::info!(name, target = target.name, "privilege role dropped");
    }
    Ok(())
}

impl Broker {
    /// Whether sessions would get this privilege role under the policy in force.
    fn in_force(&self, policy: &Policy, target: &str, name: &str) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.iter().any(|((on, role), (version, used))| {
            on == target
                && used == name
                && policy
                    .roles
                    .get(role)
                    .is_some_and(|role| Role::version(&role.to_document()) == *version)
        })
    }
}

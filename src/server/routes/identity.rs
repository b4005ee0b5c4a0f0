//! Who the caller is and what they may ask for.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::Method, routing::get};

use super::{Caller, Handled, Route};
use crate::{
    api::{TargetList, TargetRole, TargetView},
    grant::Identity,
    policy::{AccessApproval, Reviewers},
    server::{access, app::App},
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route { method: Method::GET, path: "/v1/whoami", handler: get(whoami) },
        Route { method: Method::GET, path: "/v1/targets", handler: get(targets) },
    ]
}

async fn whoami(Caller(identity): Caller) -> Json<Identity> {
    Json(identity)
}

async fn targets(State(app): State<Arc<App>>, Caller(identity): Caller) -> Handled<TargetList> {
    let policy = app.policy.current();
    let mut targets = BTreeMap::<&str, Vec<TargetRole>>::new();
    for choice in access::choices(&policy, &identity) {
        targets.entry(choice.target).or_default().push(TargetRole {
            role: choice.role.name.clone(),
            about: choice.role.about.clone(),
            approval: in_words(choice.approval),
            ttl_seconds: choice.role.ttl_seconds.min(choice.max_ttl_seconds),
            max_ttl_seconds: choice.max_ttl_seconds,
        });
    }
    let targets = targets
        .into_iter()
        .map(|(target, roles)| TargetView { target: target.to_owned(), roles })
        .collect();
    Ok(Json(TargetList { targets }))
}

fn in_words(approval: &AccessApproval) -> String {
    match approval {
        AccessApproval::Auto => "auto".to_owned(),
        AccessApproval::Reviewers { reviewers, count } => {
            let who = match reviewers {
                Reviewers::Group(group) => format!("group:{group}"),
                Reviewers::User(user) => format!("user:{user}"),
            };
            match count {
                0 | 1 => who,
                count => format!("{count} of {who}"),
            }
        }
    }
}

//! `[[access]]`: who may ask for which role on which target.

use super::{
    reader::{Entry, Section},
    role::reviewers,
};
use crate::policy::{Access, AccessApproval, Who};

pub(super) fn read(section: &Section<'_>) -> Option<Access> {
    section.refuse_others(&["who", "role", "target", "approval", "max_ttl"]);
    let who = section
        .require("who", "for example who = { group = \"engineering\" }")
        .and_then(|entry| who(&entry));
    let role = section.require("role", "for example role = \"readonly\"");
    let target = section.require("target", "for example target = \"prod-db\"");
    let approval = section
        .require("approval", "approval = \"auto\" or { reviewers = \"group:dba\", count = 1 }")
        .and_then(|entry| approval(&entry));
    let max_ttl_seconds = section.get("max_ttl").and_then(|entry| entry.duration_seconds());
    let role = role.and_then(|entry| entry.text("\"readonly\""));
    let target = target.and_then(|entry| entry.text("\"prod-db\""));
    Some(Access {
        source: section.rule_ref(),
        who: who?,
        role: role?.to_owned(),
        target: target?.to_owned(),
        approval: approval?,
        max_ttl_seconds,
    })
}

/// Any key but `group`, `user` and `issuer` is a claim of the identity's token.
fn who(entry: &Entry<'_>) -> Option<Who> {
    let section = entry.section("who = { group = \"engineering\" }")?;
    let mut who = Who::default();
    let mut whole = true;
    for (key, _, value) in section.entries() {
        let Some(text) = value.text("\"engineering\"") else {
            whole = false;
            continue;
        };
        if text.is_empty() {
            value.problem(format!("`{}` is empty and would match nobody", value.path), None);
            whole = false;
        }
        match key.as_str() {
            "group" => who.group = Some(text.to_owned()),
            "user" => who.user = Some(text.to_owned()),
            "issuer" => who.issuer = Some(text.to_owned()),
            _ => _ = who.claims.insert(key, text.to_owned()),
        }
    }
    if whole && who == Who::default() {
        section.problem(
            format!("`{}` names nobody", entry.path),
            Some("give a group, a user, an issuer or a claim".to_owned()),
        );
        whole = false;
    }
    if !who.claims.is_empty() && who.issuer.is_none() {
        section.warn(
            format!("`{}` trusts claims from every issuer", entry.path),
            Some("add issuer = \"…\", so that no other issuer can make the same claim".to_owned()),
        );
    }
    whole.then_some(who)
}

fn approval(entry: &Entry<'_>) -> Option<AccessApproval> {
    if let Some(word) = entry.as_text() {
        if word == "auto" {
            return Some(AccessApproval::Auto);
        }
        entry.problem(
            format!("`{}` is \"auto\" or a table", entry.path),
            Some("for example approval = { reviewers = \"group:dba\", count = 1 }".to_owned()),
        );
        return None;
    }
    let section = entry.section("approval = { reviewers = \"group:dba\", count = 1 }")?;
    section.refuse_others(&["reviewers", "count"]);
    let who = section
        .require("reviewers", "for example reviewers = \"group:dba\"")
        .and_then(|entry| reviewers(&entry));
    let count = match section.get("count") {
        Some(count) => count.positive::<u32>(),
        None => Some(1),
    };
    Some(AccessApproval::Reviewers { reviewers: who?, count: count? })
}

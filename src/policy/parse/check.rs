//! The checks across targets, roles and access rules.

use super::{
    Draft, Read,
    reader::{Section, nearest},
};
use crate::policy::{Credential, MaskKind, Role};

pub(super) fn across(draft: &Draft<'_>) {
    for role in draft.roles.values() {
        let known = draft.targets.keys().chain(&draft.unread).map(String::as_str);
        let known = known.collect::<Vec<_>>();
        for target in &role.value.targets {
            if !known.contains(&target.as_str()) {
                unknown(&role.section, "targets", "target", target, &known);
            }
        }
        hashes_without_key(draft, role);
        lookups(draft, role);
        ownership(role);
        if !draft.access.iter().any(|access| access.value.role == role.value.name) {
            role.section.warn(
                format!("no access rule lets anybody ask for role \"{}\"", role.value.name),
                Some("add an [[access]] rule that names it".to_owned()),
            );
        }
    }
    for access in &draft.access {
        check_access(draft, access);
    }
}

/// Says so at the key, where there is one.
fn at_key(section: &Section<'_>, key: &str, message: String, hint: Option<String>) {
    match section.get(key) {
        Some(entry) => entry.problem(message, hint),
        None => section.problem(message, hint),
    }
}

fn unknown(section: &Section<'_>, key: &str, kind: &str, name: &str, known: &[&str]) {
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => format!("there is no {kind} in these files"),
        None => format!("there are {}", known.join(", ")),
    };
    at_key(section, key, format!("there is no {kind} \"{name}\""), Some(hint));
}

fn check_access(draft: &Draft<'_>, access: &Read<'_, crate::policy::Access>) {
    let Read { value, section } = access;
    let targets = draft.targets.keys().chain(&draft.unread).map(String::as_str);
    let targets = targets.collect::<Vec<_>>();
    let target_known = targets.contains(&value.target.as_str());
    if !target_known {
        unknown(section, "target", "target", &value.target, &targets);
    }
    let Some(role) = draft.roles.get(&value.role) else {
        let roles = draft.roles.keys().map(String::as_str).collect::<Vec<_>>();
        unknown(section, "role", "role", &value.role, &roles);
        return;
    };
    if target_known && !role.value.targets.contains(&value.target) {
        at_key(
            section,
            "target",
            format!("role \"{}\" is not for target \"{}\"", value.role, value.target),
            Some(format!("add it to role.{}.targets, or name another target", value.role)),
        );
    }
    if value.max_ttl_seconds.is_some_and(|ttl| ttl > role.value.max_ttl_seconds) {
        let message = format!("`max_ttl` is longer than that of role \"{}\"", value.role);
        at_key(section, "max_ttl", message, Some("it can only be shorter".to_owned()));
    }
}

/// A target of the role whose credential is static.
fn static_target<'r>(draft: &Draft<'_>, role: &'r Read<'_, Role>) -> Option<&'r String> {
    role.value.targets.iter().find(|target| {
        draft
            .targets
            .get(*target)
            .is_some_and(|target| matches!(target.value.credential, Credential::Static { .. }))
    })
}

/// A hash needs a key that the session can't read, and so a place in the database for it.
fn hashes_without_key(draft: &Draft<'_>, role: &Read<'_, Role>) {
    let Some(target) = static_target(draft, role) else { return };
    for mask in role.value.mask.iter().filter(|mask| mask.with == MaskKind::Hash) {
        at_key(
            &role.section,
            "mask",
            format!("{} uses \"hash\", but target \"{target}\" has a static credential", mask.source.rule),
            Some("a hash needs a key inside the database, which pgate may not install there; use \"redact\" or \"partial\"".to_owned()),
        );
    }
}

/// Look-ups need a function inside the database, and something masked to look for.
fn lookups(draft: &Draft<'_>, role: &Read<'_, Role>) {
    let Read { value, section } = role;
    if value.lookup.is_empty() {
        return;
    }
    if let Some(target) = static_target(draft, role) {
        at_key(
            section,
            "lookup",
            format!("role \"{}\" has look-ups, but target \"{target}\" has a static credential", value.name),
            Some("a look-up needs a function inside the database, which pgate may not install there; leave `lookup` out or use another role for that target".to_owned()),
        );
    }
    if value.mask.is_empty() {
        let hint =
            "columns that aren't masked can be compared anyway; leave `lookup` out".to_owned();
        at_key(section, "lookup", format!("role \"{}\" masks nothing", value.name), Some(hint));
    }
}

/// What a session creates must outlive its database role; and whoever has the
/// owner's rights reads what the masks cover.
fn ownership(role: &Read<'_, Role>) {
    let Read { value, section } = role;
    let names_ddl = value
        .allow
        .iter()
        .any(|rule| rule.actions.iter().flatten().any(|action| action.is_definition()));
    if names_ddl && value.owner.is_none() {
        at_key(
            section,
            "allow",
            format!("role \"{}\" allows ddl, but names no owner", value.name),
            Some(
                "add owner = \"…\", the database role that created objects shall belong to"
                    .to_owned(),
            ),
        );
    }
    let holds_ddl = value
        .hold
        .iter()
        .any(|rule| rule.actions.iter().flatten().any(|action| action.is_definition()));
    if holds_ddl && !names_ddl && value.owner.is_none() {
        section.warn(
            format!(
                "role \"{}\" holds ddl, but names no owner: it is refused, not held",
                value.name
            ),
            Some(
                "add owner = \"…\", the database role that created objects shall belong to"
                    .to_owned(),
            ),
        );
    }
    if value.owner.is_some() && !(value.mask.is_empty() && value.hide.is_empty()) {
        at_key(
            section,
            "owner",
            format!("role \"{}\" has an owner as well as masked or hidden columns", value.name),
            Some("a session with the owner's rights reads them raw; use two roles".to_owned()),
        );
    }
}

//! The lists of what is PostgreSQL's own and safe, held to the rules that make them, on
//! whatever version is at hand: functions that statements may call, relations of the
//! catalog that they may read, settings that sessions may change. `tests/versions` runs
//! it on each supported version.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::cluster;

/// A list, and the rule by which a version's own names are on it.
struct Curated {
    listed: &'static str,
    rule: &'static str,
    /// What the server has of the kind.
    there: &'static str,
    /// What the rule refuses on some other version, and so on all.
    refused_elsewhere: &'static [&'static str],
    /// The fewest that pass on any version.
    fewest: usize,
}

const FUNCTIONS: Curated = Curated {
    listed: include_str!("../../src/policy/decide/safe_functions.txt"),
    rule: include_str!("../../src/policy/decide/safe_functions.sql"),
    there: "SELECT DISTINCT proname FROM pg_catalog.pg_proc \
        WHERE pronamespace = 'pg_catalog'::regnamespace AND oid < 16384;",
    refused_elsewhere: &["interval_avg"],
    fewest: 1_500,
};

const RELATIONS: Curated = Curated {
    listed: include_str!("../../src/policy/decide/catalog_relations.txt"),
    rule: include_str!("../../src/policy/decide/catalog_relations.sql"),
    there: "SELECT relname FROM pg_catalog.pg_class \
        WHERE relnamespace = 'pg_catalog'::regnamespace AND oid < 16384;",
    refused_elsewhere: &[],
    fewest: 65,
};

const SETTINGS: &str = include_str!("../../src/policy/decide/settings.txt");

async fn lines(sql: &str) -> BTreeSet<String> {
    let told = cluster().await.psql("postgres", sql).await.unwrap();
    told.lines().map(str::to_owned).collect()
}

/// Fails where the version at hand passes what isn't listed, or has what is listed and
/// doesn't pass.
async fn holds(curated: &Curated) {
    let passed = lines(curated.rule).await;
    let there = lines(curated.there).await;
    let listed = curated.listed.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(passed.len() > curated.fewest, "the rule passes only {} names", passed.len());

    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let unlisted = passed.difference(&listed);
    let unlisted = unlisted.filter(|line| !curated.refused_elsewhere.contains(&line.as_str()));
    assert_eq!(unlisted.collect::<Vec<_>>(), Vec::<&String>::new(), "safe, and not listed");
    let unsafe_ones = listed.difference(&passed).filter(|line| there.contains(&name(line)));
    assert_eq!(unsafe_ones.collect::<Vec<_>>(), Vec::<&String>::new(), "listed, and not safe");
}

#[tokio::test]
async fn the_safe_functions_are_those_that_the_rule_passes_on_this_version() {
    holds(&FUNCTIONS).await;
}

#[tokio::test]
async fn the_catalogs_readable_relations_are_those_that_the_rule_passes_on_this_version() {
    holds(&RELATIONS).await;
}

#[tokio::test]
async fn every_setting_that_a_session_of_this_version_may_change_has_been_looked_at() {
    let settings = SETTINGS.lines().map(|line| line.split_once(": ").unwrap());
    let settings = settings.collect::<BTreeMap<_, _>>();
    assert!(SETTINGS.lines().is_sorted(), "settings.txt is in no order");
    let there = "SELECT lower(name), context FROM pg_catalog.pg_settings \
        WHERE context IN ('user', 'superuser') AND name NOT LIKE '%.%';";
    let there = lines(there).await;
    assert!(there.len() > 170, "the server has only {} settings", there.len());
    let (mut unlisted, mut harmless) = (Vec::new(), Vec::new());
    for line in &there {
        let (name, context) = line.split_once('|').unwrap();
        let by_kind = name.starts_with("log_") || name.starts_with("debug_");
        match settings.get(name) {
            None if !by_kind => unlisted.push(name),
            Some(&"harmless" | &"checked") if context == "superuser" => harmless.push(name),
            _ => {}
        }
    }
    assert_eq!(unlisted, Vec::<&str>::new(), "nobody has looked at these");
    // PostgreSQL itself keeps these from ordinary roles; an over-privileged one has them.
    assert_eq!(harmless, Vec::<&str>::new(), "a superuser's, and not refused");
}

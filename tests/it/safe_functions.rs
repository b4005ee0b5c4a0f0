//! The list of PostgreSQL's own functions that statements may call, held to the rule
//! that makes it, on whatever version is at hand. `tests/versions` runs it on each.

use std::collections::BTreeSet;

use crate::harness::cluster;

const RULE: &str = include_str!("../../src/policy/decide/safe_functions.sql");
const LISTED: &str = include_str!("../../src/policy/decide/safe_functions.txt");

/// The functions that the server has.
const THERE: &str = "SELECT DISTINCT proname FROM pg_catalog.pg_proc \
    WHERE pronamespace = 'pg_catalog'::regnamespace AND oid < 16384;";

/// What the rule refuses on some other version, and so on all.
const REFUSED_ELSEWHERE: [&str; 1] = ["interval_avg"];

#[tokio::test]
async fn the_safe_functions_are_those_that_the_rule_passes_on_this_version() {
    let cluster = cluster().await;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let passed = lines(&cluster.psql("postgres", RULE).await.unwrap());
    let there = lines(&cluster.psql("postgres", THERE).await.unwrap());
    let listed = lines(LISTED);
    assert!(passed.len() > 1_500, "the rule passes only {} names", passed.len());

    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let unlisted = passed.difference(&listed);
    let unlisted = unlisted.filter(|line| !REFUSED_ELSEWHERE.contains(&line.as_str()));
    assert_eq!(unlisted.collect::<Vec<_>>(), Vec::<&String>::new(), "safe, and not listed");
    let unsafe_ones = listed.difference(&passed).filter(|line| there.contains(&name(line)));
    assert_eq!(unsafe_ones.collect::<Vec<_>>(), Vec::<&String>::new(), "listed, and not safe");
}

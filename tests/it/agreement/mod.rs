//! The compiled privileges and the proxy agree.
//!
//! Policies and statements are made at random. Each statement is decided as a session
//! would decide it, and sent to PostgreSQL as somebody would who has the session's
//! database password, without the proxy. Three things must hold:
//!
//! - what is refused by a rule that PostgreSQL is said to enforce, PostgreSQL refuses;
//! - what the proxy lets through, as it would forward it, PostgreSQL doesn't refuse
//!   for want of a privilege;
//! - a value that the policy keeps comes out of neither.
//!
//! A failure prints its seed and the smallest policy and statements that show it:
//! `PGATE_AGREEMENT_SEED=N` runs that one alone, `PGATE_AGREEMENT_CASES=N` as many as
//! wanted. Without these it runs the same ones every time.

mod policies;
mod session;
mod statements;
mod world;

use std::{cell::Cell, env, fmt, ops::AddAssign, sync::Arc};

use pgate::{
    policy::{self, Enforced, Enforcement, Layer, Policy, Verdict, enforcers},
    proxy::Ruling,
    sql,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use tokio::runtime::Runtime;

use self::{
    policies::Rules,
    session::{Session, World},
    statements::Statement,
};

/// Where it begins unless `PGATE_AGREEMENT_SEED` says otherwise (`random` for any): a
/// change is held against what the one before was held against.
const FIRST: u64 = 0;
/// How many policies it tries unless `PGATE_AGREEMENT_CASES` says how many.
const CASES: u64 = 40;

/// What was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Tried {
    /// Statements that a rule of PostgreSQL's refuses.
    refused: u32,
    /// Statements that go through.
    allowed: u32,
    /// Those of them whose masks were spliced in.
    rewritten: u32,
}

impl AddAssign for Tried {
    fn add_assign(&mut self, more: Self) {
        self.refused += more.refused;
        self.allowed += more.allowed;
        self.rewritten += more.rewritten;
    }
}

#[test]
fn what_postgres_is_said_to_refuse_it_refuses_and_what_the_proxy_allows_it_allows() {
    let runtime = Runtime::new().expect("a runtime starts");
    let world = runtime.block_on(World::new());
    let number = |text: String| text.parse::<u64>().expect("a number");
    let asked = env::var("PGATE_AGREEMENT_SEED").ok();
    let first = match asked.as_deref() {
        None => FIRST,
        Some("random") => rand::random(),
        Some(seed) => number(seed.to_owned()),
    };
    let asked_one = asked.is_some_and(|seed| seed != "random");
    let cases = env::var("PGATE_AGREEMENT_CASES").ok().map(number);
    let cases = cases.unwrap_or(if asked_one { 1 } else { CASES });
    let mut tried = Tried::default();
    for run in 0..cases {
        tried += check(&runtime, &world, first.wrapping_add(run), None)
            .unwrap_or_else(|disagreement| panic!("{disagreement}"));
    }
    println!("{cases} policies from seed {first}: {tried:?}");
    if cases >= CASES {
        assert!(tried.refused > 50 && tried.allowed > 50 && tried.rewritten > 5, "{tried:?}");
    }
}

#[test]
fn one_privilege_too_many_or_too_few_is_found_and_made_small() {
    let runtime = Runtime::new().expect("a runtime starts");
    let world = runtime.block_on(World::new());
    for sabotage in [
        Sabotage { on: "w.people", sql: "GRANT SELECT (email) ON w.people TO ROLE" },
        Sabotage { on: "w.orders", sql: "GRANT DELETE ON w.orders TO ROLE" },
        Sabotage { on: "w.people", sql: "REVOKE SELECT (id), SELECT ON w.people FROM ROLE" },
    ] {
        let mut seeds = 0..200;
        let found = seeds.find_map(|seed| check(&runtime, &world, seed, Some(sabotage)).err());
        let found = found.unwrap_or_else(|| panic!("nobody notices {}", sabotage.sql));
        assert_eq!(found.statements.len(), 1, "{found}");
    }
}

/// What somebody does to the privileges on a relation.
#[derive(Debug, Clone, Copy)]
struct Sabotage {
    on: &'static str,
    sql: &'static str,
}

/// The smallest policy and statements of a seed that disagree.
struct Disagreement {
    why: String,
    seed: u64,
    rules: Rules,
    statements: Vec<Statement>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, seed, rules, statements } = self;
        write!(f, "{why}\nPGATE_AGREEMENT_SEED={seed}\n{rules}{statements:?}")
    }
}

/// One policy with its statements.
fn check(
    runtime: &Runtime,
    world: &World,
    seed: u64,
    sabotage: Option<Sabotage>,
) -> Result<Tried, Box<Disagreement>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 1,
        max_shrink_iters: 1_000,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let tried = Cell::default();
    let result = TestRunner::new_with_rng(config, rng).run(
        &(
            policies::rules(),
            vec(statements::statement(sabotage.map(|sabotage| sabotage.on)), 1..40),
        ),
        |(rules, statements)| {
            let agreed = runtime.block_on(agree(world, &rules, &statements, sabotage));
            tried.set(agreed.map_err(TestCaseError::fail)?);
            Ok(())
        },
    );
    match result {
        Ok(()) => Ok(tried.get()),
        Err(TestError::Fail(why, (rules, statements))) => {
            Err(Box::new(Disagreement { why: why.to_string(), seed, rules, statements }))
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// Holds the proxy and PostgreSQL against each other; says where they disagree.
async fn agree(
    world: &World,
    rules: &Rules,
    statements: &[Statement],
    sabotage: Option<Sabotage>,
) -> Result<Tried, String> {
    // What the language refuses is no policy.
    let Some(policy) = world.policy(&rules.to_string()) else { return Ok(Tried::default()) };
    let role = &policy.roles["r"];
    // A mask that doesn't fit its column closes the role.
    let Some(mut session) = Session::start(world, role).await else { return Ok(Tried::default()) };
    if let Some(sabotage) = sabotage {
        world.execute(&sabotage.sql.replace("ROLE", session.privilege_role())).await;
    }
    let catalog = session.catalog().await;
    let ruling = Ruling::first(Arc::new(role.clone()), catalog.clone(), Enforcement::Ephemeral);
    let ruling = ruling.expect("it compiles for the administrator");
    let compiled = policy::compile(role, &catalog, Enforcement::Ephemeral).expect("as before");
    let texts = statements.iter().map(ToString::to_string).collect::<Vec<_>>();
    let decided = sql::on_large_stack(|| {
        let decide = |text: &String| {
            let decided = ruling.decide(&text.as_str().into(), jiff::Timestamp::UNIX_EPOCH);
            let facts = sql::analyse(text, &catalog).expect("it parses");
            let by = enforcers(decided.verdict(), &facts, role, "t", &policy, &compiled, &catalog);
            (decided, by)
        };
        texts.iter().map(decide).collect::<Vec<_>>()
    });
    let kept = world::PLANTED.iter().filter(|value| rules.keep(value)).map(|value| value.token);
    let kept = kept.collect::<Vec<_>>();
    let mut tried = Tried::default();
    let mut outcome = Ok(());
    for (text, (decided, by)) in texts.iter().zip(&decided) {
        let direct = session.ask(text).await;
        let forwarded = match decided.rewritten() {
            Some(rewritten) => Some(session.ask(rewritten).await),
            None => None,
        };
        tried.rewritten += u32::from(forwarded.is_some());
        let forwarded = forwarded.as_ref().unwrap_or(&direct);
        outcome = match decided.verdict() {
            Verdict::Deny(denied) if enforced(by, text) => {
                tried.refused += 1;
                direct.refused().then_some(()).ok_or_else(|| {
                    format!(
                        "{text}: PostgreSQL lets through what {} refuses: {}",
                        denied.rule, denied.reason
                    )
                })
            }
            Verdict::Deny(_) => Ok(()),
            Verdict::Allow(_) | Verdict::Hold(_) => {
                tried.allowed += 1;
                // Which sequence it is for, PostgreSQL alone asks.
                let ours = !text.starts_with("SELECT nextval");
                (!ours || !forwarded.lacks_privilege()).then_some(()).ok_or_else(|| {
                    format!(
                        "{text}: PostgreSQL refuses what the proxy allows\n{:?}\n{forwarded:?}",
                        decided.rewritten()
                    )
                })
            }
        };
        let told = |token: &&str| direct.tells(token) || forwarded.tells(token);
        if let (Ok(()), Some(token)) = (&outcome, kept.iter().find(|token| told(token))) {
            outcome = Err(format!("{text}: {token} comes out\n{direct:?}\n{forwarded:?}"));
        }
        if outcome.is_err() {
            break;
        }
    }
    session.end(world).await;
    outcome.map(|()| tried)
}

/// Whether PostgreSQL is said to refuse the statement by itself. Where a rule is also about
/// what has no privilege, its note says so: then only of plain reads and writes. For
/// DEFAULT VALUES the proxy wants the leave to write each column, PostgreSQL that for any.
fn enforced(by: &[Enforced], text: &str) -> bool {
    if text.ends_with("DEFAULT VALUES") {
        return false;
    }
    let plain =
        !text.starts_with("EXPLAIN") && !text.starts_with("COPY") && !text.starts_with("MERGE");
    by.iter().any(|one| one.layers.contains(&Layer::Postgres) && (plain || one.note.is_none()))
}

impl World {
    /// This role on this world's target.
    fn policy(&self, role: &str) -> Option<Policy> {
        let target = "[target.t]\nurl = \"postgres://127.0.0.1:1/w\"\n\
            credential = { kind = \"ephemeral\", admin_url = \"env:ADMIN_URL\" }\n";
        let files = [("role.toml", role), ("target.toml", target)];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
        policy::parse(&files).ok()
    }
}

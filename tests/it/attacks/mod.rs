//! Somebody whose job is to get personal data out, and somebody who just works.
//!
//! Both send what stands in data files through the real `pgate connect` to real
//! PostgreSQL: the first under a deliberately over-privileged credential and under
//! a session's own role.

mod client;
mod corpus;
mod lane;
mod ordinary;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use pgate::demo::stage::{self, Stage};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio::sync::OnceCell;

use self::{
    corpus::Case,
    lane::{Failure, Lane, Setting},
    secrets::Secrets,
};
use crate::harness;

const WORLD: &str = include_str!("world.sql");
const EFFECTS: &str = include_str!("effects.sql");
const POLICY: &str = include_str!("policy.toml");

const SETTINGS: [Setting; 5] = [
    Setting { credential: "owned", role: "readonly" },
    Setting { credential: "least", role: "readonly" },
    Setting { credential: "owned", role: "writer" },
    Setting { credential: "least", role: "writer" },
    Setting { credential: "least", role: "limited" },
];

/// Every case of the corpus, by file.
fn corpus() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/attacks/cases");
    let mut files =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    files.sort();
    files.iter().flat_map(|file| corpus::parse(&std::fs::read_to_string(file).unwrap())).collect()
}

/// A stage with a world for each setting.
async fn stage_with_worlds() -> Stage {
    let stage = harness::own_stage(stage::Options::default()).await;
    let cluster = stage.cluster();
    cluster.execute("postgres", "CREATE DATABASE attack_world").await.unwrap();
    cluster.execute("attack_world", WORLD).await.unwrap();
    cluster.execute("attack_world", EFFECTS).await.unwrap();
    let folder = stage.server_folder().join("policy");
    let mut targets = String::new();
    for setting in SETTINGS {
        let (target, database) = (setting.target(), setting.database());
        let make = format!("CREATE DATABASE {database} TEMPLATE attack_world");
        cluster.execute("postgres", &make).await.unwrap();
        targets += &target_of(&stage, &target, &database);
    }
    ordinary::store_masks(&stage).await;
    for (target, database) in [("shop-owned", "shop"), ("shop-least", "shop")] {
        targets += &target_of(&stage, target, database);
    }
    std::fs::write(folder.join("attacks.toml"), targets + POLICY + &ordinary::policy()).unwrap();
    for _ in 0..200 {
        if harness::run(&stage, "ana", &["targets"]).stdout.contains("least-limited") {
            return stage;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the policy was not taken: {}", stage.server_log());
}

/// A target of this database, whose name says by which credential.
fn target_of(stage: &Stage, target: &str, database: &str) -> String {
    let (cluster, folder) = (stage.cluster(), stage.server_folder().join("policy"));
    let admin = cluster.admin_url_of(database);
    let url = url::Url::parse(admin.expose_secret()).unwrap();
    let credential = if target.contains("owned") {
        std::fs::write(folder.join("password"), url.password().unwrap()).unwrap();
        format!("kind = \"static\", user = \"{}\", password = \"file:password\"", url.username())
    } else {
        std::fs::write(folder.join(target), admin.expose_secret()).unwrap();
        format!("kind = \"ephemeral\", admin_url = \"file:{target}\"")
    };
    format!(
        "[target.{target}]\nurl = \"postgres://127.0.0.1:{}/{database}?sslmode=disable\"\n\
         credential = {{ {credential} }}\n\n",
        cluster.port()
    )
}

/// The stage of both tests; it goes with the process.
async fn stage() -> &'static Stage {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    STAGE.get_or_init(stage_with_worlds).await
}

#[tokio::test]
async fn ordinary_work_gives_exactly_what_postgresql_gives_but_for_masked_cells() {
    let (cases, broken) = ordinary::broken(stage().await).await;
    println!("ordinary statements: {cases}, under two credentials; {} broken", broken.len());
    assert!(cases >= 200, "{cases} cases");
    assert!(broken.is_empty(), "broken:\n{}", broken.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attack_of_the_corpus_gets_a_value_out_or_has_an_effect_or_answers_a_guess() {
    let only = std::env::var("PGATE_ATTACK").ok();
    let cases = corpus();
    let names = cases.iter().map(|case| (&case.family, &case.name)).collect::<BTreeSet<_>>();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own in its family");
    let stage = stage().await;
    let mut admin = stage.cluster().connect("attack_world").await.unwrap();
    let secrets = Secrets::declared(WORLD, &mut admin).await;
    the_search_finds_what_is_in_sight(&secrets, &mut admin).await;

    let lanes = SETTINGS.map(|setting| {
        let (secrets, cases, only) = (&secrets, &cases, &only);
        async move {
            let mut lane = Lane::start(stage, secrets, setting).await;
            let mut failures = Vec::new();
            for case in cases {
                let asked = only.as_ref().is_none_or(|only| case.name.contains(&**only));
                let own = match &case.role {
                    Some(role) => role == setting.role,
                    // It has cases of its own.
                    None => setting.role != "limited",
                };
                if !asked || !own {
                    continue;
                }
                for failure in lane.run(case).await {
                    failures.push((case.clone(), lane.setting(), failure));
                }
            }
            if let Some(last) = cases.last() {
                let effects = lane.look_for_effects().await;
                failures.extend(effects.into_iter().map(|e| (last.clone(), setting, e)));
            }
            failures
        }
    });
    let failures = join_all(lanes).await.into_iter().flatten().collect::<Vec<_>>();
    report(&cases, &failures);
    let unknown = failures.iter().filter(|(case, _, failure)| !is_known(case, failure)).count();
    assert_eq!(unknown, 0, "{unknown} failures; see above");
}

/// The search itself is tried on what PostgreSQL gives without pgate.
async fn the_search_finds_what_is_in_sight(secrets: &Secrets, admin: &mut PgConnection) {
    let shown = [
        "email",
        "reverse(email)",
        "upper(email)",
        "substr(email, 3, 6)",
        "encode(email::bytea, 'hex')",
        "encode(('?' || email)::bytea, 'base64')",
        "md5(email)",
        "translate(email, 'abcdefghijklmnopqrstuvwxyz', 'nopqrstuvwxyzabcdefghijklm')",
        "(SELECT string_agg(ascii(c)::text, '') FROM string_to_table(email, NULL) c)",
        "birth_date::text",
        "income::text",
        "points::text",
        "to_hex(points)",
        "host(last_ip)",
        "api_token::text",
        "array_to_string(phones, '')",
        "home::text",
    ];
    for expression in shown {
        let sql = format!("SELECT {expression} FROM shop.customers WHERE id = 1");
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut *admin).await.unwrap();
        let text = row.get::<String, _>(0).to_ascii_lowercase();
        assert!(!secrets.among([text.as_bytes()], "").is_empty(), "{expression}: {text}");
    }
}

/// Whether it is a guess that the documentation says can be made.
fn is_known(case: &Case, failure: &Failure) -> bool {
    case.known.is_some() && matches!(failure, Failure::Inferred(_))
}

/// Prints what was found, each case once.
fn report(cases: &[Case], failures: &[(Case, Setting, Failure)]) {
    let mut told = BTreeMap::<(&str, &str, &str), Vec<String>>::new();
    for (case, setting, failure) in failures {
        let (kind, what) = match failure {
            Failure::Leaked(what) => ("leaked", what),
            Failure::Inferred(what) => ("inferred", what),
            Failure::Effect(what) => ("forbidden effect", what),
            Failure::Answer(what) => ("answer", what),
        };
        let key = (kind, case.family.as_str(), case.name.as_str());
        told.entry(key).or_default().push(format!("{}: {what}", setting.target()));
    }
    for ((kind, family, name), each) in &told {
        println!("{kind}: [{family}] {name}\n    {}", each.join("\n    "));
    }
    let known = cases.iter().filter(|case| case.known.is_some()).count();
    let count = |kind: &str| {
        let of_kind = |(case, _, failure): &&(Case, Setting, Failure)| {
            let this = match failure {
                Failure::Leaked(_) => "leaked",
                Failure::Inferred(_) => "inferred",
                Failure::Effect(_) => "forbidden effects",
                Failure::Answer(_) => "answered otherwise",
            };
            !is_known(case, failure) && this == kind
        };
        let cases = failures.iter().filter(of_kind).map(|(case, ..)| &case.name);
        cases.collect::<BTreeSet<_>>().len()
    };
    let families = cases.iter().map(|case| &case.family).collect::<BTreeSet<_>>().len();
    println!(
        "attacks: {} cases of {families} families, by two roles under two credentials and by one with limits; \
         {} leaked, {} inferred, {} forbidden effects, {} answered otherwise; {known} that are \
         PostgreSQL's own and documented",
        cases.len(),
        count("leaked"),
        count("inferred"),
        count("forbidden effects"),
        count("answered otherwise"),
    );
}

use super::*;
use crate::policy::{
    AccessApproval, Credential, MaskKind, Predicates, Record, Reviewers, Role, SecretRef, Who,
};

/// Blocks of `=== what`, a policy file, `---`, and what must be said of it: one
/// line for each problem, all of them, in order. Empty means: no problem.
const CASES: &str = include_str!("cases.txt");

/// What every block of the cases stands on, behind its own text.
const GROUND: &str = include_str!("ground.toml");

#[test]
fn every_problem_is_told_at_once_with_its_place_and_a_way_out() {
    let mut wrong = Vec::new();
    let blocks = CASES.split("=== ").skip(1).collect::<Vec<_>>();
    assert!(blocks.len() > 40, "the cases file wasn't read whole");
    for block in blocks {
        let (title, rest) = block.split_once('\n').expect("a title line");
        let (text, expected) = rest.split_once("---\n").expect("a line of dashes");
        let files = [
            ("shop.toml".to_owned(), text.to_owned()),
            ("zground.toml".to_owned(), GROUND.to_owned()),
        ];
        let told = match parse(&files) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        let expected = expected.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>();
        if told != expected {
            wrong.push(format!("=== {title}\n{text}---\n{}\n", told.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "these were told otherwise:\n{}", wrong.join("\n"));
}

fn sample() -> Policy {
    parse(&[("shop.toml".to_owned(), include_str!("sample.toml").to_owned())])
        .expect("the sample has no problem")
}

#[test]
fn the_whole_language_is_read_into_types() {
    let policy = sample();
    let target = &policy.targets["prod-db"];
    assert_eq!(target.url.as_str(), "postgres://db.internal:5432/shop?sslmode=verify-full");
    let admin_url = SecretRef::Env("PROD_ADMIN_URL".to_owned());
    assert_eq!(target.credential, Credential::Ephemeral { admin_url });
    let legacy = Credential::Static {
        user: "app".to_owned(),
        password: Some(SecretRef::File("legacy.password".into())),
    };
    assert_eq!(policy.targets["legacy"].credential, legacy);

    let role = &policy.roles["readonly"];
    assert_eq!((role.ttl_seconds, role.max_ttl_seconds), (3_600, 30_600));
    assert_eq!(role.predicates, Predicates::Deny);
    assert_eq!(role.allow[0].source.to_string(), "role.readonly.allow[0] (shop.toml:15)");
    assert_eq!(role.deny[0].actions, None);
    assert_eq!(role.deny[0].reason.as_deref(), Some("secrets"));
    let kinds = role.mask.iter().map(|rule| rule.with.clone()).collect::<Vec<_>>();
    let expected = [
        MaskKind::Email,
        MaskKind::Last4,
        MaskKind::Partial { prefix: 1, suffix: 2 },
        MaskKind::Bucket(10),
        MaskKind::Fixed("x".to_owned()),
        MaskKind::Year,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(role.limits.rows, Some(10_000));
    assert_eq!(role.limits.statement_timeout_ms, Some(30_000));
    assert_eq!(role.limits.connections, Some(4));
    assert_eq!(role.hide[0].to_string(), "shop.customers.password_hash");

    let writer = &policy.roles["writer"];
    assert_eq!((writer.ttl_seconds, writer.max_ttl_seconds), (3_600, 3_600));
    assert_eq!(writer.hold[0].reviewers, Some(Reviewers::Group("dba".to_owned())));

    assert_eq!(policy.access[0].approval, AccessApproval::Auto);
    let approval = AccessApproval::Reviewers {
        reviewers: Reviewers::User("ana@example.com".to_owned()),
        count: 2,
    };
    assert_eq!(policy.access[1].approval, approval);
    let claims = [("repository", "acme/shop"), ("ref", "refs/heads/main")];
    let claims = claims.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let who = Who { issuer: Some("github".to_owned()), claims, ..Who::default() };
    assert_eq!(policy.access[2].who, who);
}

#[test]
fn what_is_worth_a_look_is_a_warning_and_no_error() {
    let text = "[role.empty]\ntargets = [\"ground\"]\n\
        [[access]]\nwho = { repository = \"acme/shop\" }\nrole = \"empty\"\n\
        target = \"ground\"\napproval = \"auto\"\n";
    let files =
        [("shop.toml".to_owned(), text.to_owned()), ("zground.toml".to_owned(), GROUND.to_owned())];
    let policy = parse(&files).expect("only warnings");
    let told = policy.warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [
        "shop.toml:1:7: role \"empty\" allows nothing; add allow = [{ actions = [\"select\"], on = [\"schema.*\"] }]",
        "shop.toml:4:7: `access[0].who` trusts claims from every issuer; add issuer = \"…\", so that no other issuer can make the same claim",
    ];
    assert_eq!(told, expected);
}

#[test]
fn every_host_of_a_target_has_its_own_url() {
    let target = |hosts: &str| {
        let text = format!(
            "[target.t]\nurl = \"postgres://{hosts}/db?target_session_attrs=standby\"\n\
             credential = {{ kind = \"ephemeral\", admin_url = \"env:X\" }}\n"
        );
        let mut policy = parse(&[("t.toml".to_owned(), text)]).expect("it is a target");
        let target = policy.targets.remove("t").unwrap();
        std::iter::once(target.url).chain(target.further).map(String::from).collect::<Vec<_>>()
    };
    let at = |host: &str| format!("postgres://{host}/db?target_session_attrs=standby");
    assert_eq!(target("one"), [at("one")]);
    assert_eq!(target("one,[::1]:5433,%2Ftmp"), [at("one"), at("[::1]:5433"), at("%2Ftmp")]);
}

#[test]
fn a_secret_in_the_wrong_place_is_never_repeated() {
    let wrong = "[target.a]\nurl = \"postgres://admin:hunter2@h/db\"\n\
        credential = { kind = \"static\", user = \"app\", password = \"hunter2\" }\n\
        [target.b]\nurl = \"postgres://h/db\"\n\
        credential = { kind = \"ephemeral\", admin_url = \"postgres://admin:hunter2@h/db\" }\n\
        [target.c]\nurl = \"postgres://h/db\"\ncredential = \"hunter2\"\n\
        [target.d]\nurl = \"postgres://h,h:hunter2/db\"\ncredential = { kind = \"ephemeral\", admin_url = 1 }\n";
    let broken = format!("{wrong}[target.e]\ncredential = {{ kind = \"hunter2");
    for (text, least) in [(wrong, 6), (broken.as_str(), 1)] {
        let errors = parse(&[("a.toml".to_owned(), text.to_owned())]).expect_err("they are wrong");
        assert!(errors.len() >= least, "{errors:?}");
        for error in errors {
            let told = format!("{error} {error:?}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}

#[test]
fn a_role_travels_as_a_document_and_comes_back_the_same() {
    let roles = sample().roles.into_values().flat_map(|role| {
        let recorded = Role { record: Record::Results, ..role.clone() };
        [role, recorded]
    });
    for role in roles {
        let document = role.to_document();
        assert_eq!(document, role.to_document());
        let back = Role::from_document(&document).expect("our own document");
        assert_eq!(back, role);
        assert_eq!(Role::version(&document).len(), 64);
    }
    assert_eq!(
        Role::version(""),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn a_document_that_says_more_than_this_version_knows_is_refused() {
    let document = sample().roles["readonly"].to_document();
    let more = document.replacen('{', "{\"tomorrow\":1,", 1);
    assert!(Role::from_document(&more).is_err());
    assert!(Role::from_document(&document[1..]).is_err());
    assert!(Role::from_document("").is_err());
}

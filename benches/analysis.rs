//! What it costs to decide a statement: `cargo bench --bench analysis`.
//!
//! Each statement is read four ways: by pg_query alone (the floor), by the analysis, by
//! the whole decision on a text that was never seen, and by the look-up of one that was.
//! The last two with and without masks. The aim: the analysis at most twice pg_query
//! alone, the look-up under a microsecond.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion};
use jiff::Timestamp;
use pgate::{
    policy::{self, Enforcement},
    proxy::Ruling,
    sql::{self, Catalog},
};

const STATEMENTS: [(&str, &str); 3] = [
    ("point select", include_str!("statements/point.sql")),
    ("375 B join", include_str!("statements/join.sql")),
    ("1.2 KB CTE", include_str!("statements/report.sql")),
];

const POLICY: &str = r#"
[target.t]
url = "postgres://localhost/shop"
credential = { kind = "static", user = "app", password = "env:UNUSED" }
[role.plain]
targets = ["t"]
allow = [{ actions = ["select"], on = ["shop.*"] }]
deny = [{ actions = ["*"], on = ["shop.api_keys"], reason = "secrets" }]
[role.masked]
targets = ["t"]
allow = [{ actions = ["select"], on = ["shop.*"] }]
deny = [{ actions = ["*"], on = ["shop.api_keys"], reason = "secrets" }]
mask = [{ columns = ["shop.orders.note", "shop.customers.email"], with = "redact" }]
"#;

fn main() {
    // All reading of SQL happens on a large stack, in sessions as here.
    sql::on_large_stack(|| {
        let mut criterion = Criterion::default()
            .sample_size(60)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .without_plots()
            .configure_from_args();
        compare(&mut criterion);
        criterion.final_summary();
    });
}

fn compare(criterion: &mut Criterion) {
    let files = [("shop.toml".to_owned(), POLICY.to_owned())];
    let roles = policy::parse(&files).expect("the policy is well written").roles;
    let ruling = |role: &str| {
        let role = Arc::new(roles[role].clone());
        Ruling::first(role, catalog(), Enforcement::Static).expect("it fits the catalog")
    };
    let (plain, masked) = (ruling("plain"), ruling("masked"));
    let catalog = catalog();
    for (name, text) in STATEMENTS {
        let text: Arc<str> = text.into();
        let mut group = criterion.benchmark_group(name);
        group.bench_function("pg_query", |b| b.iter(|| pg_query::parse(black_box(&text), 0)));
        group.bench_function("analysed", |b| b.iter(|| sql::analyse(black_box(&text), &catalog)));
        for (kind, ruling) in [("plain", &plain), ("masked", &masked)] {
            let now = Timestamp::now;
            let decided = BenchmarkId::new("decided", kind);
            group.bench_function(decided, |b| b.iter(|| ruling.decide(black_box(&text), now())));
            let recalled = BenchmarkId::new("recalled", kind);
            group.bench_function(recalled, |b| {
                b.iter(|| ruling.recall(black_box(&text), now()).expect("it was decided before"));
            });
        }
        group.finish();
    }
}

/// The sample shop's tables, among a hundred others.
fn catalog() -> Catalog {
    let mut builder = Catalog::builder()
        .table(
            "shop.customers",
            &[("id", "int8"), ("name", "text"), ("email", "text"), ("country", "text")],
        )
        .table(
            "shop.orders",
            &[
                ("id", "int8"),
                ("customer_id", "int8"),
                ("status", "text"),
                ("total", "numeric"),
                ("note", "text"),
                ("placed_at", "timestamptz"),
            ],
        )
        .table(
            "shop.payments",
            &[
                ("id", "int8"),
                ("order_id", "int8"),
                ("amount", "numeric"),
                ("paid_at", "timestamptz"),
            ],
        )
        .table(
            "shop.visits",
            &[("customer_id", "int8"), ("path", "text"), ("visited_at", "timestamptz")],
        );
    for number in 0..100 {
        builder = builder.table(&format!("other.t{number}"), &[("id", "int8"), ("note", "text")]);
    }
    builder.build()
}

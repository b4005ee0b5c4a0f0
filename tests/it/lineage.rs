//! What views show, as read from the queries that a real PostgreSQL keeps.

use std::collections::BTreeSet;

use pgate::{
    demo::cluster::{Cluster, Options},
    sql::{AttributeNumber, CATALOG_QUERY, Catalog, Flow, Lineage, Oid},
};

const TABLES: &str = "
CREATE TABLE c (id int PRIMARY KEY, name text, email text, income int, tags text[], boss int);
CREATE TABLE o (id int PRIMARY KEY, c_id int, total numeric, mail text);
CREATE FUNCTION own(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION letters(text) RETURNS SETOF text LANGUAGE sql AS 'SELECT regexp_split_to_table($1, '''')';
";

/// A view's query; each of its columns as the column that it shows as it is, or
/// as what it is computed from in braces; what its rows depend on.
#[rustfmt::skip]
const VIEWS: &[(&str, &str, &str)] = &[
    ("SELECT id, email AS e FROM c", "c.id c.email", ""),
    ("SELECT x.email FROM ONLY c x", "c.email", ""),
    ("SELECT email || '' FROM c", "{c.email}", ""),
    ("SELECT upper(email), length(name) FROM c", "{c.email} {c.name}", ""),
    ("SELECT email::varchar FROM c", "{c.email}", ""),
    ("SELECT CASE WHEN income > 5 THEN name ELSE 'x' END FROM c", "{c.income c.name}", ""),
    ("SELECT COALESCE(name, email) FROM c", "{c.email c.name}", ""),
    ("SELECT ROW(id, email)::text FROM c", "{c.email c.id}", ""),
    ("SELECT c FROM c", "{c.*}", ""),
    ("SELECT row_to_json(c) AS r, id FROM c", "{c.*} c.id", ""),
    ("SELECT (c).email FROM c", "c.email", ""),
    ("SELECT tags[1], ARRAY[email] FROM c", "{c.tags} {c.email}", ""),
    ("SELECT c.ctid::text AS place, id FROM c", "{c.-1} c.id", ""),
    // Rows.
    ("SELECT id FROM c WHERE email LIKE 'a%'", "c.id", "c.email"),
    ("SELECT id FROM c WHERE name = 'x' AND NOT (income > 3)", "c.id", "c.income c.name"),
    ("SELECT id FROM c ORDER BY income LIMIT 3", "c.id", "c.income"),
    ("SELECT id FROM c LIMIT (SELECT max(income) FROM c)", "c.id", "c.income"),
    ("SELECT DISTINCT email FROM c", "c.email", "c.email"),
    ("SELECT DISTINCT ON (income) id FROM c", "c.id", "c.income"),
    ("SELECT name, count(*) FROM c GROUP BY name HAVING max(income) > 3", "c.name {}", "c.income c.name"),
    ("SELECT email, count(*) FROM c GROUP BY email", "c.email {}", "c.email"),
    ("SELECT name, sum(income) FROM c GROUP BY ROLLUP (name, boss)", "c.name {c.income}", "c.boss c.name"),
    ("SELECT count(*) FILTER (WHERE income > 3), array_agg(id ORDER BY email) FROM c", "{c.income} {c.email c.id}", ""),
    ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY income) FROM c", "{c.income}", ""),
    ("SELECT id, unnest(string_to_array(email, '')) FROM c", "c.id {c.email}", "c.email c.id"),
    ("SELECT id, letters(email) FROM c", "c.id {c.email letters()}", "c.email c.id letters()"),
    ("SELECT c.id, s FROM c, generate_series(1, income) s", "c.id {c.income}", "c.income"),
    ("SELECT c.id, t FROM c, LATERAL unnest(tags) t", "c.id {c.tags}", "c.tags"),
    ("SELECT id FROM c TABLESAMPLE bernoulli (50)", "c.id", ""),
    // Windows.
    ("SELECT id, rank() OVER (ORDER BY income) FROM c", "c.id {c.income}", ""),
    ("SELECT id, count(*) OVER w FROM c WINDOW w AS (PARTITION BY email)", "c.id {c.email}", ""),
    ("SELECT id, lag(income) OVER (ORDER BY id) FROM c", "c.id {c.id c.income}", ""),
    // Joins.
    ("SELECT o.id, c.name FROM o JOIN c ON c.id = o.c_id", "o.id c.name", "c.id o.c_id"),
    ("SELECT o.id FROM o JOIN c ON c.email = o.mail", "o.id", "c.email o.mail"),
    ("SELECT o.id FROM o LEFT JOIN c ON c.id = o.c_id AND c.income > 3", "o.id", "c.id c.income o.c_id"),
    ("SELECT * FROM (SELECT id, email FROM c) a JOIN (SELECT id, total FROM o) b USING (id)", "c.id c.email o.total", "c.id o.id"),
    ("SELECT id, email FROM (SELECT id, email FROM c) a FULL JOIN (SELECT id, total FROM o) b USING (id)", "{c.id o.id} c.email", "c.id o.id"),
    ("SELECT j.email, j.x FROM (c JOIN o ON c.id = o.id) AS j (x, y, email)", "c.email c.id", "c.id o.id"),
    ("SELECT row_to_json(j) FROM (c JOIN o ON c.id = o.id) AS j", "{c.boss c.email c.id c.income c.name c.tags o.c_id o.id o.mail o.total}", "c.id o.id"),
    ("SELECT a.id FROM c a NATURAL JOIN c b", "c.id", "c.boss c.email c.id c.income c.name c.tags"),
    // Sub-selects.
    ("SELECT s.m FROM (SELECT id, email AS m FROM c) s", "c.email", ""),
    ("SELECT s.id FROM (SELECT id, email AS m FROM c) s", "c.id", ""),
    ("SELECT s::text FROM (SELECT id, email AS m FROM c) s", "{c.email c.id}", ""),
    ("SELECT id FROM (SELECT id FROM c WHERE income > 3) s", "c.id", "c.income"),
    ("SELECT id, (SELECT max(email) FROM c WHERE c.id = o.c_id) FROM o", "o.id {c.email c.id o.c_id}", ""),
    ("SELECT id FROM o WHERE EXISTS (SELECT * FROM c WHERE c.id = o.c_id)", "o.id", "c.id o.c_id"),
    ("SELECT id FROM o WHERE EXISTS (SELECT FROM c WHERE c.email = o.mail)", "o.id", "c.email o.mail"),
    ("SELECT id FROM o WHERE EXISTS (SELECT unnest(tags) FROM c)", "o.id", "c.tags"),
    ("SELECT id FROM o WHERE mail IN (SELECT email FROM c)", "o.id", "c.email o.mail"),
    ("SELECT id FROM o WHERE total > ALL (SELECT income FROM c)", "o.id", "c.income o.total"),
    ("SELECT o.id, l.e FROM o, LATERAL (SELECT email AS e FROM c WHERE c.id = o.c_id) l", "o.id c.email", "c.id o.c_id"),
    ("SELECT ARRAY(SELECT email FROM c), id FROM o", "{c.email} o.id", ""),
    // CTEs and set operations.
    ("WITH q AS (SELECT id, email FROM c) SELECT email, id FROM q", "c.email c.id", ""),
    ("WITH q AS (SELECT id FROM c WHERE income > 1), r AS (SELECT * FROM q) SELECT * FROM r", "c.id", "c.income"),
    ("WITH q AS (SELECT email AS id FROM c) SELECT (WITH q AS (SELECT id FROM o) SELECT max(id) FROM q), id FROM q", "{o.id} c.email", ""),
    ("WITH RECURSIVE q AS (SELECT id, boss FROM c WHERE id = 1 UNION ALL SELECT c.id, c.boss FROM c JOIN q ON c.boss = q.id) SELECT id FROM q", "{c.boss c.id}", "c.boss c.id"),
    ("SELECT id, name FROM c UNION ALL SELECT id, mail FROM o", "{c.id o.id} {c.name o.mail}", ""),
    ("SELECT email FROM c UNION ALL SELECT mail FROM o ORDER BY 1 LIMIT 1", "{c.email o.mail}", "c.email o.mail"),
    ("SELECT name FROM c UNION SELECT mail FROM o", "{c.name o.mail}", "c.name o.mail"),
    ("SELECT name FROM c EXCEPT SELECT email FROM c", "{c.email c.name}", "c.email c.name"),
    ("SELECT id FROM c UNION ALL (SELECT id FROM o INTERSECT SELECT income FROM c)", "{c.id c.income o.id}", "c.id c.income o.id"),
    ("VALUES (1), (2)", "{}", ""),
    ("SELECT v.x FROM c, LATERAL (VALUES (c.email)) v (x)", "{c.email}", ""),
    // Functions of one's own, and names that look like the tree's own words.
    ("SELECT own(name) FROM c", "{c.name own()}", ""),
    ("SELECT id FROM c WHERE own(name) = 'x'", "c.id", "c.name own()"),
    (r#"SELECT email AS ":expr", id AS "{VAR", name AS "a ) b" FROM c AS ":varno""#, "c.email c.id c.name", ""),
    ("SELECT 'x } {VAR :varno 9} (' || name AS x, E'\\\\' AS y, ':expr' AS z FROM c", "{c.name} {} {}", ""),
    ("SELECT xmlelement(name e, email) FROM c", "{c.email}", ""),
    ("SELECT g.v FROM c, xmltable('/r' PASSING xmlelement(name r, email) COLUMNS v text PATH '.') g", "{c.email}", "c.email"),
];

async fn load(cluster: &Cluster) -> Catalog {
    let text = cluster.psql("postgres", &format!("{CATALOG_QUERY};\n")).await.unwrap();
    let document = text.lines().rfind(|line| line.starts_with('{')).expect("one JSON document");
    Catalog::from_json(document).unwrap()
}

fn shown(catalog: &Catalog, flow: &Flow) -> String {
    match flow {
        Flow::Column(oid, number) => column(catalog, *oid, *number),
        Flow::Function(oid) => {
            let function = catalog.all_functions().find(|function| function.oid == *oid);
            format!("{}()", function.unwrap().name)
        }
    }
}

fn column(catalog: &Catalog, oid: Oid, number: AttributeNumber) -> String {
    let relation = catalog.relation(oid).unwrap();
    match relation.column_by_number(number) {
        Some(column) => format!("{}.{}", relation.name, column.name),
        None if number == AttributeNumber::WHOLE_ROW => format!("{}.*", relation.name),
        None => format!("{}.{}", relation.name, number.0),
    }
}

fn all(catalog: &Catalog, flows: &BTreeSet<Flow>) -> String {
    let mut names = flows.iter().map(|flow| shown(catalog, flow)).collect::<Vec<_>>();
    names.sort();
    names.join(" ")
}

fn told(catalog: &Catalog, lineage: &Lineage) -> (String, String) {
    let columns = lineage.columns.values().map(|lineage| match lineage.as_is {
        Some((oid, number)) => column(catalog, oid, number),
        None => format!("{{{}}}", all(catalog, &lineage.flows)),
    });
    (columns.collect::<Vec<_>>().join(" "), all(catalog, &lineage.rows))
}

#[tokio::test]
async fn each_column_of_a_view_tells_what_flows_into_it_and_each_view_what_its_rows_tell() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    cluster.execute("postgres", TABLES).await.unwrap();
    for (at, (query, ..)) in VIEWS.iter().enumerate() {
        let columns = format!("CREATE VIEW v{at} AS {query}");
        if let Err(error) = cluster.execute("postgres", &columns).await {
            panic!("{query}: {error}");
        }
        let copy = format!("CREATE MATERIALIZED VIEW m{at} AS {query} WITH NO DATA");
        if let Err(error) = cluster.execute("postgres", &copy).await {
            panic!("{query}: {error}");
        }
    }
    let catalog = load(&cluster).await;
    let mut wrong = Vec::new();
    for (at, (query, columns, rows)) in VIEWS.iter().enumerate() {
        for kind in ["v", "m"] {
            let view = catalog.relation_named("public", &format!("{kind}{at}")).unwrap();
            let found = view.lineage.as_ref().map(|lineage| told(&catalog, lineage));
            if found != Some(((*columns).to_owned(), (*rows).to_owned())) {
                wrong.push(format!("{kind} {query}\n  {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), VIEWS.len() * 2, wrong.join("\n"));
}

#[tokio::test]
async fn a_replaced_view_and_its_options_are_seen() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    cluster.execute("postgres", TABLES).await.unwrap();
    let seen = async |sql: &str| {
        cluster.execute("postgres", sql).await.unwrap();
        load(&cluster).await.relation_named("public", "v").unwrap().clone()
    };
    let first = seen("CREATE VIEW v AS SELECT id, name FROM c").await;
    assert!(!first.security_invoker && !first.write_rules);
    let replaced = seen("CREATE OR REPLACE VIEW v AS SELECT id, email AS name FROM c").await;
    assert_ne!(first.fingerprint(), replaced.fingerprint());
    let barrier = seen("ALTER VIEW v SET (security_barrier)").await;
    assert_eq!(barrier.fingerprint(), replaced.fingerprint());
    let ruled = seen("CREATE RULE r AS ON INSERT TO v DO INSTEAD NOTHING").await;
    assert!(ruled.write_rules);
    let version = cluster.psql("postgres", "SHOW server_version_num").await.unwrap();
    if version.contains("\n14") || version.trim().starts_with("14") {
        return;
    }
    assert!(seen("ALTER VIEW v SET (security_invoker)").await.security_invoker);
    assert!(seen("ALTER VIEW v SET (security_invoker = on)").await.security_invoker);
    assert!(!seen("ALTER VIEW v SET (security_invoker = off)").await.security_invoker);
}

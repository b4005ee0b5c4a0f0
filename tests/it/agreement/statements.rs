//! Statements, made at random: a shape of the list, on one relation or two.

use std::fmt;

use proptest::{prelude::*, sample::select};

use super::world::RELATIONS;

/// What is written, with names to be filled in: `t` and `u` are relations, `c` and `d`
/// columns of `t`, `e` one of `u`; each in braces.
const SHAPES: [&str; 122] = [
    "SELECT {c}, {d} FROM {t}",
    "SELECT {c} FROM {t} WHERE {d} IS NOT NULL",
    "SELECT * FROM {t}",
    "SELECT count(*) FROM {t}",
    "SELECT x FROM {t} x",
    "SELECT to_jsonb(x) FROM {t} x",
    "SELECT {c} FROM ONLY {t}",
    "SELECT max({c}::text), count({d}) FROM {t}",
    "SELECT id FROM {t} ORDER BY {c}",
    "SELECT x.{c}, y.{e} FROM {t} x JOIN {u} y ON x.id = y.id",
    "SELECT {c} FROM {t} WHERE EXISTS (SELECT FROM {u} WHERE {e} IS NOT NULL)",
    "SELECT {c}, (SELECT max({e}::text) FROM {u}) FROM {t}",
    "WITH x AS (SELECT {c} FROM {t}) SELECT * FROM x",
    "SELECT {c}::text FROM {t} UNION ALL SELECT {e}::text FROM {u}",
    "SELECT ctid, tableoid FROM {t}",
    "SELECT {c} FROM {t} FOR UPDATE",
    "SELECT x.{c} FROM {t} x, {u} y FOR SHARE OF x",
    "SELECT {c} FROM {t} GROUP BY {c} HAVING count({d}) > 0",
    "SELECT {c} FROM (SELECT * FROM {t}) x",
    "SELECT x.* FROM {t} x LEFT JOIN LATERAL (SELECT {e} FROM {u}) y ON true",
    "SELECT t.{c} FROM {t} AS t (id, b)",
    "TABLE {t}",
    "COPY {t} TO STDOUT",
    "COPY {t} ({c}) TO STDOUT",
    "COPY (SELECT {c} FROM {t}) TO STDOUT",
    "EXPLAIN SELECT {c} FROM {t}",
    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT {c} FROM {t} WHERE {d} IS NOT NULL",
    "INSERT INTO {t} ({c}) VALUES (NULL)",
    "INSERT INTO {t} ({c}, {d}) VALUES (DEFAULT, NULL) RETURNING {c}",
    "INSERT INTO {t} DEFAULT VALUES",
    "INSERT INTO {t} ({c}) SELECT {e} FROM {u}",
    "INSERT INTO {t} SELECT * FROM {t}",
    "INSERT INTO {t} (id, {c}) VALUES (1, NULL) ON CONFLICT DO NOTHING",
    "INSERT INTO {t} (id, {c}) VALUES (1, NULL) ON CONFLICT (id) DO NOTHING",
    "INSERT INTO {t} (id, {c}) VALUES (1, NULL) ON CONFLICT (id) DO UPDATE SET {c} = excluded.{c}",
    "INSERT INTO {t} AS x (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET {c} = NULL WHERE x.{d} IS NOT NULL",
    "UPDATE {t} SET {c} = NULL",
    "UPDATE {t} SET {c} = DEFAULT WHERE id = 1",
    "UPDATE {t} SET {c} = {d}",
    "UPDATE ONLY {t} SET {c} = NULL WHERE {d} IS NOT NULL",
    "UPDATE {t} SET {c} = NULL RETURNING {d}",
    "UPDATE {t} SET {c} = NULL RETURNING *",
    "UPDATE {t} x SET {c} = NULL FROM {u} y WHERE y.{e} IS NOT NULL",
    "UPDATE {t} SET ({c}, {d}) = (SELECT {e}, NULL FROM {u} LIMIT 1)",
    "DELETE FROM {t}",
    "DELETE FROM {t} WHERE id = 1",
    "DELETE FROM {t} WHERE {c} IS NOT NULL RETURNING {d}",
    "DELETE FROM {t} x USING {u} y WHERE y.{e} IS NOT NULL",
    "DELETE FROM {t} WHERE EXISTS (SELECT FROM {u} WHERE {e} IS NOT NULL)",
    "WITH x AS (DELETE FROM {t} RETURNING {c}) SELECT * FROM x",
    "WITH x AS (SELECT {e} FROM {u}) UPDATE {t} SET {c} = NULL WHERE EXISTS (SELECT FROM x)",
    "MERGE INTO {t} x USING {u} y ON x.id = y.id WHEN MATCHED THEN DELETE",
    "MERGE INTO {t} x USING {u} y ON x.id = y.id WHEN MATCHED AND y.{e} IS NULL THEN UPDATE SET {c} = NULL",
    "MERGE INTO {t} x USING {u} y ON false WHEN NOT MATCHED THEN INSERT (id, {c}) VALUES (7, NULL)",
    "TRUNCATE {t}",
    "SELECT last_value FROM w.orders_id_seq",
    "CREATE TABLE w.new AS SELECT {c} FROM {t}",
    "CREATE VIEW w.new AS SELECT {c} FROM {t}",
    "ALTER TABLE {t} ADD COLUMN more int",
    "DROP TABLE {t}",
    "CREATE INDEX ON {t} ({c})",
    "COMMENT ON TABLE {t} IS 'mine'",
    "LOCK TABLE {t}",
    "LOCK TABLE {t} IN ACCESS SHARE MODE",
    "LOCK TABLE ONLY {t} IN ROW EXCLUSIVE MODE",
    "SELECT nextval('w.orders_id_seq')",
    "SELECT setval('w.orders_id_seq', 40)",
    "SELECT nextval('w.orders_id_seq'), currval('w.orders_id_seq')",
    "SELECT lastval()",
    "SELECT nextval('w.orders_id_seq'::text::regclass)",
    "ALTER SEQUENCE w.orders_id_seq RESTART",
    "COPY {t} FROM STDIN",
    "COPY {t} ({c}, {d}) FROM STDIN",
    "COPY {t} ({c}) FROM STDIN WHERE {d} IS NOT NULL",
    "COPY (INSERT INTO {t} (id) VALUES (1) RETURNING {c}) TO STDOUT",
    "TRUNCATE {t}, {u}",
    "TRUNCATE ONLY {t} CASCADE",
    "MERGE INTO {t} x USING (SELECT id, {e} AS e FROM {u}) y ON x.id = y.id AND x.{c} IS NOT NULL WHEN MATCHED THEN UPDATE SET {d} = NULL",
    "MERGE INTO {t} x USING (VALUES (1)) y (n) ON x.id = y.n WHEN MATCHED AND x.{c} IS NULL THEN DELETE WHEN NOT MATCHED THEN DO NOTHING",
    "MERGE INTO {t} x USING (VALUES (1)) y (n) ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
    "SELECT {c} FROM {t} FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT y.{e} FROM (SELECT * FROM {t} FOR UPDATE) x, {u} y",
    "SELECT x FROM {t} x FOR KEY SHARE",
    "INSERT INTO {t} (id, {c}) SELECT id, {c} FROM {t} ON CONFLICT DO NOTHING RETURNING id",
    "INSERT INTO {t} (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET ({c}, {d}) = (SELECT NULL, {e} FROM {u} LIMIT 1)",
    "INSERT INTO {t} (id) VALUES (1) ON CONFLICT (id) WHERE {c} IS NULL DO NOTHING",
    "INSERT INTO {t} (id) OVERRIDING USER VALUE VALUES (1) RETURNING *",
    "UPDATE {t} SET {c} = NULL RETURNING ctid",
    "UPDATE {t} x SET {c} = y.{c} FROM {t} y WHERE x.id = y.id",
    "DELETE FROM ONLY {t} RETURNING *",
    "DELETE FROM {t} WHERE ctid = '(0,1)'",
    "DELETE FROM {t} x USING {t} y WHERE x.id = y.id RETURNING y.{c}",
    "WITH x AS (UPDATE {t} SET {c} = NULL RETURNING id) INSERT INTO {u} (id) SELECT id FROM x",
    "REFRESH MATERIALIZED VIEW w.people_kept",
    "REFRESH MATERIALIZED VIEW w.events_kept WITH NO DATA",
    "REINDEX TABLE {t}",
    "CLUSTER {t} USING people_pkey",
    "COMMENT ON COLUMN {t}.{c} IS 'mine'",
    "ALTER TABLE {t} OWNER TO CURRENT_USER",
    "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY",
    "CREATE RULE r AS ON INSERT TO {t} DO NOTHING",
    "CREATE TRIGGER r BEFORE INSERT ON {t} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE STATISTICS w.s ON {c}, {d} FROM {t}",
    "CREATE TABLE w.new (LIKE {t})",
    "CREATE TABLE w.new () INHERITS ({t})",
    "SELECT w.twice(id) FROM {t}",
    "SELECT w.mail_of(id) FROM {t}",
    "SELECT * FROM w.all_people()",
    "CALL w.tidy()",
    "EXPLAIN UPDATE {t} SET {c} = NULL WHERE id = 1",
    "EXPLAIN (ANALYZE) DELETE FROM {t} WHERE {c} IS NULL",
    "DECLARE x CURSOR FOR SELECT {c} FROM {t}",
    "PREPARE p AS SELECT {c} FROM {t} WHERE id = $1",
    "SELECT {t}.{c} FROM {t}",
    "SELECT x.{c} FROM {t} x NATURAL JOIN {u} y",
    "SELECT {c} FROM {t} TABLESAMPLE SYSTEM (100)",
    "SELECT row_number() OVER (ORDER BY {c}), {d} FROM {t}",
    "SELECT string_agg({c}::text, ',') FILTER (WHERE {d} IS NOT NULL) FROM {t}",
    "SELECT DISTINCT ON ({c}) {d} FROM {t}",
    "SELECT (SELECT x FROM {t} x LIMIT 1).{c}",
    "SELECT {c} FROM {t} UNION SELECT {c} FROM {t} ORDER BY 1",
    "VALUES ((SELECT {c}::text FROM {t} LIMIT 1))",
];

/// One statement.
#[derive(Clone)]
pub(super) struct Statement {
    shape: &'static str,
    relations: [usize; 2],
    columns: [usize; 3],
}

/// Any statement, or any that is about this relation first.
pub(super) fn statement(on: Option<&str>) -> impl Strategy<Value = Statement> + use<> {
    let any = 0..RELATIONS.len();
    let at = on.map(|on| RELATIONS.iter().position(|(name, _)| *name == on).expect("it is there"));
    let first = at.map_or(any.clone(), |at| at..at + 1);
    let column = || 0..6_usize;
    (select(&SHAPES[..]), [first, any], [column(), column(), column()])
        .prop_map(|(shape, relations, columns)| Statement { shape, relations, columns })
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(t, of_t), (u, of_u)] = self.relations.map(|at| RELATIONS[at]);
        let [c, d, e] = self.columns;
        let filled = self
            .shape
            .replace("{t}", t)
            .replace("{u}", u)
            .replace("{c}", of_t[c % of_t.len()])
            .replace("{d}", of_t[d % of_t.len()])
            .replace("{e}", of_u[e % of_u.len()]);
        f.write_str(&filled)
    }
}

/// As its text.
impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

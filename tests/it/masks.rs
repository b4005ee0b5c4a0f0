//! Every mask on every type that it fits, made by a real server: the value is
//! valid for the type, and the same whether a function or the proxy's text makes it.

use pgate::{
    policy::{self, Enforcement, Role},
    sql::{CATALOG_QUERY, Catalog},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::harness;

const TABLE: &str = "
    CREATE SCHEMA s;
    CREATE TYPE s.mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN s.code AS varchar(12) NOT NULL CHECK (VALUE LIKE 'C-%');
    CREATE DOMAIN s.age AS int CHECK (VALUE > 0);
    CREATE TABLE s.t (
        id int PRIMARY KEY, te text, vc varchar(6), ch char(4), na name, i2 int2, i4 int4, i8 int8,
        nu numeric, nf numeric(5,2), f4 float4, f8 float8, bo bool, da date, ts timestamp(3),
        tz timestamptz, ti time, iv interval, js json, jb jsonb, uu uuid, ine inet, ci cidr,
        ma macaddr, by bytea, ta text[], ia int[], en s.mood, co s.code, ag s.age, bi bit(3),
        vb bit varying(4), mo money, xm xml, po point, ra int4range, tv tsvector, \"Odd \"\"name\" text);
    INSERT INTO s.t VALUES (1, 'ana@example.com', 'ana@x.', 'abcd', 'somename', -32768, -2147483648,
        -9223372036854775808, 12345.678, -999.99, 1.5, 98765.4321, true, '1984-05-06',
        '1984-05-06 07:08:09.123', '1984-05-06 07:08:09+00', '07:08', '3 days', '{\"a\":1}',
        '{\"a\":1}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.1.2.3', '10.1.0.0/16',
        '08:00:2b:01:02:03', '\\x0102', '{a,b}', '{1,2}', 'ok', 'C-1234567890', 42, '101', '11', 12.5,
        '<a>1</a>', '(1,2)', '[1,5)', 'a b', 'odd value'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'C-2', NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL);";

/// A column and what it shows.
type Shown = (&'static str, Option<&'static str>);

/// The mask, the columns that it is put on, and what it shows of the first row.
const CASES: &[(&str, &[Shown])] = &[
    (
        "\"redact\"",
        &[
            ("te", Some("[redacted]")),
            ("vc", Some("******")),
            ("ch", Some("****")),
            ("na", Some("[redacted]")),
            ("i2", Some("0")),
            ("i8", Some("0")),
            ("nu", Some("0")),
            ("nf", Some("0.00")),
            ("f8", Some("0")),
            ("bo", Some("false")),
            ("da", Some("1970-01-01")),
            ("ts", Some("1970-01-01 00:00:00")),
            ("js", Some("{}")),
            ("jb", Some("{}")),
            ("uu", Some("00000000-0000-0000-0000-000000000000")),
            ("ine", Some("0.0.0.0/32")),
            ("ci", Some("0.0.0.0/32")),
            ("ma", Some("00:00:00:00:00:00")),
            ("by", Some("\\x")),
            ("ta", Some("{}")),
            ("ia", Some("{}")),
            ("en", None),
            ("co", Some("[redacted]")),
            ("ag", Some("0")),
            ("bi", Some("000")),
            ("vb", Some("")),
            ("xm", Some("<redacted/>")),
            ("po", Some("(0,0)")),
            ("ra", Some("empty")),
            ("tv", Some("")),
            ("ti", Some("00:00:00")),
            ("iv", Some("00:00:00")),
            ("\"Odd \"\"name\"", Some("[redacted]")),
        ],
    ),
    (
        "\"null\"",
        &[("te", None), ("i4", None), ("en", None), ("co", None), ("jb", None), ("ta", None)],
    ),
    (
        "\"zero\"",
        &[
            ("te", Some("")),
            ("vc", Some("")),
            ("f4", Some("0")),
            ("mo", Some("$0.00")),
            ("ta", Some("{}")),
        ],
    ),
    (
        "\"email\"",
        &[("te", Some("a***@example.com")), ("vc", Some("a***@x")), ("ch", Some("a***"))],
    ),
    (
        "\"last4\"",
        &[
            ("te", Some("***********.com")),
            ("ch", Some("****")),
            ("co", Some("********7890")),
            ("i4", Some("-3648")),
            ("uu", Some("00000000-0000-0000-0000-000000000a11")),
        ],
    ),
    (
        "{ partial = { prefix = 2, suffix = 1 } }",
        &[("te", Some("an************m")), ("ch", Some("ab*d"))],
    ),
    (
        "\"year\"",
        &[
            ("da", Some("1984-01-01")),
            ("ts", Some("1984-01-01 00:00:00")),
            ("tz", Some("1984-01-01 00:00:00+00")),
        ],
    ),
    (
        "{ bucket = 1000 }",
        &[
            ("i2", Some("-32767")),
            ("i4", Some("-2147483647")),
            ("nu", Some("12000")),
            ("nf", Some("-999.99")),
            ("f8", Some("98000")),
            ("ag", Some("0")),
        ],
    ),
    ("{ fixed = \"it's 7\" }", &[("te", Some("it's 7")), ("vc", Some("it's 7"))]),
    (
        "{ fixed = \"7\" }",
        &[("i2", Some("7")), ("nf", Some("7.00")), ("jb", Some("7")), ("ch", Some("7"))],
    ),
];

fn role(mask: &str, columns: &[&str]) -> Role {
    let listed = columns.iter().map(|column| {
        let name = column.trim_matches('"').replace("\"\"", "\\\"").replace(' ', "*");
        format!("\"s.t.{name}\"")
    });
    let text = format!(
        "[target.t]\nurl = \"postgres://h/db\"\n\
         credential = {{ kind = \"ephemeral\", admin_url = \"env:X\" }}\n\
         [role.r]\ntargets = [\"t\"]\nallow = [{{ actions = [\"select\"], on = [\"s.*\"] }}]\n\
         mask = [{{ columns = [{}], with = {mask} }}]\n",
        listed.collect::<Vec<_>>().join(", ")
    );
    let files = [("t.toml".to_owned(), text)];
    policy::parse(&files).unwrap_or_else(|errors| panic!("{errors:?}")).roles["r"].clone()
}

async fn texts(connection: &mut PgConnection, sql: &str) -> Vec<Option<String>> {
    let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await;
    let row = row.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    (0..row.len()).map(|at| row.try_get_unchecked(at).unwrap()).collect()
}

#[tokio::test]
async fn a_masked_value_is_valid_for_its_type_however_it_is_made() {
    let cluster = harness::cluster().await;
    let database = harness::database().await;
    cluster.execute(&database, TABLE).await.unwrap();
    let mut admin = cluster.connect(&database).await.unwrap();
    texts(
        &mut admin,
        "SELECT set_config('TimeZone', 'UTC', false), set_config('lc_monetary', 'C', false)",
    )
    .await;
    let catalog = texts(&mut admin, CATALOG_QUERY).await.remove(0).unwrap();
    let catalog = Catalog::from_json(&catalog).unwrap();
    let oid = catalog.relation_named("s", "t").unwrap().oid;
    let hash: &[Shown] = &[
        ("te", None),
        ("vc", None),
        ("ch", None),
        ("i2", None),
        ("i4", None),
        ("i8", None),
        ("nu", None),
        ("nf", None),
        ("uu", None),
        ("by", None),
        ("jb", None),
        ("co", None),
    ];
    for (mask, columns) in CASES.iter().copied().chain([("\"hash\"", hash)]) {
        let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let role = role(mask, &names);
        let list = names.iter().map(|name| match *name {
            "mo" => "c.mo::numeric::money::text".to_owned(),
            name => format!("c.{name}::text"),
        });
        let list = list.collect::<Vec<_>>().join(", ");
        let mut shown = Vec::new();
        for enforcement in [Enforcement::Ephemeral, Enforcement::Static] {
            let compiled = match policy::compile(&role, &catalog, enforcement) {
                Ok(compiled) => compiled,
                Err(_) if mask == "\"hash\"" => continue,
                Err(error) => panic!("{mask}: {error}"),
            };
            let mut transaction = admin.begin().await.unwrap();
            for statement in compiled.install_sql(compiled.privilege_role()) {
                let done = sqlx::raw_sql(AssertSqlSafe(statement.clone()));
                done.execute(&mut *transaction)
                    .await
                    .unwrap_or_else(|e| panic!("{statement}\n{e}"));
            }
            transaction.commit().await.unwrap();
            let select = compiled.replacement_for(oid, false).unwrap();
            let sql = format!("SELECT {list} FROM ({select}) c WHERE id = 1");
            shown.push(texts(&mut admin, &sql).await);
            // A domain's NOT NULL does not stand in the way, and NULL stays NULL in masks of values.
            let sql = format!("SELECT {list} FROM ({select}) c WHERE id = 2");
            let nulls = texts(&mut admin, &sql).await;
            let reads = ["email", "last4", "partial", "year", "bucket", "hash"];
            if reads.iter().any(|kind| mask.contains(kind)) {
                let not_null =
                    |(name, value): (&&str, &Option<String>)| *name != "co" && value.is_some();
                assert!(!names.iter().zip(&nulls).any(not_null), "{mask}: {nulls:?}");
            }
        }
        if mask == "\"hash\"" {
            let raw = format!("SELECT {list} FROM s.t c WHERE id = 1");
            let raw = texts(&mut admin, &raw).await;
            for (shown, raw) in shown[0].iter().zip(&raw) {
                assert!(shown.is_some() && shown != raw, "{shown:?}");
            }
            continue;
        }
        let expected =
            columns.iter().map(|(_, value)| value.map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(shown[0], expected, "{mask}, by a function");
        assert_eq!(shown[1], expected, "{mask}, by the proxy's text");
    }
    let privilege_roles = "SELECT string_agg(quote_ident(rolname), ', ') FROM pg_roles r \
        WHERE rolname LIKE 'pgate\\_p\\_r\\_%' AND has_schema_privilege(oid, 's', 'USAGE')";
    let roles = texts(&mut admin, privilege_roles).await.remove(0).unwrap();
    let drop = format!("DROP OWNED BY {roles}; DROP ROLE {roles}");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
}

#[tokio::test]
async fn a_mask_that_does_not_fit_its_column_names_both() {
    let cluster = harness::cluster().await;
    let database = harness::database().await;
    cluster.execute(&database, TABLE).await.unwrap();
    let mut admin = cluster.connect(&database).await.unwrap();
    let catalog = texts(&mut admin, CATALOG_QUERY).await.remove(0).unwrap();
    let catalog = Catalog::from_json(&catalog).unwrap();
    let cases = [
        ("\"email\"", "i4"),
        ("\"year\"", "te"),
        ("{ bucket = 10 }", "te"),
        ("\"last4\"", "da"),
        ("\"hash\"", "en"),
        ("\"zero\"", "en"),
        ("{ fixed = \"x\" }", "i4"),
        ("{ fixed = \"40000\" }", "i2"),
        ("{ fixed = \"1000\" }", "nf"),
        ("{ fixed = \"toolong\" }", "vc"),
        ("{ fixed = \"{\" }", "jb"),
        ("{ fixed = \"2020-02-31\" }", "da"),
        ("{ fixed = \"x\" }", "uu"),
    ];
    for (mask, column) in cases {
        let error = policy::compile(&role(mask, &[column]), &catalog, Enforcement::Ephemeral);
        let told = error.expect_err(mask).to_string();
        assert!(told.contains(&format!("s.t.{column} (role.r.mask[0] (t.toml:7))")), "{told}");
    }
}

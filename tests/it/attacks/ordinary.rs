//! What people and their tools send all day, which must give through pgate exactly
//! what PostgreSQL gives, but for masked cells.
//!
//! For masked cells the comparison is a copy of the shop in which the masks are
//! what is stored: pgate in front of the shop must answer like that copy.

use std::collections::BTreeMap;

use pgate::{
    demo::{shop, stage::Stage},
    policy::{self, Enforcement},
    sql::{CATALOG_QUERY, Catalog},
    wire::{Fields, HEADER},
};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{
    client::{Client, Door, Received},
    corpus::{self, Case, Step},
    lane,
};

const CASES: [&str; 3] = [
    include_str!("ordinary/queries.txt"),
    include_str!("ordinary/tools.txt"),
    include_str!("ordinary/drivers.txt"),
];

/// Commands of psql; it sends queries for each.
const PSQL: &str = r"\set ON_ERROR_STOP off
\set ECHO_HIDDEN on
SET search_path = shop;
\d
\d+
\dt+
\dt *.*
\d+ shop.*
\d+ customers
\d orders
\d visits
\d visits_2026_q1
\d open_tickets
\d customers_pkey
\d customers_id_seq
\df+ shop.*
\df *count*
\dn+
\du+
\dg
\l+
\dp shop.*
\z
\di+ shop.*
\ds+ shop.*
\dv+ shop.*
\dm+ shop.*
\dT+ shop.*
\dD
\dx+
\dy
\dew+
\des+
\det+
\db
\dP+ shop.*
\dPi
\dd shop.*
\ddp
\drds
\dO+
\dC+
\dc
\do pg_catalog.=
\da pg_catalog.count
\dF
\dFd
\dFp
\dFt
\dL+
\dA+
\dAc
\dAf
\dRp+
\dX
\dconfig work_mem
\sf shop.order_age
\sv shop.open_tickets
";

/// The role that the statements run under, on targets with either credential.
pub(super) fn policy() -> String {
    let roles = shop::POLICY.split("\n[role.writer]").next().expect("the role readonly");
    let access = |target: &str| {
        format!(
            "\n[[access]]\nwho = {{ group = \"engineering\" }}\nrole = \"analyst\"\n\
             target = \"{target}\"\napproval = \"auto\"\n"
        )
    };
    roles
        .replace("role.readonly", "role.analyst")
        .replace("[\"prod-db\"]", "[\"shop-owned\", \"shop-least\"]")
        + &access("shop-owned")
        + &access("shop-least")
}

/// Makes the copy in which the masks are stored.
pub(super) async fn store_masks(stage: &Stage) {
    let cluster = stage.cluster();
    cluster.execute("postgres", "CREATE DATABASE shop_masked TEMPLATE shop").await.unwrap();
    let mut admin = cluster.connect("shop_masked").await.unwrap();
    let catalog = sqlx::raw_sql(CATALOG_QUERY).fetch_one(&mut admin).await.unwrap();
    let catalog = Catalog::from_json(&catalog.get::<String, _>(0)).unwrap();
    let target = "[target.shop-owned]\nurl = \"postgres://h/d\"\ncredential = { kind = \"static\", \
                  user = \"u\", password = \"env:X\" }\n[target.shop-least]\nurl = \"postgres://h/d\"\n\
                  credential = { kind = \"static\", user = \"u\", password = \"env:X\" }\n";
    let files = [("analyst.toml".to_owned(), target.to_owned() + &policy())];
    let role = policy::parse(&files).unwrap().roles["analyst"].clone();
    let compiled = policy::compile(&role, &catalog, Enforcement::Static).unwrap();
    run(&mut admin, "SET session_replication_role = replica; DROP INDEX shop.customers_email")
        .await;
    for table in ["customers", "payments", "support_tickets", "visits"] {
        let oid = catalog.relation_named("shop", table).unwrap().oid;
        let select = compiled.replacement_for(oid, false).unwrap();
        let drop = if table == "customers" {
            "ALTER TABLE shop.customers DROP COLUMN password_hash;"
        } else {
            ""
        };
        let store = format!(
            "CREATE TEMP TABLE masked AS {select}; {drop} DELETE FROM shop.{table};
             INSERT INTO shop.{table} OVERRIDING SYSTEM VALUE TABLE masked; DROP TABLE masked"
        );
        run(&mut admin, &store).await;
    }
    run(&mut admin, "ANALYZE").await;
}

async fn run(admin: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(admin).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Every case: those of the files, and what psql asks for its commands.
async fn cases(stage: &Stage) -> Vec<Case> {
    let mut cases = CASES.iter().flat_map(|text| corpus::parse(text)).collect::<Vec<_>>();
    let printed = stage.cluster().psql("shop", PSQL).await.unwrap();
    let mut command = String::new();
    let mut asked = BTreeMap::new();
    for part in printed.split("********* QUERY **********\n").skip(1) {
        let Some((sql, _)) = part.split_once("**************************") else { continue };
        let name = sql.split_whitespace().take(12).collect::<Vec<_>>().join(" ");
        command.clone_from(&name);
        asked.entry(sql.trim().to_owned()).or_insert(name);
    }
    assert!(asked.len() > 60, "psql asked {} queries, last {command}", asked.len());
    for (at, (sql, name)) in asked.into_iter().enumerate() {
        cases.push(Case::of_query("psql", &format!("{at}: {name}"), sql));
    }
    cases
}

/// What one side answered, without what differs by nature.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// Names, types and modifiers of the columns of each result.
    columns: Vec<String>,
    rows: Vec<Vec<u8>>,
    tags: Vec<String>,
    errors: Vec<(String, String)>,
}

impl Answer {
    fn of(received: &Received, whole: bool) -> Self {
        let mut answer = Self {
            columns: Vec::new(),
            rows: Vec::new(),
            tags: Vec::new(),
            errors: received.errors(),
        };
        for message in received.messages() {
            match message[0] {
                b'T' => answer.columns.push(columns(message)),
                b'D' | b'd' if whole => answer.rows.push(message.clone()),
                b'C' if whole => {
                    answer.tags.push(String::from_utf8_lossy(&message[HEADER..]).into_owned());
                }
                b'H' | b'G' => answer.columns.push(format!("{:?}", &message[HEADER..])),
                _ => {}
            }
        }
        answer
    }

    /// The first difference, for people.
    fn differs(&self, direct: &Self) -> Option<String> {
        if self.errors != direct.errors {
            return Some(format!("errors {:?}, direct {:?}", self.errors, direct.errors));
        }
        if self.columns != direct.columns {
            return Some(format!("columns {:?}\n      direct {:?}", self.columns, direct.columns));
        }
        let text = |row: Option<&Vec<u8>>| {
            row.map(|row| String::from_utf8_lossy(row).replace(char::is_control, "·"))
        };
        let at = (0..self.rows.len().max(direct.rows.len()))
            .find(|at| self.rows.get(*at) != direct.rows.get(*at));
        if let Some(at) = at {
            let (ours, theirs) = (text(self.rows.get(at)), text(direct.rows.get(at)));
            return Some(format!("row {at} {ours:?}\n      direct {theirs:?}"));
        }
        (self.tags != direct.tags).then(|| format!("tags {:?}, {:?}", self.tags, direct.tags))
    }
}

/// Name, type, size, modifier and format of every field. The origin is left out: a
/// masked table's columns come from a sub-select.
fn columns(message: &[u8]) -> String {
    let mut fields = Fields::of_message(message, "RowDescription").unwrap();
    let count = fields.count().unwrap();
    let mut told = String::new();
    for _ in 0..count {
        let name = fields.text().unwrap().to_owned();
        fields.take(6).unwrap();
        told += &format!("{name} {:?}, ", fields.take(12).unwrap());
    }
    told
}

/// Runs every case under both credentials and directly; returns their number and
/// what is broken.
pub(super) async fn broken(stage: &Stage) -> (usize, Vec<String>) {
    let cases = cases(stage).await;
    let mut broken = Vec::new();
    let cluster = stage.cluster();
    let admin = url::Url::parse(cluster.admin_url().expose_secret()).unwrap();
    let direct = |database: &str| Door {
        socket: cluster.socket_folder().join(format!(".s.PGSQL.{}", cluster.port())),
        user: admin.username().to_owned(),
        database: database.to_owned(),
        password: admin.password().map(str::to_owned),
    };
    for target in ["shop-owned", "shop-least"] {
        let (mut process, door) = lane::connect(stage, target, "analyst");
        let mut ours = Side::new(door);
        let (mut shop, mut masked) = (Side::new(direct("shop")), Side::new(direct("shop_masked")));
        for case in &cases {
            // The copy stands for tables; descriptions of the database are the shop's own.
            let described = case.has("catalog") || case.family == "psql";
            let direct = if described { &mut shop } else { &mut masked };
            let whole = !(case.has("shape") || case.has("privileges") && target == "shop-least");
            // The cluster itself moves on between two looks: the attacks that run beside this
            // make databases grow, and autovacuum counts rows. What is broken stays so.
            let looks = if described { 4 } else { 1 };
            let (mut here, mut there) =
                (ours.answer(case, whole).await, direct.answer(case, whole).await);
            for _ in 1..looks {
                if here == there {
                    break;
                }
                (here, there) = (ours.answer(case, whole).await, direct.answer(case, whole).await);
            }
            let name = format!("[{}] {}", case.family, case.name);
            if !there.errors.is_empty() && !case.has("error") {
                broken.push(format!("{name} fails directly: {:?}", there.errors));
            } else if let Some(difference) = here.differs(&there) {
                broken.push(format!("{name} on {target}: {difference}"));
            }
        }
        let _ = process.kill();
        let _ = process.wait();
    }
    (cases.len(), broken)
}

/// One side of the comparison, with a connection that cases share which leave
/// nothing behind.
struct Side {
    door: Door,
    shared: Option<Client>,
}

impl Side {
    fn new(door: Door) -> Self {
        Self { door, shared: None }
    }

    async fn answer(&mut self, case: &Case, whole: bool) -> Answer {
        Answer::of(&self.heard(case).await, whole)
    }

    async fn heard(&mut self, case: &Case) -> Received {
        let steps = case.steps(true);
        let leaves_nothing = steps.iter().all(Step::leaves_nothing);
        let shared = if leaves_nothing { self.shared.take() } else { None };
        let mut client = match shared {
            Some(client) => client,
            None => self.connect().await,
        };
        for step in &steps {
            client.step(step).await;
        }
        let received = std::mem::take(&mut client.received);
        if leaves_nothing && client.is_open() {
            self.shared = Some(client);
        }
        received
    }

    async fn connect(&self) -> Client {
        let mut client = Client::new(&self.door);
        client.step(&Step::Start(BTreeMap::new())).await;
        if self.door.password.is_some() {
            client.step(&Step::Query("SET search_path = shop".into())).await;
        }
        client.received = Received::default();
        client
    }
}

//! The SQL that makes PostgreSQL enforce a role. Every statement can be run again.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::{functions::ReaderFunction, privileges::Privileges};
use crate::{
    policy::document::hex,
    sql::{quote_identifier, quote_literal},
};

/// What the name of a database's mask owner begins with.
const MASK_OWNER_PREFIX: &str = "pgate_mask_";
/// The longest name that PostgreSQL has, in bytes.
const LONGEST_NAME: usize = 63;

/// The key of the lock under which one installation at a time runs in a database.
const LOCK: i64 = 0x7067_6174_6501;

/// The role that owns the schema `pgate` of a database and all reader functions in it,
/// and may read masked columns. Roles belong to the whole cluster: each database
/// has one of its own, so that nobody's membership reaches into another database.
struct MaskOwner {
    name: String,
    literal: String,
    identifier: String,
}

impl MaskOwner {
    fn of(database: &str) -> Self {
        let mut name = format!("{MASK_OWNER_PREFIX}{database}");
        if name.len() > LONGEST_NAME {
            let hash = hex(&Sha256::digest(database.as_bytes()));
            name = format!("{MASK_OWNER_PREFIX}{}", hash.get(..32).unwrap_or(&hash));
        }
        Self { literal: quote_literal(&name), identifier: quote_identifier(&name), name }
    }
}

/// The statements, in order.
pub(super) fn statements(
    functions: &[ReaderFunction],
    privileges: &Privileges,
    privilege_role: &str,
) -> Vec<String> {
    let owner = MaskOwner::of(&privileges.database);
    let mut sql = vec![
        // An administrator's own search path must not choose the operators used here.
        "SET LOCAL search_path = pg_catalog, pg_temp".to_owned(),
        format!("SELECT pg_catalog.pg_advisory_xact_lock({LOCK})"),
    ];
    sql.push(nologin_role(privilege_role));
    sql.push(revoke_all(privilege_role));
    if !functions.is_empty() {
        ground(&owner, functions.iter().any(|function| function.keyed), &mut sql);
        owner_reads(&owner, functions, &mut sql);
        sql.extend(functions.iter().map(|one| function(&owner, one)));
    }
    grants(functions, privileges, privilege_role, &mut sql);
    sql
}

/// A DO statement, whose body is quoted as a literal: no dollar tag can clash with a name in it.
fn block(body: &str) -> String {
    format!("DO {}", quote_literal(&format!("BEGIN {body} END")))
}

/// Makes a role that nobody can log in as, or refuses one of that name that is something else.
fn nologin_role(name: &str) -> String {
    let (literal, identifier) = (quote_literal(name), quote_identifier(name));
    block(&format!(
        "IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal}) THEN \
         CREATE ROLE {identifier} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION; \
         ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal} \
         AND (rolcanlogin OR rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls)) THEN \
         RAISE EXCEPTION 'the role % exists and is not pgate''s', {literal}; END IF;"
    ))
}

/// Takes back whatever the privilege role has been granted in this database, as
/// PostgreSQL's own book of privileges lists it.
fn revoke_all(role: &str) -> String {
    let (literal, identifier) = (quote_literal(role), quote_identifier(role));
    let body = format!(
        "DECLARE held record; BEGIN \
         FOR held IN SELECT DISTINCT d.classid, d.objid, c.relkind, n.nspname AS schema \
           FROM pg_catalog.pg_shdepend d \
           LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid \
           LEFT JOIN pg_catalog.pg_namespace n ON d.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.objid \
           WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'a' \
             AND d.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {literal}) \
             AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
         LOOP \
           IF held.classid = 'pg_catalog.pg_class'::regclass THEN \
             EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM {quoted}', \
               CASE held.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, held.objid::regclass); \
           ELSIF held.classid = 'pg_catalog.pg_proc'::regclass THEN \
             EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM {quoted}', held.objid::regprocedure); \
           ELSIF held.classid = 'pg_catalog.pg_namespace'::regclass THEN \
             EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM {quoted}', held.schema); \
           END IF; \
         END LOOP; END",
        quoted = identifier.replace('\'', "''").replace('%', "%%"),
    );
    format!("DO {}", quote_literal(&body))
}

/// The mask owner, the schema and, for hashes, the key.
fn ground(owner: &MaskOwner, keyed: bool, sql: &mut Vec<String>) {
    let MaskOwner { name, literal, identifier } = owner;
    sql.push(nologin_role(name));
    // An administrator that is no superuser must be a member to hand objects over; since
    // PostgreSQL 16 one that may become it, which having made the role doesn't give.
    sql.push(block(&format!(
        "DECLARE may boolean := pg_catalog.pg_has_role(CURRENT_USER, {literal}, 'MEMBER'); BEGIN \
         IF may AND pg_catalog.current_setting('server_version_num')::integer >= 160000 THEN \
         may := pg_catalog.pg_has_role(CURRENT_USER, {literal}, 'SET'); END IF; \
         IF NOT may THEN GRANT {identifier} TO CURRENT_USER; END IF; END;"
    )));
    sql.push(block(&format!(
        "DECLARE holder name := (SELECT pg_catalog.pg_get_userbyid(nspowner) \
         FROM pg_catalog.pg_namespace WHERE nspname = 'pgate'); BEGIN \
         IF holder IS NULL THEN CREATE SCHEMA pgate AUTHORIZATION {identifier}; \
         ELSIF holder <> {literal} THEN \
         RAISE EXCEPTION 'the schema pgate belongs to % and not to %', holder, {literal} \
         USING HINT = 'After a database was renamed, rename that role too.'; END IF; END;"
    )));
    if keyed {
        sql.push(block(&format!(
            "IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relname = 'hash_key' \
             AND relnamespace = 'pgate'::regnamespace) THEN \
             CREATE TABLE pgate.hash_key (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), \
             inner_key bytea NOT NULL, outer_key bytea NOT NULL); \
             ALTER TABLE pgate.hash_key OWNER TO {identifier}; \
             REVOKE ALL ON pgate.hash_key FROM PUBLIC; \
             INSERT INTO pgate.hash_key (inner_key, outer_key) SELECT {key}, {key}; END IF;",
            key = "pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat(pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid()), 'UTF8')) \
                   || pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat(pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid()), 'UTF8'))"
        )));
    }
}

/// Lets the mask owner read exactly the columns that its functions read.
fn owner_reads(owner: &MaskOwner, functions: &[ReaderFunction], sql: &mut Vec<String>) {
    let mut columns = BTreeMap::<&(String, String), BTreeSet<&str>>::new();
    for function in functions {
        for relation in &function.reads {
            columns.entry(relation).or_default().insert(&function.column);
        }
    }
    let schemas = columns.keys().map(|(schema, _)| schema).collect::<BTreeSet<_>>();
    for schema in schemas {
        let (literal, identifier) = (quote_literal(schema), quote_identifier(schema));
        sql.push(block(&format!(
            "IF NOT pg_catalog.has_schema_privilege({}, {literal}, 'USAGE') THEN \
             GRANT USAGE ON SCHEMA {identifier} TO {}; END IF;",
            owner.literal, owner.identifier
        )));
    }
    for ((schema, name), columns) in columns {
        let relation = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
        let literal = quote_literal(&relation);
        let lacks = columns
            .iter()
            .copied()
            .chain(["ctid", "tableoid"])
            .map(|column| {
                format!(
                    "NOT pg_catalog.has_column_privilege({}, {literal}, {}, 'SELECT')",
                    owner.literal,
                    quote_literal(column)
                )
            })
            .collect::<Vec<_>>()
            .join(" OR ");
        let list = columns.iter().map(|column| quote_identifier(column)).collect::<Vec<_>>();
        sql.push(block(&format!(
            "IF {lacks} THEN GRANT SELECT ({}, ctid, tableoid) ON {relation} TO {}; END IF;",
            list.join(", "),
            owner.identifier
        )));
    }
}

/// Creates one reader function unless it is there already, word for word.
fn function(owner: &MaskOwner, function: &ReaderFunction) -> String {
    let ReaderFunction { name, arguments, returns, parallel, body, .. } = function;
    let MaskOwner { literal, identifier, .. } = owner;
    let body = quote_literal(body);
    let signature = format!("pgate.{name}({arguments})");
    block(&format!(
        "IF NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = 'pgate'::regnamespace \
         AND proname = '{name}' AND prosrc = {body} AND prosecdef \
         AND pg_catalog.pg_get_userbyid(proowner) = {literal}) THEN \
         CREATE OR REPLACE FUNCTION {signature} RETURNS {returns} \
         LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL {parallel} \
         SET search_path = pg_catalog, pg_temp AS {body}; \
         ALTER FUNCTION {signature} OWNER TO {identifier}; \
         REVOKE ALL ON FUNCTION {signature} FROM PUBLIC; END IF;"
    ))
}

fn grants(
    functions: &[ReaderFunction],
    privileges: &Privileges,
    role: &str,
    sql: &mut Vec<String>,
) {
    let literal = quote_literal(role);
    let role = quote_identifier(role);
    sql.push(block(&format!(
        "IF NOT pg_catalog.has_database_privilege({literal}, pg_catalog.current_database(), 'CONNECT') THEN \
         GRANT CONNECT ON DATABASE {} TO {role}; END IF;",
        quote_identifier(&privileges.database)
    )));
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    if !privileges.schemas.is_empty() {
        sql.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", list(&privileges.schemas)));
    }
    if !privileges.creates_in.is_empty() {
        let schemas = list(&privileges.creates_in);
        sql.push(format!("GRANT USAGE, CREATE ON SCHEMA {schemas} TO {role}"));
    }
    for (rights, relations) in &privileges.relations {
        sql.push(format!("GRANT {rights} ON TABLE {} TO {role}", relations.join(", ")));
    }
    for (right, relation) in &privileges.columns {
        sql.push(format!("GRANT {right} ON TABLE {relation} TO {role}"));
    }
    for (rights, sequences) in &privileges.sequences {
        sql.push(format!("GRANT {rights} ON SEQUENCE {} TO {role}", sequences.join(", ")));
    }
    if !privileges.functions.is_empty() {
        let oids = privileges.functions.iter().map(|oid| oid.0.to_string()).collect::<Vec<_>>();
        let body = format!(
            "DECLARE f record; BEGIN FOR f IN SELECT oid FROM pg_catalog.pg_proc \
             WHERE oid = ANY ('{{{}}}'::oid[]) LOOP \
             EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO {}', f.oid::regprocedure); \
             END LOOP; END",
            oids.join(","),
            role.replace('\'', "''").replace('%', "%%"),
        );
        sql.push(format!("DO {}", quote_literal(&body)));
    }
    if !functions.is_empty() {
        sql.push(format!("GRANT USAGE ON SCHEMA pgate TO {role}"));
        let names = functions
            .iter()
            .map(|function| format!("pgate.{}({})", function.name, function.arguments))
            .collect::<Vec<_>>();
        sql.push(format!("GRANT EXECUTE ON FUNCTION {} TO {role}", names.join(", ")));
    }
    if let Some(owner) = &privileges.owner {
        sql.push(format!("GRANT {} TO {role}", quote_identifier(owner)));
    }
}

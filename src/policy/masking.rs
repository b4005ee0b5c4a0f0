//! Mask kinds as SQL expressions, by the type of the column.
//!
//! Owns which kind fits which type, and expressions whose value is always valid
//! for the column's type. It refuses a kind that a type can't show. Every
//! function and operator is named with its schema: the search path must not
//! decide what a mask means. (It lives here and not in `mask`, which re-exports
//! it, because compiling a role needs it and `mask` stands on `policy`.)

use super::MaskKind;
use crate::sql::{Column, quote_identifier, quote_literal};

/// A mask that a column's type can't show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} doesn't fit the type {column_type}; it fits {fits}")]
pub struct MaskError {
    what: String,
    column_type: String,
    fits: &'static str,
}

/// Where a mask expression finds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// The raw column, as SQL (`v."email"`).
    pub value: &'a str,
    /// A sub-select's body that yields the row of two keys, `inner` and `outer`
    /// (`SELECT … FROM pgate.hash_key`), where there is one. `hash` needs it.
    pub key: Option<&'a str>,
}

/// What is known of a type, as far as masks care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// text, citext, name, and with a length in characters varchar(n) and char(n).
    Text(Option<u32>),
    /// smallint, integer, bigint: the largest value.
    Integer(i64),
    /// numeric; with a precision and a scale where it has them.
    Numeric(Option<(u32, i32)>),
    Float,
    Boolean,
    Date,
    Timestamp,
    TimestampTz,
    Json,
    Uuid,
    Bytes,
    /// Something with a neutral value, given as its text.
    Neutral(&'static str),
    /// An enum, a composite, an extension's type: only NULL is surely valid.
    Other,
}

/// The families of PostgreSQL's own types, by `typname`.
fn family(column: &Column) -> Family {
    let modifiers = modifiers(&column.type_text);
    let length = || modifiers.first().and_then(|n| u32::try_from(*n).ok());
    match &*column.base_type {
        "text" | "name" => Family::Text(None),
        "varchar" => Family::Text(length()),
        "bpchar" => Family::Text(Some(length().unwrap_or(1))),
        "int2" => Family::Integer(i16::MAX.into()),
        "int4" => Family::Integer(i32::MAX.into()),
        "int8" => Family::Integer(i64::MAX),
        "numeric" => Family::Numeric(match modifiers.as_slice() {
            [precision, rest @ ..] => u32::try_from(*precision)
                .ok()
                .map(|precision| (precision, rest.first().copied().unwrap_or(0))),
            [] => None,
        }),
        "float4" | "float8" => Family::Float,
        "bool" => Family::Boolean,
        "date" => Family::Date,
        "timestamp" => Family::Timestamp,
        "timestamptz" => Family::TimestampTz,
        "json" | "jsonb" => Family::Json,
        "uuid" => Family::Uuid,
        "bytea" => Family::Bytes,
        "inet" => Family::Neutral("0.0.0.0"),
        "cidr" => Family::Neutral("0.0.0.0/32"),
        "macaddr" => Family::Neutral("00:00:00:00:00:00"),
        "macaddr8" => Family::Neutral("00:00:00:00:00:00:00:00"),
        "time" => Family::Neutral("00:00:00"),
        "timetz" => Family::Neutral("00:00:00+00"),
        "interval" => Family::Neutral("0"),
        "money" | "oid" => Family::Neutral("0"),
        "xml" => Family::Neutral("<redacted/>"),
        "point" => Family::Neutral("(0,0)"),
        "box" => Family::Neutral("(0,0),(0,0)"),
        "lseg" => Family::Neutral("[(0,0),(0,0)]"),
        "path" => Family::Neutral("((0,0))"),
        "polygon" => Family::Neutral("((0,0))"),
        "circle" => Family::Neutral("<(0,0),0>"),
        "tsvector" | "tsquery" | "varbit" => Family::Neutral(""),
        "int4range" | "int8range" | "numrange" | "daterange" | "tsrange" | "tstzrange" => {
            Family::Neutral("empty")
        }
        "int4multirange" | "int8multirange" | "nummultirange" | "datemultirange"
        | "tsmultirange" | "tstzmultirange" => Family::Neutral("{}"),
        base if base == "citext" || base.ends_with(".citext") => Family::Text(None),
        // Arrays' names in pg_type begin with an underscore, in whatever schema.
        base if base.rsplit('.').next().is_some_and(|name| name.starts_with('_'))
            || column.type_text.ends_with("[]") =>
        {
            Family::Neutral("{}")
        }
        _ => Family::Other,
    }
}

/// The numbers in a type's parentheses: `numeric(10,2)` has 10 and 2.
fn modifiers(type_text: &str) -> Vec<i32> {
    let inner = type_text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let Some((inner, _)) = inner else { return Vec::new() };
    inner.split(',').filter_map(|number| number.trim().parse().ok()).collect()
}

/// The type that a masked value is cast to. A domain over one of PostgreSQL's own
/// types gives way to its base type: PostgreSQL describes a domain's column by
/// the base type too, and a masked value need not pass the domain's CHECK.
pub(super) fn shown_type(column: &Column) -> String {
    let text = &*column.type_text;
    let base = &*column.base_type;
    let bare = text.strip_prefix("pg_catalog.").unwrap_or(text);
    let named = |name: &str| {
        bare.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['(', ' ', '[']))
    };
    let domain =
        !base.contains('.') && !named(base) && !named(spelled(base)) && !text.ends_with("[]");
    if domain { format!("pg_catalog.{}", quote_identifier(base)) } else { text.to_owned() }
}

/// How SQL spells one of PostgreSQL's own types whose `typname` is another, as far
/// as a modifier may follow it.
fn spelled(base: &str) -> &str {
    match base {
        "varchar" => "character varying",
        "bpchar" => "character",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "bool" => "boolean",
        "timestamptz" => "timestamp",
        "timetz" => "time",
        "varbit" => "bit varying",
        "char" => "\"char\"",
        other => other,
    }
}

/// What a mask function returns: a type that nobody can drop, so that the function
/// depends on nothing of the database's own.
pub(super) fn returned_type(column: &Column) -> String {
    if column.base_type.contains('.') {
        "pg_catalog.text".to_owned()
    } else {
        format!("pg_catalog.{}", quote_identifier(&column.base_type))
    }
}

/// The type, of PostgreSQL's own, as which values of a column are looked up.
pub(super) fn looked_up_type(column: &Column) -> Result<&'static str, MaskError> {
    Ok(match &*column.base_type {
        "text" | "varchar" => "text",
        "bpchar" => "bpchar",
        "int2" => "int2",
        "int4" => "int4",
        "int8" => "int8",
        "numeric" => "numeric",
        "uuid" => "uuid",
        "date" => "date",
        "inet" => "inet",
        _ => {
            return Err(MaskError {
                what: "lookup".to_owned(),
                column_type: column.type_text.to_string(),
                fits: "text, varchar, char, whole numbers, numeric, uuid, date and inet",
            });
        }
    })
}

/// Whether the mask is made from the value; the others are constants.
pub(super) fn reads_value(kind: &MaskKind) -> bool {
    match kind {
        MaskKind::Redact | MaskKind::Null | MaskKind::Zero | MaskKind::Fixed(_) => false,
        MaskKind::Hash
        | MaskKind::Email
        | MaskKind::Last4
        | MaskKind::Partial { .. }
        | MaskKind::Year
        | MaskKind::Bucket(_) => true,
    }
}

/// What a policy file calls the mask.
pub(super) fn name(kind: &MaskKind) -> &'static str {
    match kind {
        MaskKind::Redact => "redact",
        MaskKind::Null => "null",
        MaskKind::Zero => "zero",
        MaskKind::Hash => "hash",
        MaskKind::Email => "email",
        MaskKind::Last4 => "last4",
        MaskKind::Partial { .. } => "partial",
        MaskKind::Year => "year",
        MaskKind::Bucket(_) => "bucket",
        MaskKind::Fixed(_) => "fixed",
    }
}

/// The masked value as SQL, of the type that the column shows. NULL stays NULL
/// where the mask reads the value.
///
/// # Errors
/// Where the kind doesn't fit the column's type, or needs a source and has none.
pub fn expression(
    kind: &MaskKind,
    column: &Column,
    source: Option<Source<'_>>,
) -> Result<String, MaskError> {
    let shown = shown_type(column);
    if !reads_value(kind) {
        let constant = constant(kind, column)?;
        return Ok(match constant {
            Some(text) => format!("{}::{shown}", quote_literal(&text)),
            None => format!("NULL::{shown}"),
        });
    }
    let Some(source) = source else {
        return Err(refuse(kind, column, "relations whose rows pgate can address"));
    };
    let made = from_value(kind, column, source)?;
    let value = source.value;
    Ok(format!("(CASE WHEN {value} IS NULL THEN NULL ELSE {made} END)::{shown}"))
}

fn refuse(kind: &MaskKind, column: &Column, fits: &'static str) -> MaskError {
    let what = format!("the mask {}", name(kind));
    MaskError { what, column_type: column.type_text.to_string(), fits }
}

/// The constant's text; none is NULL.
fn constant(kind: &MaskKind, column: &Column) -> Result<Option<String>, MaskError> {
    let family = family(column);
    let neutral = |text: &str| Ok(Some(text.to_owned()));
    let redacted = matches!(kind, MaskKind::Redact);
    match (kind, family) {
        (MaskKind::Null, _) => Ok(None),
        (MaskKind::Fixed(text), _) => fixed(text, kind, column, family),
        (_, Family::Text(length)) if redacted => {
            const WORD: &str = "[redacted]";
            match length.and_then(|length| usize::try_from(length).ok()) {
                Some(length) if length < WORD.len() => Ok(Some("*".repeat(length))),
                _ => neutral(WORD),
            }
        }
        (_, Family::Text(_) | Family::Bytes) => neutral(""),
        (_, Family::Integer(_) | Family::Numeric(_) | Family::Float) => neutral("0"),
        (_, Family::Boolean) => neutral("false"),
        (_, Family::Date) => neutral("1970-01-01"),
        (_, Family::Timestamp) => neutral("1970-01-01 00:00:00"),
        (_, Family::TimestampTz) => neutral("1970-01-01 00:00:00+00"),
        (_, Family::Json) => neutral("{}"),
        (_, Family::Uuid) => neutral("00000000-0000-0000-0000-000000000000"),
        (_, Family::Neutral(text)) => neutral(text),
        (_, Family::Other) if &*column.base_type == "bit" => {
            let width = modifiers(&column.type_text).first().copied().unwrap_or(1);
            Ok(Some("0".repeat(usize::try_from(width).unwrap_or(1))))
        }
        (MaskKind::Zero, Family::Other) => {
            Err(refuse(kind, column, "types with a neutral value; use redact or null"))
        }
        (_, Family::Other) => Ok(None),
    }
}

/// A fixed text, checked as far as pgate knows the type: a constant that the type
/// refuses would make every statement fail.
fn fixed(
    text: &str,
    kind: &MaskKind,
    column: &Column,
    family: Family,
) -> Result<Option<String>, MaskError> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fits = match family {
        Family::Text(length) => length
            .and_then(|length| usize::try_from(length).ok())
            .is_none_or(|length| text.chars().count() <= length),
        Family::Integer(max) => {
            text.parse::<i64>().is_ok_and(|number| number <= max && number >= -max - 1)
        }
        Family::Numeric(size) => {
            let plain = text.strip_prefix('-').unwrap_or(text);
            let (whole, fraction) = plain.split_once('.').unwrap_or((plain, "0"));
            let room = size.is_none_or(|(precision, scale)| {
                i64::try_from(whole.trim_start_matches('0').len())
                    .is_ok_and(|length| length <= i64::from(precision) - i64::from(scale))
            });
            digits(whole) && digits(fraction) && room
        }
        Family::Float => text.parse::<f64>().is_ok_and(f64::is_finite),
        Family::Boolean => matches!(text, "true" | "false"),
        Family::Date => {
            let parts = text.split('-').collect::<Vec<_>>();
            matches!(parts.as_slice(), [y, m, d] if y.len() == 4 && m.len() == 2 && d.len() == 2
                && digits(y) && digits(m) && digits(d)
                && *y != "0000"
                && m.parse().is_ok_and(|m: u8| (1..=12).contains(&m))
                && d.parse().is_ok_and(|d: u8| (1..=28).contains(&d)))
        }
        Family::Json => serde_json::from_str::<serde_json::Value>(text).is_ok(),
        Family::Uuid => {
            text.len() == 36
                && text.char_indices().all(|(at, c)| match at {
                    8 | 13 | 18 | 23 => c == '-',
                    _ => c.is_ascii_hexdigit(),
                })
        }
        Family::Neutral(neutral) => text == neutral,
        Family::Timestamp | Family::TimestampTz | Family::Bytes | Family::Other => false,
    };
    if fits && !text.contains('\0') {
        Ok(Some(text.to_owned()))
    } else {
        Err(refuse(
            kind,
            column,
            "texts, whole and decimal numbers, booleans, dates (to the 28th), JSON and uuids, where its text is a value of the type",
        ))
    }
}

/// The expression for a value that isn't NULL, before the cast to the column's type.
fn from_value(kind: &MaskKind, column: &Column, source: Source<'_>) -> Result<String, MaskError> {
    let family = family(column);
    let value = source.value;
    let text = format!("({value})::text");
    match (kind, family) {
        (MaskKind::Email, Family::Text(_)) => Ok(email(&text)),
        (MaskKind::Email, _) => Err(refuse(kind, column, "texts")),
        (MaskKind::Last4, Family::Text(_)) => Ok(partial(&text, 0, 4)),
        (MaskKind::Last4, Family::Integer(_)) => {
            Ok(format!("{value} OPERATOR(pg_catalog.%) 10000"))
        }
        (MaskKind::Last4, Family::Uuid) => Ok(format!(
            "pg_catalog.concat('00000000-0000-0000-0000-00000000', pg_catalog.right({text}, 4))"
        )),
        (MaskKind::Last4, _) => Err(refuse(kind, column, "texts, whole numbers and uuids")),
        (MaskKind::Partial { prefix, suffix }, Family::Text(_)) => {
            Ok(partial(&text, *prefix, *suffix))
        }
        (MaskKind::Partial { .. }, _) => Err(refuse(kind, column, "texts")),
        (MaskKind::Year, Family::Date | Family::Timestamp) => {
            Ok(format!("pg_catalog.date_trunc('year', ({value})::timestamp)"))
        }
        (MaskKind::Year, Family::TimestampTz) => {
            Ok(format!("pg_catalog.date_trunc('year', {value}, 'UTC')"))
        }
        (MaskKind::Year, _) => Err(refuse(kind, column, "dates and timestamps")),
        (MaskKind::Bucket(width), Family::Integer(max)) => {
            Ok(bucket(value, *width, Some(&format!("-{max}"))))
        }
        (MaskKind::Bucket(width), Family::Numeric(size)) => {
            Ok(bucket(value, *width, size.and_then(lowest).as_deref()))
        }
        (MaskKind::Bucket(width), Family::Float) => Ok(format!(
            "pg_catalog.floor(({value})::float8 OPERATOR(pg_catalog./) {width}::float8) OPERATOR(pg_catalog.*) {width}::float8"
        )),
        (MaskKind::Bucket(_), _) => Err(refuse(kind, column, "numbers")),
        (MaskKind::Hash, family) => hash(kind, column, source, family),
        (MaskKind::Redact | MaskKind::Null | MaskKind::Zero | MaskKind::Fixed(_), _) => {
            Err(refuse(kind, column, "constants"))
        }
    }
}

/// The first character, then `***@` and the domain; without an `@`, only the first character.
fn email(text: &str) -> String {
    format!(
        "pg_catalog.concat(pg_catalog.left({text}, 1), '***', \
         CASE WHEN pg_catalog.strpos({text}, '@') OPERATOR(pg_catalog.>) 1 \
         THEN pg_catalog.concat('@', pg_catalog.split_part({text}, '@', -1)) ELSE '' END)"
    )
}

/// The first and the last characters; all stars where nothing would be covered.
fn partial(text: &str, prefix: u32, suffix: u32) -> String {
    let kept = u64::from(prefix) + u64::from(suffix);
    let length = format!("pg_catalog.length({text})");
    format!(
        "CASE WHEN {length} OPERATOR(pg_catalog.<=) {kept} THEN pg_catalog.repeat('*', {length}) \
         ELSE pg_catalog.concat(pg_catalog.left({text}, {prefix}), \
         pg_catalog.repeat('*', ({length} OPERATOR(pg_catalog.-) {kept})::integer), \
         pg_catalog.right({text}, {suffix})) END"
    )
}

/// Rounded down; never below what the type can hold.
fn bucket(value: &str, width: u64, lowest: Option<&str>) -> String {
    let floored = format!(
        "pg_catalog.floor(({value})::numeric OPERATOR(pg_catalog./) {width}::numeric) \
         OPERATOR(pg_catalog.*) {width}::numeric"
    );
    match lowest {
        Some(lowest) => format!("GREATEST({floored}, ({lowest})::numeric)"),
        None => floored,
    }
}

/// The lowest value of numeric(p,s), as text: `-999.99` for (5,2).
fn lowest((precision, scale): (u32, i32)) -> Option<String> {
    let scale = u32::try_from(scale).ok()?;
    let whole = usize::try_from(precision.checked_sub(scale)?).ok()?;
    let fraction = usize::try_from(scale).ok()?;
    let whole = if whole == 0 { "0".to_owned() } else { "9".repeat(whole) };
    Some(if fraction == 0 {
        format!("-{whole}")
    } else {
        format!("-{whole}.{}", "9".repeat(fraction))
    })
}

/// A keyed hash in the shape of the type: SHA-256 nested under two keys, as in NMAC.
fn hash(
    kind: &MaskKind,
    column: &Column,
    source: Source<'_>,
    family: Family,
) -> Result<String, MaskError> {
    let Some(key) = source.key else {
        return Err(refuse(kind, column, "targets with ephemeral credentials"));
    };
    let bytes = match family {
        Family::Bytes => source.value.to_owned(),
        _ => format!("pg_catalog.convert_to(({})::text, 'UTF8')", source.value),
    };
    let digest = format!(
        "(SELECT pg_catalog.sha256(k.outer_key OPERATOR(pg_catalog.||) \
         pg_catalog.sha256(k.inner_key OPERATOR(pg_catalog.||) {bytes})) FROM ({key}) k)"
    );
    let hexadecimal = format!("pg_catalog.encode({digest}, 'hex')");
    // 60 bits as a positive number, brought below the type's largest value.
    let number = |below: &str| {
        format!(
            "(('x' OPERATOR(pg_catalog.||) pg_catalog.left({hexadecimal}, 15))::bit(60)::bigint)::numeric \
             OPERATOR(pg_catalog.%) ({below})::numeric"
        )
    };
    Ok(match family {
        Family::Text(Some(length)) => format!("pg_catalog.left({hexadecimal}, {length})"),
        Family::Text(None) => hexadecimal,
        Family::Bytes => digest,
        Family::Uuid => format!("pg_catalog.left({hexadecimal}, 32)"),
        Family::Integer(max) => number(&max.to_string()),
        Family::Numeric(None) => number("1000000000000000000"),
        Family::Numeric(Some((precision, scale))) => {
            let whole = i64::from(precision) - i64::from(scale);
            match usize::try_from(whole) {
                Ok(whole) if whole > 0 => number(&format!("1{}", "0".repeat(whole.min(18)))),
                _ => return Err(refuse(kind, column, "numbers with digits before the point")),
            }
        }
        Family::Json => format!("pg_catalog.to_json({hexadecimal})::text"),
        _ => return Err(refuse(kind, column, "texts, numbers, uuids, bytea and JSON")),
    })
}

//! `pgate replay`: a session log, told on the terminal at the pace that it happened.

mod results;

use std::{process::ExitCode, time::Duration};

use console::style;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    context::Context,
    failure::{Exit, Failure},
    log::{Source, escaped_lines},
    output::escaped,
};
use crate::{
    grant::Scope,
    journal::{
        Completion, ConnectionStart, Entry, HoldEvent, HoldRecord, Lines, Parameter, Protocol,
        Record, Start, StatementRecord,
    },
    policy::Verdict,
    sql,
};

/// A pause in the session is shortened to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Lines and characters of one statement that are shown.
const MOST_LINES: usize = 60;
const MOST_CHARACTERS: usize = 8_000;
/// A statement on one line that is longer than this is also shown laid out.
const LONG_LINE: usize = 100;
/// Parameters of one statement, and characters of each, that are shown.
const MOST_PARAMETERS: usize = 20;
const MOST_OF_PARAMETER: usize = 200;

/// Show what happened in a session: statements, verdicts, rows and times.
///
/// On a terminal it keeps the session's own pace, with long pauses shortened. It
/// shows what the log says; `pgate log verify` says whether the log can be believed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate replay se_3f8k2m9qv5xw7c1d
  pgate replay session.jsonl --speed 4
  pgate log export se_3f8k2m9qv5xw7c1d | pgate replay - --no-wait")]
pub(crate) struct Args {
    /// A session id, a log file, or - for stdin
    #[arg(value_name = "SESSION|FILE")]
    log: Source,

    /// Play so many times as fast
    #[arg(long, value_name = "N", value_parser = speed, conflicts_with = "no_wait")]
    speed: Option<f64>,

    /// Print everything at once, as it is where stdout is not a terminal
    #[arg(long)]
    no_wait: bool,
}

fn speed(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("give a number greater than 0, such as 4 or 0.5"),
    }
}

/// One line of `--output json`: the entry, and how far into the session it stands.
#[derive(Serialize)]
struct Event<'a> {
    offset_ms: i64,
    #[serde(flatten)]
    entry: &'a Entry,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let output = &context.output;
    let log = args.log.open(context).await?;
    let waits = !args.no_wait && !output.is_json();
    let pace = args.speed.or((waits && output.is_terminal()).then_some(1.0));
    let (mut began, mut last, mut unreadable) = (None, None, 0_u64);
    for line in Lines::new(log) {
        let line = line?;
        let entry = match line.decode() {
            Ok(entry) => entry,
            Err(why) => {
                unreadable += 1;
                if !output.is_json() {
                    let message = format!("line {} can't be read: {why}", line.number);
                    output.line(style(message).red().to_string());
                }
                continue;
            }
        };
        let began = *began.get_or_insert(entry.at);
        let passed = entry.at.duration_since(began);
        if output.is_json() {
            let offset_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
            output.json(&Event { offset_ms, entry: &entry })?;
            continue;
        }
        let told = tell(&entry.record);
        if told.is_empty() {
            continue;
        }
        if let Some(pace) = pace {
            tokio::time::sleep(pause(last, entry.at, pace)).await;
        }
        last = Some(entry.at);
        let clock = style(clock(passed)).dim().to_string();
        for (text, first) in told.iter().zip(std::iter::once(true).chain(std::iter::repeat(false)))
        {
            let margin = if first { clock.as_str() } else { "            " };
            output.line(format!("{margin}  {text}"));
        }
    }
    if unreadable == 0 && began.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    let message = match (began, unreadable) {
        (None, 0) => "the log is empty".into(),
        (_, 1) => "one line is no line of a session log".into(),
        (_, count) => format!("{count} lines are no lines of a session log"),
    };
    let hint = "`pgate log verify` says what is wrong with a log";
    Err(Failure::new(Exit::Failure, "unreadable_log", message).hint(hint))
}

fn pause(last: Option<Timestamp>, at: Timestamp, pace: f64) -> Duration {
    let gap = last.map_or(SignedDuration::ZERO, |last| at.duration_since(last));
    let gap = Duration::try_from(gap).unwrap_or_default().min(LONGEST_PAUSE);
    Duration::try_from_secs_f64(gap.as_secs_f64() / pace).unwrap_or(LONGEST_PAUSE)
}

/// `+00:01:02.345`, without the hours below one.
fn clock(passed: SignedDuration) -> String {
    let millis = passed.as_millis().unsigned_abs();
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let sign = if passed.is_negative() { '-' } else { '+' };
    format!("{sign}{minutes:03}:{seconds:02}.{millis:03}")
}

/// What a record says, in lines for a person. Nothing for signatures.
fn tell(record: &Record) -> Vec<String> {
    match record {
        Record::Start(start) => vec![tell_start(start)],
        Record::Connect(connection) => vec![tell_connection(connection)],
        Record::Host { connection, host } => {
            vec![format!("connection {connection} reached the database at {}", escaped(host))]
        }
        Record::Disconnect(end) => {
            vec![format!("connection {} ended: {}", end.connection, escaped(&end.reason))]
        }
        Record::Planned(planned) => {
            let number = planned.statement;
            let text = format!("[{number}] PostgreSQL is asked how many rows it expects");
            vec![style(text).dim().to_string()]
        }
        Record::Statement(statement) => tell_statement(statement),
        Record::Hold(hold) => vec![tell_hold(hold)],
        Record::Results(results) => results::tell(results),
        Record::Completion(completion) => vec![tell_completion(completion)],
        Record::Setting { connection, name, value } => {
            let text = format!("connection {connection}: {} = {}", escaped(name), escaped(value));
            vec![style(text).dim().to_string()]
        }
        Record::Notification { connection, channel, process, bytes, shown } => {
            let shown = if *shown { "" } else { ", withheld" };
            let channel = escaped(channel);
            let text = format!(
                "connection {connection}: notified on {channel} by process {process} \
                 ({bytes} bytes{shown})"
            );
            vec![style(text).dim().to_string()]
        }
        Record::Alert { connection, message } => {
            let place = connection.map_or(String::new(), |n| format!("connection {n}: "));
            let text = format!("ALERT {place}{}", escaped(message));
            vec![style(text).red().bold().to_string()]
        }
        Record::End(end) => {
            let reason = serde_json::to_value(end.reason).unwrap_or_default();
            let reason = reason.as_str().unwrap_or_default();
            let detail = if end.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", escaped(&end.detail))
            };
            vec![style(format!("session ended ({reason}){detail}")).bold().to_string()]
        }
        Record::Checkpoint { .. } | Record::Receipt(_) => Vec::new(),
    }
}

fn tell_start(start: &Start) -> String {
    let command = start.command.as_ref().map_or(String::new(), |c| format!(", {}", escaped(c)));
    let text = format!("session {}{command} (pgate {})", start.session, escaped(&start.pgate));
    style(text).bold().to_string()
}

fn tell_connection(connection: &ConnectionStart) -> String {
    let application = connection.parameters.get("application_name");
    let application = application.map_or(String::new(), |name| format!(", {}", escaped(name)));
    let (number, transport) = (connection.connection, escaped(&connection.transport));
    format!("connection {number} opened ({transport}{application})")
}

fn tell_statement(record: &StatementRecord) -> Vec<String> {
    let number = record.statement;
    let how = match record.protocol {
        Protocol::Simple => "",
        Protocol::Parse => " prepared",
        Protocol::Execute => " run",
        Protocol::Function => " function call",
    };
    let mut lines = Vec::new();
    match &**record.verdict {
        Verdict::Allow(allowed) => {
            let rule = style(escaped(&allowed.rule.to_string())).dim();
            lines.push(format!("[{number}]{how} {}  {rule}", style("allow").green()));
            if !allowed.masked.is_empty() {
                lines.push(format!("masked: {}", escaped(&allowed.masked.join(", "))));
            }
        }
        Verdict::Hold(held) => {
            let rule = style(escaped(&held.rule.to_string())).dim();
            let word = style("hold").yellow().bold();
            lines.push(format!("[{number}]{how} {word}  {rule}: {}", escaped(&held.reason)));
        }
        Verdict::Deny(denied) => {
            let rule = style(escaped(&denied.rule.to_string())).dim();
            let word = style("deny").red().bold();
            lines.push(format!("[{number}]{how} {word}  {rule}: {}", escaped(&denied.reason)));
        }
    }
    lines.extend(shortened(&record.sql).map(|line| format!("  {line}")));
    lines.extend(laid_out(&record.sql));
    lines.extend(parameters(&record.parameters));
    lines
}

/// The text as the client sent it, up to a length.
fn shortened(sql: &str) -> impl Iterator<Item = String> + '_ {
    let end = sql.char_indices().nth(MOST_CHARACTERS).map_or(sql.len(), |(at, _)| at);
    let (shown, rest) = sql.split_at(end);
    let hidden_lines = shown.lines().count().saturating_sub(MOST_LINES);
    let cut = (hidden_lines > 0 || !rest.is_empty())
        .then(|| format!("… ({} bytes in all; `pgate log export` has them)", sql.len()));
    escaped_lines(shown).take(MOST_LINES).chain(cut)
}

/// A long one-line statement laid out, beside its own text: never instead of it,
/// as a second reader lays it out.
fn laid_out(sql: &str) -> Vec<String> {
    if sql.chars().nth(LONG_LINE).is_none() || sql.trim().contains('\n') {
        return Vec::new();
    }
    let Some(pretty) = sql::pretty(sql) else { return Vec::new() };
    let lines = pretty.lines().take(MOST_LINES);
    let shown = lines.map(|line| style(format!("  | {}", escaped(line))).dim().to_string());
    shown.collect()
}

fn parameters(parameters: &[Parameter]) -> Vec<String> {
    let shown = parameters.iter().zip(1..).take(MOST_PARAMETERS).map(|(parameter, number)| {
        let value = match parameter {
            Parameter::Null => "NULL".into(),
            Parameter::Text(text) => format!("'{}'", clipped(text)),
            Parameter::Binary(base64) => format!("binary {}", clipped(base64)),
            Parameter::Cut { bytes, .. } => format!("{bytes} bytes, not kept"),
        };
        style(format!("  ${number} = {value}")).dim().to_string()
    });
    let mut lines = shown.collect::<Vec<_>>();
    if parameters.len() > MOST_PARAMETERS {
        lines.push(format!("  … and {} parameters more", parameters.len() - MOST_PARAMETERS));
    }
    lines
}

fn clipped(text: &str) -> String {
    let mut shown = escaped(&text.chars().take(MOST_OF_PARAMETER).collect::<String>());
    if text.chars().nth(MOST_OF_PARAMETER).is_some() {
        shown.push('…');
    }
    shown
}

fn tell_hold(record: &HoldRecord) -> String {
    let HoldRecord { statement, hold, event, .. } = record;
    let said = |comment: &str| match comment {
        "" => String::new(),
        comment => format!(": {}", escaped(comment)),
    };
    let told = match event {
        HoldEvent::Raised { reviewers, expires_at, .. } => {
            let who = reviewers.as_ref().map_or(String::from("nobody"), ToString::to_string);
            format!("waits for {}, until {expires_at:.0}", escaped(&who))
        }
        HoldEvent::Approved { by, scope, comment, .. } => {
            let word = style("approved").green();
            let reach = match scope {
                Scope::Once => "",
                Scope::SameStatements => ", with other values too, for this session",
            };
            format!("{word} by {}{reach}{}", escaped(&by.to_string()), said(comment))
        }
        HoldEvent::Covered => {
            format!("{} by an earlier approval of the same statement", style("approved").green())
        }
        HoldEvent::Denied { by, comment, .. } => {
            let word = style("denied").red().bold();
            format!("{word} by {}{}", escaped(&by.to_string()), said(comment))
        }
        HoldEvent::Withdrawn { reason } => format!("withdrawn: {}", escaped(reason)),
        HoldEvent::TimedOut => "nobody answered in time".into(),
        HoldEvent::Failed { reason } => format!("no answer: {}", escaped(reason)),
        HoldEvent::Void { reason } => format!("not run after all: {}", escaped(reason)),
    };
    format!("[{statement}] {} {told}", style(hold).dim())
}

fn tell_completion(completion: &Completion) -> String {
    let Completion { statement, tag, rows, bytes, duration_us, sqlstate, .. } = completion;
    let took = duration(*duration_us);
    match (tag, sqlstate) {
        (_, Some(sqlstate)) if sqlstate == "08007" => {
            let word = style("unknown whether it was done").red();
            format!("[{statement}] {word}, {took}")
        }
        (_, Some(sqlstate)) => {
            let word = style(format!("failed with {}", escaped(sqlstate))).red();
            format!("[{statement}] {word}, {took}")
        }
        (Some(tag), None) => {
            format!("[{statement}] {}, {rows} rows, {bytes} bytes, {took}", escaped(tag))
        }
        (None, None) => format!("[{statement}] broken off, {rows} rows, {bytes} bytes, {took}"),
    }
}

fn duration(micros: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", micros / unit, micros % unit * 10 / unit);
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", tenths(1_000)),
        _ => format!("{} s", tenths(1_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{decode, sample};

    #[test]
    fn the_host_that_a_connection_reached_is_told() {
        let record = Record::Host { connection: 3, host: "db2.example\u{1b}:5432".into() };
        let line = serde_json::to_string(&record).unwrap();
        assert!(line.starts_with(r#"{"type":"host","connection":3,"host":"db2"#), "{line}");
        let told = tell(&record);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("connection 3 reached the database at db2.example"));
        assert!(!told[0].contains('\u{1b}'), "{told:?}");
    }

    #[test]
    fn a_session_is_told_in_order_with_verdicts_rules_and_outcomes() {
        let log = sample::log();
        let told = log
            .iter()
            .flat_map(|line| tell(&decode(line.strip_suffix(b"\n").unwrap()).unwrap().record));
        let told = told.map(|line| console::strip_ansi_codes(&line).into_owned());
        let expected = [
            "session se_14gh2881h4g2864g, psql (pgate 0.1.0)",
            "connection 1 opened (unix, psql)",
            "connection 1: TimeZone = UTC",
            "[1] allow  role.readonly.allow[0] (shop.toml:7)",
            "  SELECT 1",
            "  $1 = NULL",
            r#"  $2 = 'ü"\n'"#,
            "[1] SELECT 1, 1 rows, 12 bytes, 340 µs",
            "[2] deny  role.readonly.deny[0] (shop.toml:7): secrets",
            "  SELECT * FROM shop.api_keys",
            "  $1 = NULL",
            r#"  $2 = 'ü"\n'"#,
            "connection 1 ended: terminated",
            "session ended (closed)",
        ];
        let told = told.collect::<Vec<_>>();
        assert_eq!(told[1..], expected[1..]);
        assert!(told[0].starts_with("session se_") && told[0].ends_with(", psql (pgate 0.1.0)"));
    }

    #[test]
    fn a_question_for_the_planner_is_told_and_the_text_with_the_statement() {
        let told = tell(&sample::planned(2));
        let told = told.iter().map(|line| console::strip_ansi_codes(line)).collect::<Vec<_>>();
        assert_eq!(told, ["[2] PostgreSQL is asked how many rows it expects"]);
    }

    #[test]
    fn every_step_of_a_hold_is_told_with_who_and_why() {
        let told =
            sample::hold_events().into_iter().flat_map(|event| tell(&sample::hold(2, event)));
        let told = told
            .map(|line| console::strip_ansi_codes(&line).into_owned())
            .map(|line| line.replace("ho_0c1g60r30c1g60r3", "HOLD"));
        let expected = [
            "[2] HOLD waits for group:dba, until 2027-01-15T08:10:00Z",
            "[2] HOLD approved by dan@example.com (corp), with other values too, for this \
             session: go ahead",
            "[2] HOLD approved by an earlier approval of the same statement",
            "[2] HOLD denied by dan@example.com (corp)",
            "[2] HOLD withdrawn: the client cancelled it",
            "[2] HOLD nobody answered in time",
            "[2] HOLD no answer: the session ended",
            "[2] HOLD not run after all: the grant has ended",
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_statement_cant_write_to_the_terminal_or_flood_it() {
        let hostile = "SELECT '\x1b[2J\u{9b}31m'\n\tFROM t -- \u{202e}";
        let shown = shortened(hostile).collect::<Vec<_>>();
        assert_eq!(shown, ["SELECT '\\u{1b}[2J\\u{9b}31m'", "    FROM t -- \\u{202e}"]);
        let flood = "SELECT 1;\n".repeat(10_000);
        let shown = shortened(&flood).collect::<Vec<_>>();
        assert_eq!(shown.len(), MOST_LINES + 1);
        assert!(shown[MOST_LINES].contains("100000 bytes"));
        let wide = shortened(&"ü".repeat(100_000)).map(|line| line.len()).sum::<usize>();
        assert!(wide < 2 * MOST_CHARACTERS + 100);
    }

    #[test]
    fn a_long_line_is_laid_out_beside_the_text_as_it_was_sent() {
        let sql = "SELECT id, email, city FROM shop.customers WHERE city = 'Lisbon' AND \
                   id IN (SELECT customer_id FROM shop.orders WHERE total > 100) ORDER BY id";
        let Record::Statement(mut record) = sample::statement(1, sql) else { panic!() };
        let told = tell_statement(&record).join("\n");
        let told = console::strip_ansi_codes(&told).into_owned();
        assert!(told.contains(&format!("\n  {sql}\n  | SELECT")), "{told}");
        record.sql = "SELECT 1".into();
        assert!(!tell_statement(&record).join("\n").contains('|'));
    }

    #[test]
    fn pauses_follow_the_session_at_the_asked_speed_and_are_shortened() {
        let from = |seconds: i64, pace| {
            let at = sample::at(seconds * 1000);
            pause(Some(sample::at(0)), at, pace)
        };
        assert_eq!(pause(None, sample::at(0), 1.0), Duration::ZERO);
        assert_eq!(from(2, 1.0), Duration::from_secs(2));
        assert_eq!(from(2, 4.0), Duration::from_millis(500));
        assert_eq!(from(3600, 1.0), LONGEST_PAUSE);
        assert_eq!(from(-5, 1.0), Duration::ZERO);
        assert_eq!(from(3600, 1e-300), LONGEST_PAUSE);
        for text in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_told_in_their_own_unit() {
        for (micros, shown) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_250, "1.2 ms"),
            (999_999, "999.9 ms"),
            (61_500_000, "61.5 s"),
        ] {
            assert_eq!(duration(micros), shown);
        }
        assert_eq!(clock(SignedDuration::from_millis(62_345)), "+001:02.345");
    }
}

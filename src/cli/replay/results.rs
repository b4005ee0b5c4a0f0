//! The rows of a recorded result as a small table: bounded, and harmless to a terminal.

use console::{measure_text_width, pad_str, style};

use crate::{
    api,
    journal::{ResultSet, ResultsRecord, Value, ValueFormat},
};

/// Sets of one statement, rows and columns of each set, and characters of each value that
/// are shown.
const MOST_SETS: usize = 5;
const MOST_ROWS: usize = 20;
const MOST_COLUMNS: usize = 12;
const MOST_OF_VALUE: usize = 40;

/// What the record says, in lines for a person.
pub(super) fn tell(record: &ResultsRecord) -> Vec<String> {
    let kept = record.sets.iter().map(|set| set.rows.len()).sum::<usize>();
    let number = record.statement;
    let mut lines = vec![match record.cut {
        None => format!("[{number}] the client got {}", rows(kept)),
        Some(cut) => {
            let (more, bytes) = (cut.rows, cut.bytes);
            let word = style(format!("{more} more ({bytes} bytes) not kept")).yellow();
            format!("[{number}] the client got {}, and {word}", rows(kept))
        }
    }];
    for set in record.sets.iter().take(MOST_SETS) {
        lines.extend(table(set).into_iter().map(|line| format!("  {line}")));
    }
    if record.sets.len() > MOST_SETS {
        let more = record.sets.len() - MOST_SETS;
        lines.push(format!("  … and {more} results more; `pgate log export` has them"));
    }
    lines
}

fn rows(count: usize) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

fn table(set: &ResultSet) -> Vec<String> {
    let width = set.rows.iter().map(Vec::len).max().unwrap_or(0);
    let shown = width.min(MOST_COLUMNS);
    let heads = match (&set.columns[..], set.copy) {
        (_, Some(ValueFormat::Text)) => vec!["(data of COPY)".to_owned()],
        (_, Some(ValueFormat::Binary)) => vec!["(data of COPY, binary)".to_owned()],
        ([], None) => (1..=shown).map(|at| format!("({at})")).collect(),
        (columns, None) => columns.iter().take(shown).map(|column| clipped(&column.name)).collect(),
    };
    let cells = set.rows.iter().take(MOST_ROWS);
    let cells = cells.map(|row| row.iter().take(shown).map(cell).collect::<Vec<_>>());
    let cells = cells.collect::<Vec<_>>();
    let widths = (0..shown).map(|at| {
        let column = std::iter::once(&heads).chain(&cells).filter_map(|row| row.get(at));
        column.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
    });
    let widths = widths.collect::<Vec<_>>();
    let line = |row: &[String]| {
        let padded = row.iter().zip(&widths);
        let padded = padded
            .map(|(cell, width)| pad_str(cell, *width, console::Alignment::Left, None))
            .collect::<Vec<_>>();
        let more = if width > shown { " | …" } else { "" };
        format!("{}{more}", padded.join(" | ")).trim_end().to_owned()
    };
    let mut lines = vec![style(line(&heads)).dim().to_string()];
    lines.extend(cells.iter().map(|row| line(row)));
    if set.rows.len() > MOST_ROWS {
        let more = set.rows.len() - MOST_ROWS;
        lines.push(format!("… and {} more; `pgate log export` has them", rows(more)));
    }
    lines
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) => clipped(text),
        Value::Binary { binary } => format!("binary {}", clipped(binary)),
        Value::Cut { cut } => format!("{} bytes, not kept", cut.bytes),
    }
}

fn clipped(text: &str) -> String {
    api::clipped(text, MOST_OF_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Record, sample};

    fn plain(record: &ResultsRecord) -> Vec<String> {
        let told = tell(record);
        told.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect()
    }

    fn one_set(rows: Vec<Vec<Value>>) -> ResultsRecord {
        let set = ResultSet { columns: Vec::new(), copy: None, rows };
        ResultsRecord { connection: 1, statement: 4, sets: vec![set], cut: None }
    }

    #[test]
    fn results_are_told_as_tables_with_what_is_missing() {
        let Record::Results(results) = sample::results(2) else { panic!() };
        let expected = [
            "[2] the client got 3 rows, and 3 more (40 bytes) not kept",
            "  id              | e",
            "  binary AAAAAQ== | a***@example.com",
            "  NULL            | 9000 bytes, not kept",
            "  (data of COPY)",
            r"  1\tx\n",
        ];
        assert_eq!(plain(&results), expected);
    }

    #[test]
    fn a_result_cant_write_to_the_terminal_or_flood_it() {
        let hostile = one_set(vec![vec![Value::Text("\x1b[2J\r\n\u{202e}x | y".into())]]);
        let expected = ["[4] the client got 1 row", "  (1)", r"  \u{1b}[2J\r\n\u{202e}x | y"];
        assert_eq!(plain(&hostile), expected);
        let wide = vec![Value::Text("ü".repeat(100)); MOST_COLUMNS + 1];
        let mut flood = one_set(vec![wide; 1_000]);
        flood.sets = vec![flood.sets.remove(0); 7];
        let told = plain(&flood);
        assert_eq!(told.len(), 1 + MOST_SETS * (MOST_ROWS + 2) + 1);
        assert!(told.iter().map(String::len).sum::<usize>() < 200_000);
        assert!(told[1].ends_with("| …"), "{}", told[1]);
        assert!(told[22].contains("980 rows more"), "{}", told[22]);
        assert!(told.last().unwrap().contains("2 results more"));
    }
}

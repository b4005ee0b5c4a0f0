//! The figures: medians over rounds, ratios within a round, and whether they reach
//! the goals. All tables are Markdown.

use std::collections::BTreeMap;

use super::{
    moments::Resident,
    works::{
        BY_HAND, BY_HAND_THROUGH, COPY_IN, COPY_OUT, DETECTOR, LARGE, LOGINS, MASKED, NEVER_CACHED,
        PIPELINED, PREPARED, PREPARED_ALONE, SIMPLE, SIMPLE_ALONE, Sample,
    },
};

const DIRECT: &str = "direct";
const FORWARDER: &str = "forwarder";
const PGBOUNCER: &str = "pgbouncer";
const PGATE: &str = "pgate";
const PGATE_UNIX: &str = "pgate, Unix socket";

/// The middle one; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// What of a sample is looked at.
#[derive(Debug, Clone, Copy)]
enum Figure {
    Rate,
    Cpu,
    /// Seconds a unit beyond the direct way's.
    AddedLatency,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Work and way to one sample a round, works in the order in which they were done.
    order: Vec<(&'static str, &'static str, &'static str)>,
    samples: BTreeMap<(&'static str, &'static str), Vec<Sample>>,
    /// Way to memory.
    pub(crate) resident: Vec<(&'static str, Resident)>,
    /// Milliseconds to the first row, through `pgate connect` and by psql alone.
    pub(crate) first_row: Option<(f64, f64)>,
    /// Microseconds a recorded statement.
    pub(crate) recording: Option<f64>,
}

impl Results {
    /// Adds one turn's sample.
    pub(crate) fn add(
        &mut self,
        work: &'static str,
        unit: &'static str,
        way: &'static str,
        sample: Sample,
    ) {
        self.samples.entry((work, way)).or_insert_with(|| {
            self.order.push((work, unit, way));
            Vec::new()
        });
        if let Some(samples) = self.samples.get_mut(&(work, way)) {
            samples.push(sample);
        }
    }

    fn values(&self, work: &'static str, way: &'static str, figure: Figure) -> Vec<f64> {
        let of = |way| self.samples.get(&(work, way)).map_or(&[][..], Vec::as_slice);
        match figure {
            Figure::Rate => of(way).iter().map(|sample| sample.rate).collect(),
            Figure::Cpu => of(way).iter().filter_map(|sample| sample.cpu).collect(),
            Figure::AddedLatency => {
                let pairs = of(way).iter().zip(of(DIRECT));
                pairs.map(|(way, direct)| 1.0 / way.rate - 1.0 / direct.rate).collect()
            }
        }
    }

    /// The median over rounds of one figure's ratio.
    fn ratio(
        &self,
        (work, way): (&'static str, &'static str),
        (other_work, other_way): (&'static str, &'static str),
        figure: Figure,
    ) -> Option<f64> {
        let (values, others) =
            (self.values(work, way, figure), self.values(other_work, other_way, figure));
        let ratios = values.iter().zip(&others).map(|(value, other)| value / other);
        median(&ratios.collect::<Vec<_>>())
    }

    /// Every work and way, with ratios.
    pub(crate) fn figures(&self) -> String {
        let mut rows = vec![row(&[
            "work",
            "way",
            "rate /s",
            "of direct",
            "of pgbouncer",
            "CPU µs",
            "of pgbouncer",
            "added µs",
        ])];
        let mut last = "";
        for &(work, unit, way) in &self.order {
            let figure = |figure| median(&self.values(work, way, figure));
            let of = |other, figure| ratio_text(self.ratio((work, way), (work, other), figure));
            let added = figure(Figure::AddedLatency).filter(|_| way != DIRECT);
            let alone = work == PREPARED_ALONE || work == SIMPLE_ALONE;
            rows.push(row(&[
                if work == last { "" } else { work },
                way,
                &number(figure(Figure::Rate), &format!(" {unit}")),
                &of(DIRECT, Figure::Rate),
                &of(PGBOUNCER, Figure::Rate),
                &number(figure(Figure::Cpu), &format!("/{unit}")),
                &of(PGBOUNCER, Figure::Cpu),
                &number(added.filter(|_| alone).map(|seconds| seconds * 1e6), ""),
            ]));
            last = work;
        }
        rows.insert(1, "|---|---|--:|--:|--:|--:|--:|--:|\n".to_owned());
        rows.concat()
    }

    /// What was measured once.
    pub(crate) fn moments(&self) -> String {
        let mut rows = vec![row(&["once", "figure"]), "|---|--:|\n".to_owned()];
        for (way, Resident { idle, peak, crowded }) in &self.resident {
            rows.push(row(&[&format!("{way}: RSS idle"), &number(Some(*idle), " MB")]));
            rows.push(row(&[
                &format!("{way}: RSS at a large result, most"),
                &number(Some(*peak), " MB"),
            ]));
            rows.push(row(&[
                &format!("{way}: RSS with 1,000 idle connections"),
                &number(Some(*crowded), " MB"),
            ]));
        }
        if let Some((through, alone)) = self.first_row {
            rows.push(row(&[
                "pgate connect -- psql, to the first row",
                &number(Some(through), " ms"),
            ]));
            rows.push(row(&["psql alone, to the first row", &number(Some(alone), " ms")]));
        }
        if self.recording.is_some() {
            rows.push(row(&[
                "recording a statement and its outcome",
                &number(self.recording, " µs CPU"),
            ]));
        }
        rows.concat()
    }

    /// The goals, and what was reached.
    pub(crate) fn goals(&self) -> String {
        use Figure::{AddedLatency, Cpu, Rate};
        use Limit::{Least, Most};
        let same = |work, way, other, figure| self.ratio((work, way), (work, other), figure);
        let pgate = self.resident.iter().find(|(way, _)| *way == PGATE).map(|(_, memory)| memory);
        let goals = [
            (
                "1",
                "prepared, 16 clients: CPU of pgbouncer's",
                same(PREPARED, PGATE, PGBOUNCER, Cpu),
                Most(1.0),
            ),
            (
                "1",
                "prepared, 16 clients: throughput of pgbouncer's",
                same(PREPARED, PGATE, PGBOUNCER, Rate),
                Least(1.0),
            ),
            (
                "1",
                "simple, 16 clients: CPU of pgbouncer's",
                same(SIMPLE, PGATE, PGBOUNCER, Cpu),
                Most(1.0),
            ),
            (
                "1",
                "simple, 16 clients: throughput of pgbouncer's",
                same(SIMPLE, PGATE, PGBOUNCER, Rate),
                Least(1.0),
            ),
            (
                "1",
                "prepared, Unix socket: CPU of pgbouncer's by TCP",
                same(PREPARED, PGATE_UNIX, PGBOUNCER, Cpu),
                Most(0.85),
            ),
            (
                "1",
                "simple, Unix socket: CPU of pgbouncer's by TCP",
                same(SIMPLE, PGATE_UNIX, PGBOUNCER, Cpu),
                Most(0.85),
            ),
            (
                "2",
                "prepared, 1 client: added latency of the forwarder's",
                same(PREPARED_ALONE, PGATE, FORWARDER, AddedLatency),
                Most(1.25),
            ),
            (
                "2",
                "prepared, 1 client: added latency of pgbouncer's",
                same(PREPARED_ALONE, PGATE, PGBOUNCER, AddedLatency),
                Most(1.0),
            ),
            (
                "2",
                "simple, 1 client: added latency of the forwarder's",
                same(SIMPLE_ALONE, PGATE, FORWARDER, AddedLatency),
                Most(1.25),
            ),
            (
                "2",
                "simple, 1 client: added latency of pgbouncer's",
                same(SIMPLE_ALONE, PGATE, PGBOUNCER, AddedLatency),
                Most(1.0),
            ),
            (
                "2",
                "pipelined: throughput of direct",
                same(PIPELINED, PGATE, DIRECT, Rate),
                Least(0.90),
            ),
            (
                "3",
                "1M-row SELECT: CPU of pgbouncer's",
                same(LARGE, PGATE, PGBOUNCER, Cpu),
                Most(0.75),
            ),
            (
                "3",
                "1M-row SELECT: throughput of direct",
                same(LARGE, PGATE, DIRECT, Rate),
                Least(0.95),
            ),
            (
                "3",
                "COPY out: CPU of pgbouncer's",
                same(COPY_OUT, PGATE, PGBOUNCER, Cpu),
                Most(0.75),
            ),
            (
                "3",
                "COPY out: throughput of direct",
                same(COPY_OUT, PGATE, DIRECT, Rate),
                Least(0.95),
            ),
            ("3", "COPY in: CPU of pgbouncer's", same(COPY_IN, PGATE, PGBOUNCER, Cpu), Most(0.6)),
            (
                "3",
                "1M-row SELECT with detection: CPU of pgbouncer's",
                same(LARGE, DETECTOR, PGBOUNCER, Cpu),
                Most(1.0),
            ),
            (
                "4",
                "distinct statements: CPU of the cached case's",
                self.ratio((NEVER_CACHED, PGATE), (SIMPLE, PGATE), Cpu),
                Most(1.5),
            ),
            ("5", "recording: µs CPU a statement", self.recording, Most(3.0)),
            (
                "6",
                "connect to first row, ms",
                self.first_row.map(|(through, _)| through),
                Most(150.0),
            ),
            ("6", "new connections: rate of direct", same(LOGINS, PGATE, DIRECT, Rate), Least(0.5)),
            (
                "6",
                "new connections: CPU of pgbouncer's",
                same(LOGINS, PGATE, PGBOUNCER, Cpu),
                Most(2.0),
            ),
            ("7", "1,000 idle connections: MB", pgate.map(|memory| memory.crowded), Most(64.0)),
            (
                "7",
                "large result: MB above idle",
                pgate.map(|memory| memory.peak - memory.idle),
                Most(33.5),
            ),
            (
                "8",
                "masked point select: throughput of the mask by hand, direct",
                same(MASKED, PGATE, BY_HAND, Rate),
                Least(0.9),
            ),
            (
                "8",
                "the same, the mask by hand also through pgate",
                same(MASKED, PGATE, BY_HAND_THROUGH, Rate),
                Least(0.9),
            ),
        ];
        let mut rows = vec![
            row(&["goal", "", "wanted", "measured", "reached"]),
            "|---|---|--:|--:|---|\n".to_owned(),
        ];
        for (number, what, measured, limit) in goals {
            let (wanted, reached) = match limit {
                Most(most) => (format!("≤ {most}"), measured.map(|value| value <= most)),
                Least(least) => (format!("≥ {least}"), measured.map(|value| value >= least)),
            };
            let reached = match reached {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "not measured",
            };
            rows.push(row(&[number, what, &wanted, &ratio_text(measured), reached]));
        }
        rows.concat()
    }
}

/// Which side of a figure is good.
enum Limit {
    Most(f64),
    Least(f64),
}

fn row(cells: &[&str]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn ratio_text(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

/// Three digits or so: more would pretend.
fn number(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let digits = if value.abs() >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$}{unit}")
}

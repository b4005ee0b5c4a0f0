//! Server versions with known holes through which values show.

use super::{Finding, Mend, Severity, Subject, Survey};

/// A hole, and for each major version the minor one that closes it.
struct Hole {
    name: &'static str,
    shows: &'static str,
    closed: &'static [(u32, u32)],
}

const HOLES: [Hole; 2] = [
    Hole {
        name: "CVE-2024-4317",
        shows: "pg_stats_ext shows values of rows to users who may not read them",
        closed: &[(14, 12), (15, 7), (16, 3)],
    },
    Hole {
        name: "CVE-2025-8713",
        shows: "the planner's statistics show values of rows to users who may not read them",
        closed: &[(13, 22), (14, 19), (15, 14), (16, 10), (17, 6)],
    },
];

pub(super) fn holes(subject: &Subject<'_>, survey: Option<&Survey>, findings: &mut Vec<Finding>) {
    let version = subject.catalog.server_version_num();
    let (major, minor) = (version / 10_000, version % 10_000);
    let holes = open(version);
    let covers = subject.views.iter().any(|view| !view.covers.columns.is_empty());
    let severity = if covers { subject.broken() } else { Severity::Warning };
    let why = if covers {
        "masked and hidden values can be sampled by whoever has a session's password"
    } else {
        "values can be sampled by whoever has a session's password"
    };
    let finding = |code, problem: String, mend: String| Finding {
        severity,
        code,
        object: format!("PostgreSQL {major}.{minor}"),
        roles: Vec::new(),
        rule: None,
        problem,
        why: why.to_owned(),
        mend: vec![Mend::Do(mend)],
    };
    for (hole, closed) in &holes {
        findings.push(finding(
            "server-version",
            format!("PostgreSQL {major}.{minor} has {}: {}", hole.name, hole.shows),
            format!("upgrade the server to {major}.{closed} or newer"),
        ));
    }
    // The new binaries close it for databases that they made; older ones need a script.
    if survey.is_some_and(|survey| !survey.statistics_repaired)
        && !holes.iter().any(|(hole, _)| hole.name == HOLES[0].name)
    {
        findings.push(finding(
            "statistics-unrepaired",
            format!("this database still has the views of {}: {}", HOLES[0].name, HOLES[0].shows),
            "run the server's fix-CVE-2024-4317.sql in every database of the cluster".to_owned(),
        ));
    }
}

/// The holes of a server (`server_version_num`), each with the minor version that closes it.
fn open(version: u32) -> Vec<(&'static Hole, u32)> {
    let (major, minor) = (version / 10_000, version % 10_000);
    let closed = |hole: &'static Hole| {
        let (_, closed) = hole.closed.iter().find(|(of, _)| *of == major)?;
        (minor < *closed).then_some((hole, *closed))
    };
    HOLES.iter().filter_map(closed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_open_until_the_version_that_closes_it() {
        let names = |version| open(version).iter().map(|(hole, _)| hole.name).collect::<Vec<_>>();
        let (views, planner) = ("CVE-2024-4317", "CVE-2025-8713");
        for (version, expected) in [
            (140_011, vec![views, planner]),
            (140_012, vec![planner]),
            (140_019, vec![]),
            (150_006, vec![views, planner]),
            (150_013, vec![planner]),
            (150_014, vec![]),
            (160_002, vec![views, planner]),
            (170_005, vec![planner]),
            (170_006, vec![]),
            (180_000, vec![]),
        ] {
            assert_eq!(names(version), expected, "{version}");
        }
    }
}

//! The CI definitions: actions are pinned to a commit, and jobs may do little.

use std::{fs, path::Path};

fn definitions() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workflows = fs::read_dir(root.join(".github/workflows")).expect("the workflows");
    let mut paths = workflows.map(|entry| entry.expect("a workflow").path()).collect::<Vec<_>>();
    paths.push(root.join("action.yml"));
    let read = |path: &std::path::PathBuf| fs::read_to_string(path).expect("a definition");
    paths.iter().map(|path| (path.display().to_string(), read(path))).collect()
}

fn is_pinned(reference: &str) -> bool {
    let commit = reference.split_once('@').map_or("", |(_, rest)| rest.trim());
    let (commit, version) = commit.split_once(" # v").unwrap_or((commit, ""));
    commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()) && !version.is_empty()
}

#[test]
fn every_action_is_pinned_to_a_commit_and_says_its_version() {
    assert!(!is_pinned("actions/checkout@v5"));
    assert!(!is_pinned("actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8"));
    let mut seen = 0;
    for (file, text) in definitions() {
        for line in text.lines().map(|line| line.trim_start_matches([' ', '-'])) {
            let Some(reference) = line.strip_prefix("uses:") else { continue };
            seen += 1;
            assert!(is_pinned(reference), "{file}: {line}");
        }
    }
    assert!(seen > 5, "the definitions are elsewhere");
}

#[test]
fn a_workflow_starts_with_read_access_and_one_run_at_a_time() {
    for (file, text) in definitions() {
        if file.ends_with("action.yml") {
            continue;
        }
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{file}");
        assert!(text.contains("\nconcurrency:\n"), "{file}");
        assert!(!text.contains("pull_request_target"), "{file}");
    }
}

#[test]
fn nothing_that_others_write_is_spliced_into_a_script() {
    for (file, text) in definitions() {
        let mut script_depth = None;
        for line in text.lines() {
            let depth = line.len() - line.trim_start().len();
            if script_depth.is_some_and(|at| depth <= at && !line.trim().is_empty()) {
                script_depth = None;
            }
            if line.trim_start().trim_start_matches("- ").starts_with("run:") {
                script_depth = Some(depth);
            }
            assert!(script_depth.is_none() || !line.contains("${{"), "{file}: {line}");
        }
    }
}

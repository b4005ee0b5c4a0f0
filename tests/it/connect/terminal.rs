//! `pgate connect` on a real terminal: a pseudo-terminal of `script`, into which this
//! types, Ctrl-C included.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use super::{Desk, PATIENCE, ended, stage};
use crate::harness::run;

const CTRL_C: &str = "\x03";

struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    /// What has been shown since the last thing that was waited for.
    shown: String,
}

impl Terminal {
    /// Runs `pgate` on a terminal of its own.
    fn run(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words =
            words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''")));
        // No shell in between, which would hear Ctrl-C too.
        let line = format!("exec {}", words.collect::<Vec<_>>().join(" "));
        let mut script = Command::new("script");
        if cfg!(target_os = "macos") {
            script.args(["-q", "/dev/null", "sh", "-c", &line]);
        } else {
            script.args(["-qec", &line, "/dev/null"]);
        }
        script.env_clear();
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.env("TERM", "xterm").env("PSQL_PAGER", "").env("SHELL", "/bin/sh");
        script.current_dir(command.get_current_dir().unwrap());
        let mut script = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("`script` is there, as util-linux or the system brings it");
        let keyboard = script.stdin.take().unwrap();
        let mut output = script.stdout.take().unwrap();
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                if send.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { script, keyboard, screen, shown: String::new() }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Waits until this shows up; returns what was shown up to it.
    fn shows(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            let Ok(bytes) = self.screen.recv_timeout(left) else {
                panic!("no {text:?} in {:?}", self.shown);
            };
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Types a line and returns what it shows up to the next prompt.
    fn line(&mut self, line: &str) -> String {
        self.types(&format!("{line}\n"));
        self.shows("shop=> ")
    }

    fn ends(mut self) -> Option<i32> {
        ended(&mut self.script)
    }
}

#[tokio::test]
async fn psql_on_a_terminal_works_as_it_does_without_pgate() {
    let desk = Desk::new(stage().await, "terminal");
    let grant = desk.grant("10m");
    let connect = ["connect", "prod-db", "--grant", &grant, "--", "psql", "-X"];
    let mut terminal = Terminal::run(&desk.pgate(&connect));
    terminal.shows("shop=> ");
    let session = terminal.line(r"\echo `echo $PGATE_SESSION $PGHOST`");
    let ids = session.find("se_").and_then(|at| session[at..].lines().next()).unwrap();
    let (session, socket) = ids.trim().split_once(' ').unwrap();

    let described = terminal.line(r"\d customers");
    assert!(described.contains("email") && described.contains("customers_pkey"), "{described}");
    let listed = terminal.line(r"\dt+");
    assert!(listed.contains("customers") && listed.contains("support_tickets"), "{listed}");
    let functions = terminal.line(r"\df");
    assert!(functions.contains("order_age"), "{functions}");
    let copied =
        terminal.line(r"\copy (SELECT id, email FROM customers ORDER BY id LIMIT 3) TO STDOUT");
    assert!(copied.matches("***@").count() == 3, "{copied}");
    let copied = terminal.line(r"\copy support_tickets TO '/dev/null'");
    assert!(copied.contains("COPY "), "{copied}");
    assert!(terminal.line("SELECT email FROM customers LIMIT 1;").contains("***@"));

    // \watch runs until Ctrl-C, which ends it and nothing else.
    terminal.types("SELECT 'watched ' || 6 * 7 \\watch 0.2\n");
    terminal.shows("watched 42");
    terminal.shows("watched 42");
    terminal.types(CTRL_C);
    terminal.shows("shop=> ");
    // At its prompt Ctrl-C only gives a new one.
    terminal.types("SELECT 'never");
    // While it gets ready for the next line, psql lets a Ctrl-C go by.
    terminal.shows("never");
    terminal.types(CTRL_C);
    terminal.shows("shop=> ");
    // A query that runs is cancelled, and the session kept: inside its transaction, too.
    terminal.types("BEGIN;\n");
    terminal.shows("shop=*> ");
    terminal.types("SELECT pg_sleep(50);\n");
    desk.query_runs(session, "pg_sleep").await;
    terminal.types(CTRL_C);
    terminal.shows("canceling statement due to user request");
    terminal.shows("shop=!> ");
    assert!(terminal.line("ROLLBACK;").contains("ROLLBACK"));
    assert!(terminal.line("SELECT 6 * 7;").contains("42"));

    terminal.types("\\q\n");
    assert_eq!(terminal.ends(), Some(0));
    desk.left_nothing(session, socket, "(closed)").await;
}

#[tokio::test]
async fn ctrl_c_on_a_terminal_ends_the_waiting_the_serving_and_the_command() {
    let stage = stage().await;
    let desk = Desk::new(stage, "prompt");
    // While it waits for a reviewer.
    let ask = ["connect", "prod-db", "--role", "writer", "--reason", "by hand", "--", "psql"];
    let mut terminal = Terminal::run(&desk.pgate(&ask));
    terminal.shows("waits for a reviewer");
    terminal.types(CTRL_C);
    terminal.shows("still pending");
    assert_eq!(terminal.ends(), Some(125));
    let grants = run(stage, "prompt", &["grants", "--output", "json"]).exits(0);
    assert!(grants.stdout.contains("pending"), "{grants}");

    // While it serves.
    let grant = desk.grant("10m");
    let mut terminal = Terminal::run(&desk.pgate(&["connect", "prod-db", "--grant", &grant]));
    terminal.shows("Ctrl-C ends the session");
    terminal.types(CTRL_C);
    assert_eq!(terminal.ends(), Some(0));

    // A command that Ctrl-C ends hears it once: from the terminal.
    let script = "trap 'echo heard; n=$((n+1))' INT; echo $PGATE_SESSION $PGHOST; \
                  while test \"$n\" != 1; do sleep 0.1; done; sleep 1; echo so many: $n; exit 3";
    let connect = ["connect", "prod-db", "--grant", &grant, "--", "sh", "-c", script];
    let mut terminal = Terminal::run(&desk.pgate(&connect));
    terminal.shows("se_");
    let ids = format!("se_{}", terminal.shows("\n").trim());
    std::thread::sleep(Duration::from_millis(100));
    terminal.types(CTRL_C);
    terminal.shows("so many: 1");
    assert_eq!(terminal.ends(), Some(3));
    let (session, socket) = ids.split_once(' ').unwrap();
    desk.left_nothing(session, socket, "(closed)").await;
}

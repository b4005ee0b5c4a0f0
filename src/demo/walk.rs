//! The walk through the product, as data: what a person types, as whom, and what
//! must come of it. A step that doesn't behave as it says here fails the demo.

/// One command of the walk.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What this step is, in a few words.
    pub title: &'static str,
    /// What to look at, in a sentence or two.
    pub words: &'static str,
    /// Whose shell it is typed in: `ana` or `dan`.
    pub person: &'static str,
    /// What follows `pgate`. `{grant}`, `{session}` and `{hold}` stand for the last ids
    /// that were printed.
    pub arguments: &'static [&'static str],
    /// What is typed elsewhere as soon as this waits for a reviewer.
    pub meanwhile: &'static [Step],
    /// What must come of it.
    pub outcome: Outcome,
}

/// What a step must come to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The exit code.
    pub code: i32,
    /// What it must say.
    pub says: &'static [&'static str],
    /// What it must not let slip.
    pub hides: &'static [&'static str],
}

const fn outcome(code: i32, says: &'static [&'static str]) -> Outcome {
    Outcome { code, says, hides: &[] }
}

/// The walk.
pub const STEPS: &[Step] = &[
    Step {
        title: "Log in",
        words: "Ana is in engineering. She logs in with the device flow: a code, confirmed in a \
                browser (here the demo does that at the development issuer's page).",
        person: "ana",
        arguments: &["login", "--no-browser"],
        meanwhile: &[],
        outcome: outcome(0, &["ana@example.com"]),
    },
    Step {
        title: "What may I ask for?",
        words: "Nobody has standing access. The policy says who may ask for what.",
        person: "ana",
        arguments: &["targets"],
        meanwhile: &[],
        outcome: outcome(0, &["prod-db", "readonly", "writer"]),
    },
    Step {
        title: "Ask for access, with a reason",
        words: "Reading is approved by the policy itself. The grant ends by itself, too.",
        person: "ana",
        arguments: &[
            "request",
            "prod-db",
            "--role",
            "readonly",
            "--reason",
            "INC-4312 refunds stuck",
        ],
        meanwhile: &[],
        outcome: outcome(0, &["readonly"]),
    },
    Step {
        title: "Read, masked",
        words: "Any client works; this is plain psql. Personal data comes out masked, by \
                PostgreSQL itself: the session's database role can't read those columns.",
        person: "ana",
        arguments: &[
            "connect",
            "prod-db",
            "--",
            "psql",
            "-c",
            "SELECT id, name, email, ssn, birth_date, income, phones FROM customers ORDER BY id \
             LIMIT 5",
        ],
        meanwhile: &[],
        outcome: Outcome {
            code: 0,
            says: &["***@", "(5 rows)"],
            hides: &["ava.", "@example.com5", "+1-555"],
        },
    },
    Step {
        title: "Try to write",
        words: "A refused statement says which rule refused it and what to do next. Nothing was \
                sent to the tables, and the session would go on.",
        person: "ana",
        arguments: &[
            "connect",
            "prod-db",
            "--",
            "psql",
            "-c",
            "DELETE FROM customers WHERE id = 7",
        ],
        meanwhile: &[],
        outcome: outcome(1, &["ERROR", "delete"]),
    },
    Step {
        title: "Try to read what is secret",
        words: "`deny` beats `allow`, whatever the statement looks like.",
        person: "ana",
        arguments: &[
            "connect",
            "prod-db",
            "--",
            "psql",
            "-c",
            "WITH k AS (SELECT * FROM api_keys) SELECT name, secret FROM k",
        ],
        meanwhile: &[],
        outcome: Outcome { code: 1, says: &["ERROR", "api_keys"], hides: &["sk_sample"] },
    },
    Step {
        title: "Ask for more",
        words: "Writing takes the word of somebody in dba, never one's own. Without --no-wait, \
                this would wait for it.",
        person: "ana",
        arguments: &[
            "request",
            "prod-db",
            "--role",
            "writer",
            "--reason",
            "INC-4312 close the stuck tickets",
            "--no-wait",
        ],
        meanwhile: &[],
        outcome: outcome(5, &["gr_"]),
    },
    Step {
        title: "Somebody else logs in",
        words: "Dan is a database administrator, on a machine of his own.",
        person: "dan",
        arguments: &["login", "--no-browser"],
        meanwhile: &[],
        outcome: outcome(0, &["dan@example.com"]),
    },
    Step {
        title: "What waits for me?",
        words: "He sees who asks for what, and why.",
        person: "dan",
        arguments: &["inbox"],
        meanwhile: &[],
        outcome: outcome(0, &["ana@example.com", "INC-4312 close the stuck tickets"]),
    },
    Step {
        title: "Approve",
        words: "",
        person: "dan",
        arguments: &["approve", "{grant}", "--comment", "go ahead, tickets only"],
        meanwhile: &[],
        outcome: outcome(0, &["{grant}"]),
    },
    Step {
        title: "Write, under the approved grant",
        words: "One statement is fine; the other forgot its WHERE clause.",
        person: "ana",
        arguments: &[
            "connect",
            "prod-db",
            "--role",
            "writer",
            "--",
            "psql",
            "-c",
            "UPDATE support_tickets SET state = 'closed' WHERE id = 3",
            "-c",
            "DELETE FROM support_tickets",
        ],
        meanwhile: &[],
        outcome: outcome(1, &["UPDATE 1", "ERROR", "WHERE"]),
    },
    Step {
        title: "A statement that waits for somebody",
        words: "Deleting payments is held. psql just waits; Dan sees what exactly would run and \
                what PostgreSQL expects of it, and his word lets it go on.",
        person: "ana",
        arguments: &[
            "connect",
            "prod-db",
            "--role",
            "writer",
            "--",
            "psql",
            "-c",
            "DELETE FROM payments WHERE id = 7",
        ],
        meanwhile: &[
            Step {
                title: "",
                words: "",
                person: "dan",
                arguments: &["inbox", "show", "{hold}"],
                meanwhile: &[],
                outcome: outcome(0, &["DELETE FROM payments WHERE id = 7", "about 1 row"]),
            },
            Step {
                title: "",
                words: "",
                person: "dan",
                arguments: &["approve", "{hold}", "--comment", "paid twice, go ahead"],
                meanwhile: &[],
                outcome: outcome(0, &["approved once by dan@example.com"]),
            },
        ],
        outcome: outcome(0, &["NOTICE", "{hold}", "DELETE 1"]),
    },
    Step {
        title: "The sessions",
        words: "Each `connect` was one session, with its own database role, gone by now.",
        person: "ana",
        arguments: &["sessions"],
        meanwhile: &[],
        outcome: outcome(0, &["se_", "writer", "readonly"]),
    },
    Step {
        title: "Check the evidence",
        words: "The log of a session is hash-chained, signed, and countersigned by the control \
                plane while the session runs.",
        person: "ana",
        arguments: &["log", "verify", "{session}"],
        meanwhile: &[],
        outcome: outcome(0, &["{session}"]),
    },
    Step {
        title: "See what happened",
        words: "",
        person: "ana",
        arguments: &["replay", "{session}"],
        meanwhile: &[],
        outcome: outcome(
            0,
            &["DELETE FROM payments", "approved by dan@example.com", "paid twice, go ahead"],
        ),
    },
];

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Surprise {
    /// Another exit code.
    #[error("it exited with {found}, not {expected}")]
    Code {
        /// What it exited with, or the signal that ended it.
        found: String,
        /// What it should have exited with.
        expected: i32,
    },
    /// Something isn't said.
    #[error("it did not say \"{0}\"")]
    Silent(String),
    /// Something is said that must not be.
    #[error("it said \"{0}\", which must stay hidden")]
    Slip(String),
}

impl Outcome {
    /// Compares what a command did with what it should have done. `code` is none
    /// when a signal ended it.
    pub fn check(&self, code: Option<i32>, output: &str, seen: &Seen) -> Result<(), Surprise> {
        if code != Some(self.code) {
            let found = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
            return Err(Surprise::Code { found, expected: self.code });
        }
        let missing = self.says.iter().map(|text| seen.fill(text));
        if let Some(text) = missing.into_iter().find(|text| !output.contains(text.as_str())) {
            return Err(Surprise::Silent(text));
        }
        match self.hides.iter().find(|text| output.contains(**text)) {
            Some(text) => Err(Surprise::Slip((*text).to_owned())),
            None => Ok(()),
        }
    }
}

/// The ids that were printed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    grant: String,
    session: String,
    hold: String,
}

impl Seen {
    /// Takes note of the first grant, session and hold in an output.
    pub fn note(&mut self, output: &str) {
        let places =
            [("gr_", &mut self.grant), ("se_", &mut self.session), ("ho_", &mut self.hold)];
        for (prefix, place) in places {
            let mut words = output.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            if let Some(id) = words.find(|word| word.starts_with(prefix)) {
                id.clone_into(place);
            }
        }
    }

    /// Puts the ids where a text has `{grant}`, `{session}` and `{hold}`.
    pub fn fill(&self, text: &str) -> String {
        let text = text.replace("{grant}", &self.grant).replace("{session}", &self.session);
        text.replace("{hold}", &self.hold)
    }
}

/// A command line as a person types it in a shell.
pub fn typed(arguments: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@{},+%".contains(letter);
    let quote = |argument: &String| {
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else if argument.contains(['"', '$', '`', '\\', '!']) {
            format!("'{}'", argument.replace('\'', r"'\''"))
        } else {
            format!("\"{argument}\"")
        }
    };
    let words = arguments.iter().map(quote).collect::<Vec<_>>();
    format!("pgate {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_held_to_its_exit_code_and_to_what_it_says_and_hides() {
        let outcome = Outcome { code: 0, says: &["a {grant}"], hides: &["secret"] };
        let mut seen = Seen::default();
        seen.note("is gr_0123456789abcdef, active; and gr_9999999999999999");
        let cases = [
            (Some(0), "a gr_0123456789abcdef b", Ok(())),
            (Some(1), "a gr_0123456789abcdef", Err("it exited with 1, not 0")),
            (None, "a gr_0123456789abcdef", Err("it exited with a signal, not 0")),
            (Some(0), "b", Err("it did not say \"a gr_0123456789abcdef\"")),
            (
                Some(0),
                "a gr_0123456789abcdef secret",
                Err("it said \"secret\", which must stay hidden"),
            ),
        ];
        for (code, output, expected) in cases {
            let found = outcome.check(code, output, &seen).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{output}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        let cases = [
            ("connect prod-db -- psql", "pgate connect prod-db -- psql"),
            ("-c|SELECT 1", "pgate -c \"SELECT 1\""),
            ("-c|UPDATE t SET s = 'x'", "pgate -c \"UPDATE t SET s = 'x'\""),
            ("-c|SELECT \"a\", 'b'", r#"pgate -c 'SELECT "a", '\''b'\'''"#),
        ];
        for (arguments, expected) in cases {
            let by = if arguments.contains('|') { '|' } else { ' ' };
            let arguments = arguments.split(by).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(typed(&arguments), expected);
        }
    }
}

use std::fs;

use super::*;

struct House {
    home: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary folder") }
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.home.path().join(path);
        fs::create_dir_all(file.parent().expect("inside the home")).expect("a folder");
        fs::write(file, text).expect("a file");
    }

    fn load(&self, flags: &Flags, environment: &[(&str, &str)]) -> Result<Settings, Error> {
        let lookup = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        let folders = Folders::under(self.home.path());
        let inside = self.home.path().join("work/deep");
        fs::create_dir_all(&inside).expect("a folder");
        Settings::load(flags, lookup, &inside, &folders)
    }
}

#[test]
fn the_strongest_layer_wins_and_says_where_it_stands() {
    let house = House::new();
    let source = |flags: &Flags, environment: &[(&str, &str)]| {
        let settings = house.load(flags, environment).expect("good settings");
        settings.server.map(|server| (server.value.to_string(), server.source.to_string()))
    };
    let home = house.home.path().display().to_string();

    assert_eq!(source(&Flags::default(), &[]), None);
    house.write(".config/pgate/config.toml", "\nserver = \"https://user.example\"\n");
    assert_eq!(
        source(&Flags::default(), &[]),
        Some(("https://user.example/".into(), format!("{home}/.config/pgate/config.toml:2")))
    );
    house.write("work/.pgate.toml", "server = \"https://project.example\"\n");
    assert_eq!(
        source(&Flags::default(), &[]),
        Some(("https://project.example/".into(), format!("{home}/work/.pgate.toml:1")))
    );
    let environment = [("PGATE_SERVER", "https://env.example")];
    assert_eq!(
        source(&Flags::default(), &environment),
        Some(("https://env.example/".into(), "environment PGATE_SERVER".into()))
    );
    let flags = Flags { server: Some("https://flag.example".into()), output: None };
    assert_eq!(
        source(&flags, &environment),
        Some(("https://flag.example/".into(), "--server".into()))
    );
}

#[test]
fn a_bad_file_is_named_with_its_line_and_the_nearest_key() {
    for (text, said, hint) in [
        ("# mine\nsrver = \"https://x\"", ":2: unknown key `srver`", "did you mean `server`?"),
        ("zzzzzzzzz = \"x\"", ":1: unknown key `zzzzzzzzz`", "known keys: server"),
        ("target = 3", ":1: `target` is integer, not a string", "put it in quotes"),
        ("target = \"a\"\n\ntarget = \"b\"", ":3: ", ""),
        ("server = \"https://a", ":1: ", ""),
    ] {
        let house = House::new();
        house.write(".config/pgate/config.toml", text);
        let error = house.load(&Flags::default(), &[]).expect_err(text);
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{:?}", error.hint());
    }
}

#[test]
fn a_project_does_not_decide_where_tokens_or_sockets_go() {
    for text in ["keyring = \"off\"", "socket_dir = \"/tmp/x\""] {
        let house = House::new();
        house.write(".pgate.toml", text);
        let error = house.load(&Flags::default(), &[]).expect_err(text);
        assert!(error.to_string().contains("can't be set in a project's"), "{error}");
    }
}

#[test]
fn a_value_that_does_not_fit_is_refused_with_its_source() {
    for (variable, value, said) in [
        ("PGATE_SERVER", "pgate.example.com", "it is not a URL"),
        ("PGATE_SERVER", "localhost:7432", "begins with https://"),
        ("PGATE_SERVER", "ftp://pgate.example.com", "begins with https://"),
        ("PGATE_SERVER", "https://ana:secret@pgate.example.com", "no user name"),
        ("PGATE_SERVER", "https://pgate.example.com/?a=1", "no `?`"),
        ("PGATE_OUTPUT", "yaml", "neither \"text\" nor \"json\""),
        ("PGATE_KEYRING", "on", "neither \"auto\" nor \"off\""),
        ("PGATE_SOCKET_DIR", "here", "not an absolute path"),
    ] {
        let error = House::new().load(&Flags::default(), &[(variable, value)]).expect_err(value);
        let text = error.to_string();
        assert!(text.contains(said) && text.contains(variable), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let settings = House::new().load(&Flags::default(), &[("PGATE_SERVER", "")]).expect("fine");
    assert_eq!(settings.server, None);
    assert_eq!(settings.output.source, Source::Default);
}

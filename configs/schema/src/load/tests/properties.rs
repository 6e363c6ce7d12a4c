//! Whatever a file, a variable or a flag says: no panic, and what a key takes fits its field.

use proptest::prelude::*;

use super::*;
use crate::kind::Kind;

/// Values that a key takes or may nearly take, as TOML.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (0i64..70_000).prop_map(|n| n.to_string()),
        prop::sample::select(vec![
            "true",
            "false",
            "\"auto\"",
            "\"cpu\"",
            "\"shm\"",
            "\"info\"",
            "\"127.0.0.1\"",
            "\"::1\"",
            "\"~\"",
            "\"\"",
            "\"pypi:a==1/b\"",
            "\"/m\"",
            "1.5",
            "[1]",
            "[]",
            "[4096, 64]",
            "[1, [2]]",
            "\"int8\"",
            "\"max_utilization\"",
            "{ a = 1 }",
            "1979-05-27",
            "0xffffffffffffffffffffffffffffffff",
            "\"\\u0000\"",
            "{}",
        ])
        .prop_map(str::to_owned),
        "[a-z0-9/~._:=\u{e9}-]{0,70}".prop_map(|text| format!("\"{text}\"")),
        Just(format!("\"{SHA}\"")),
    ]
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = load(&text, &[], &[]);
    }

    #[test]
    fn no_toml_like_text_panics(text in "([a-z_.]{1,8}|[\\[\\]={}\",'#.\n\r\t \\\\0-9-]){0,60}") {
        let _ = load(&text, &[], &[]);
    }

    #[test]
    fn no_values_of_known_keys_panic(values in prop::collection::vec((0..KEYS.len(), value()), 0..12)) {
        let lines: Vec<_> =
            values.iter().map(|(i, value)| format!("{} = {value}", KEYS[*i].path)).collect();
        let _ = load(&lines.join("\n"), &[], &[]);
    }

    /// Whatever a key takes, its field takes: `assemble` relies on it.
    #[test]
    fn what_a_key_takes_fits_its_field(index in 0..KEYS.len(), value in value()) {
        let key = &KEYS[index];
        let base = "name = \"x\"\nmodel.source = \"/m\"\nserver.allow_remote = true\n";
        let mut lines: Vec<_> = base.lines().filter(|l| !l.starts_with(key.path)).collect();
        let line = format!("{} = {value}", key.path);
        lines.push(&line);
        if let Ok(loaded) = load(&lines.join("\n"), &[], &[]) {
            let toml = loaded.deployment.to_toml().unwrap();
            prop_assert_eq!(Deployment::from_resolved_toml(&toml).unwrap(), loaded.deployment);
        }
    }

    #[test]
    fn no_flag_or_variable_panics(index in 0..KEYS.len(), text in any::<String>()) {
        let key = &KEYS[index];
        let _ = load(&model(""), &[(&key.env_name(), &text)], &[(key.path, &text)]);
    }
}

/// Each key at both ends of what it takes, one by one, since random values may miss them.
#[test]
fn the_ends_of_every_range_fit_their_fields() {
    for key in KEYS {
        let ends: Vec<String> = match key.kind {
            Kind::Integer { min, max } | Kind::PowerOfTwo { min, max } => {
                vec![min.to_string(), max.to_string()]
            }
            Kind::Integers { max, most } => {
                vec!["1".into(), max.to_string(), vec!["7"; most].join(",")]
            }
            Kind::AutoOrUpTo(max) => vec!["1".into(), max.to_string(), "auto".into()],
            Kind::Word(words) => words.iter().map(|word| (*word).to_owned()).collect(),
            Kind::Bool => vec!["true".into(), "false".into()],
            Kind::Name => vec!["a".repeat(32)],
            Kind::Address => vec!["localhost".into(), "::1".into()],
            Kind::Path => vec!["/p".into()],
            Kind::Source => vec!["/p".into(), "pypi:a==1/b".into()],
            Kind::Sha256 => vec![SHA.into()],
            Kind::ShmPrefix => vec!["p".repeat(64)],
            Kind::Text => vec!["x".into(), "x".repeat(4096)],
            Kind::Texts { most } => vec!["x".into(), vec!["x"; most].join(",")],
            Kind::Lines { most } => vec!["x".into(), vec!["x"; most].join("\n")],
            Kind::SlurmTime => vec!["1".into(), "1-00:00:00".into()],
            Kind::IdSets => vec!["1".into(), "1,2;3,4".into()],
        };
        for end in ends {
            let mut errors = Vec::new();
            let flag = [(key.path.to_owned(), end)];
            let mut settle = Settle { settled: Settled::default(), errors: &mut errors };
            let file = file::parse(Path::new("x"), &model(""), &mut Vec::new());
            settle.layer(&file.entries, None);
            settle.layer(&layers::flags(&flag, &mut Vec::new()).entries, None);
            settle.defaults(Path::new("x"), None, &HashMap::new());
            let settled = settle.settled;
            assert!(errors.is_empty(), "{errors:?}");
            assemble::assemble(Mode::Leader, &[("m".to_owned(), settled)]);
        }
    }
}

//! What a key takes, and the check of one value.

mod forms;

use std::fmt;
use std::net::IpAddr;

use crate::ModelSource;
use crate::names::{Sha256, ShmPrefix, is_deployment_name};

pub(crate) use forms::id_sets;

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A deployment's name.
    Name,
    /// An integer within bounds, both included.
    Integer {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A power of two within bounds, both included.
    PowerOfTwo {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// One integer from 1 to `max`, or several: an array in a file, elsewhere parted by commas.
    Integers {
        /// The greatest.
        max: u64,
        /// How many there may be.
        most: usize,
    },
    /// `auto`, or an integer from 1 to this.
    AutoOrUpTo(u64),
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An IP address, or `localhost`.
    Address,
    /// A path.
    Path,
    /// A model source.
    Source,
    /// A SHA-256 digest.
    Sha256,
    /// A prefix of shared-memory names.
    ShmPrefix,
    /// Text of one line.
    Text,
    /// Several texts of one line: an array in a file, elsewhere parted by commas.
    Texts {
        /// How many there may be.
        most: usize,
    },
    /// Lines of text: a string of several lines, or an array of lines.
    Lines {
        /// How many there may be.
        most: usize,
    },
    /// A time limit as Slurm writes it.
    SlurmTime,
    /// Sets of ids, as in `0,1;2,3`.
    IdSets,
}

/// A value that its key takes, in its plain form. Displays as in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An integer.
    Integer(u64),
    /// Integers, at least one.
    Integers(Vec<u64>),
    /// A truth value.
    Bool(bool),
    /// Texts, at least one.
    Texts(Vec<String>),
    /// Anything else.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(n) => n.fmt(f),
            Value::Integers(list) => write!(f, "{list:?}"),
            Value::Bool(b) => b.fmt(f),
            Value::Texts(list) => {
                let quoted: Vec<_> = list.iter().map(|text| quoted(text)).collect();
                write!(f, "[{}]", quoted.join(", "))
            }
            Value::Text(text) => f.write_str(&quoted(text)),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.chars().flat_map(escaped).collect::<String>())
}

/// A value as it was written, before its key has had a say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Raw {
    Integer {
        text: String,
        value: Option<i128>,
    },
    Bool(bool),
    Text(String),
    List(Vec<Raw>),
    /// A TOML type that no key takes.
    Other(&'static str),
}

/// Why a value is not taken.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    WrongType,
    /// With a reason to add to what is allowed, if one helps.
    NotAllowed(Option<String>),
}

impl Raw {
    /// Reads the text of an environment variable or a flag for a key of this kind.
    pub(crate) fn from_text(kind: Kind, text: &str) -> Self {
        match kind {
            Kind::Integer { .. } | Kind::PowerOfTwo { .. } | Kind::AutoOrUpTo(_) => {
                Self::integer(text).unwrap_or_else(|| Raw::Text(text.to_owned()))
            }
            Kind::Integers { .. } => text
                .split(',')
                .map(|part| Self::integer(part.trim()))
                .collect::<Option<_>>()
                .map_or_else(|| Raw::Text(text.to_owned()), Raw::List),
            Kind::Texts { .. } => {
                Raw::List(text.split(',').map(|part| Raw::Text(part.trim().to_owned())).collect())
            }
            Kind::Bool => match text.parse() {
                Ok(truth) => Raw::Bool(truth),
                Err(_) => Raw::Text(text.to_owned()),
            },
            _ => Raw::Text(text.to_owned()),
        }
    }

    fn integer(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| Raw::Integer { text: text.to_owned(), value: text.parse().ok() })
    }

    /// The type and value, for messages.
    pub(crate) fn found(&self) -> String {
        match self {
            Raw::Integer { text, .. } => format!("the integer {}", shortened(text)),
            Raw::Bool(truth) => format!("the boolean {truth}"),
            Raw::Text(text) => format!("the string \"{}\"", shortened(text)),
            Raw::List(_) => format!("the array {}", self.written()),
            Raw::Other(kind) => format!("of type {kind}"),
        }
    }

    /// The value as written, for messages.
    pub(crate) fn written(&self) -> String {
        match self {
            Raw::Integer { text, .. } => shortened(text),
            Raw::Bool(truth) => truth.to_string(),
            Raw::Text(text) => format!("\"{}\"", shortened(text)),
            Raw::List(items) => {
                const SHOWN: usize = 6;
                let mut shown: Vec<_> = items.iter().take(SHOWN).map(Raw::written).collect();
                if items.len() > SHOWN {
                    shown.push("...".to_owned());
                }
                format!("[{}]", shown.join(", "))
            }
            Raw::Other(kind) => format!("({kind})"),
        }
    }
}

impl Kind {
    /// What is taken, in words that follow `expected` or `allowed:`.
    #[must_use]
    pub fn takes(&self) -> String {
        match self {
            Kind::Name => "a string of 1 to 32 of the characters a-z 0-9 - _".to_owned(),
            Kind::Integer { min, max } => format!("an integer from {min} to {max}"),
            Kind::PowerOfTwo { min, max } => format!("a power of two from {min} to {max}"),
            Kind::Integers { max, most } => format!(
                "1 to {most} integers from 1 to {max}, as in [512, 64], or 512,64 in a flag"
            ),
            Kind::AutoOrUpTo(max) => format!("\"auto\" or an integer from 1 to {max}"),
            Kind::Bool => "true or false".to_owned(),
            Kind::Word(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Kind::Address => "a string with an IP address, or \"localhost\"".to_owned(),
            Kind::Path => "a string with a path".to_owned(),
            Kind::Source => "a string with a path or pypi:PACKAGE==VERSION/FILE".to_owned(),
            Kind::Sha256 => format!("a string of {}", Sha256::FORM),
            Kind::ShmPrefix => format!("a string of {}", ShmPrefix::FORM),
            Kind::Text => format!("a string of one line, 1 to {} characters", forms::LONGEST_TEXT),
            Kind::Texts { most } => {
                format!("1 to {most} strings of one line, as in [\"a\", \"b\"], or a,b in a flag")
            }
            Kind::Lines { most } => {
                format!("a string of 1 to {most} lines, or an array of lines")
            }
            Kind::SlurmTime => {
                "a string with minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS or UNLIMITED"
                    .to_owned()
            }
            Kind::IdSets => {
                "a string of ids parted by commas, sets of them by semicolons, as in 0,1;2,3"
                    .to_owned()
            }
        }
    }

    pub(crate) fn check(&self, raw: &Raw) -> Result<Value, Refusal> {
        match (self, raw) {
            (Kind::Integer { min, max }, Raw::Integer { value, .. }) => {
                within(*value, *min, *max).map(Value::Integer)
            }
            (Kind::PowerOfTwo { min, max }, Raw::Integer { value, .. }) => {
                let value = within(*value, *min, *max)?;
                match value.is_power_of_two() {
                    true => Ok(Value::Integer(value)),
                    false => Err(Refusal::NotAllowed(None)),
                }
            }
            (Kind::Integers { max, .. }, Raw::Integer { value, .. }) => {
                within(*value, 1, *max).map(|value| Value::Integers(vec![value]))
            }
            (Kind::Integers { max, most }, Raw::List(items)) => integers(items, *max, *most),
            (Kind::AutoOrUpTo(max), Raw::Integer { value, .. }) => {
                within(*value, 1, *max).map(Value::Integer)
            }
            (Kind::AutoOrUpTo(_), Raw::Text(text)) => match text.as_str() {
                "auto" => Ok(Value::Text(text.clone())),
                _ => Err(Refusal::WrongType),
            },
            (Kind::Texts { most } | Kind::Lines { most }, Raw::List(items)) => {
                let lines = items.iter().map(|item| match item {
                    Raw::Text(text) => Ok(text.as_str()),
                    _ => Err(Refusal::WrongType),
                });
                forms::texts(&lines.collect::<Result<Vec<_>, _>>()?, *most)
            }
            (Kind::Texts { most }, Raw::Text(text)) => forms::texts(&[text], *most),
            (Kind::Lines { most }, Raw::Text(text)) => {
                forms::texts(&text.lines().collect::<Vec<_>>(), *most)
            }
            (Kind::SlurmTime, Raw::Integer { text, .. }) => self.check_text(text).map(Value::Text),
            (Kind::Bool, Raw::Bool(truth)) => Ok(Value::Bool(*truth)),
            (
                Kind::Name
                | Kind::Word(_)
                | Kind::Address
                | Kind::Path
                | Kind::Source
                | Kind::Sha256
                | Kind::ShmPrefix
                | Kind::Text
                | Kind::SlurmTime
                | Kind::IdSets,
                Raw::Text(text),
            ) => self.check_text(text).map(Value::Text),
            _ => Err(Refusal::WrongType),
        }
    }

    fn check_text(&self, text: &str) -> Result<String, Refusal> {
        let plain = |fits: bool| fits.then(|| text.to_owned()).ok_or(Refusal::NotAllowed(None));
        match self {
            Kind::Name => plain(is_deployment_name(text)),
            Kind::Word(words) => match words.contains(&text) {
                false if text == "cuda" => {
                    Err(Refusal::NotAllowed(Some("there is no CUDA backend yet".to_owned())))
                }
                fits => plain(fits),
            },
            Kind::Address if text == "localhost" => Ok("127.0.0.1".to_owned()),
            Kind::Address => match text.parse::<IpAddr>() {
                Ok(address) => Ok(address.to_string()),
                Err(_) => Err(Refusal::NotAllowed(None)),
            },
            Kind::Path => plain(!text.is_empty() && !text.contains('\0')),
            Kind::Source if text.contains('\0') => Err(Refusal::NotAllowed(None)),
            Kind::Source => match ModelSource::parse(text) {
                Ok(source) => Ok(source.to_string()),
                Err(why) => Err(Refusal::NotAllowed(Some(why.to_string()))),
            },
            Kind::Sha256 => match Sha256::parse(text) {
                Some(digest) => Ok(digest.into()),
                None => Err(Refusal::NotAllowed(None)),
            },
            Kind::ShmPrefix => plain(ShmPrefix::parse(text).is_some()),
            Kind::Text => plain(forms::is_line(text) && !text.is_empty()),
            Kind::SlurmTime => plain(forms::is_slurm_time(text)),
            Kind::IdSets => plain(forms::is_id_sets(text)),
            Kind::Integer { .. }
            | Kind::PowerOfTwo { .. }
            | Kind::Integers { .. }
            | Kind::AutoOrUpTo(_)
            | Kind::Texts { .. }
            | Kind::Lines { .. }
            | Kind::Bool => Err(Refusal::WrongType),
        }
    }
}

fn within(value: Option<i128>, min: u64, max: u64) -> Result<u64, Refusal> {
    value
        .and_then(|value| u64::try_from(value).ok())
        .filter(|value| (min..=max).contains(value))
        .ok_or(Refusal::NotAllowed(None))
}

fn integers(items: &[Raw], max: u64, most: usize) -> Result<Value, Refusal> {
    if !(1..=most).contains(&items.len()) {
        return Err(Refusal::NotAllowed(Some(format!("these are {}", items.len()))));
    }
    let checked = items.iter().enumerate().map(|(place, item)| match item {
        Raw::Integer { value, .. } => within(*value, 1, max).map_err(|_| {
            Refusal::NotAllowed(Some(format!("number {} is {}", place + 1, item.written())))
        }),
        _ => Err(Refusal::WrongType),
    });
    checked.collect::<Result<_, _>>().map(Value::Integers)
}

/// On one line and of a bounded length, whatever a file holds.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 120;
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(MOST).flat_map(escaped).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
}

/// A character as a TOML string has it, near enough to be read.
fn escaped(c: char) -> impl Iterator<Item = char> {
    let plain = !(c.is_control() || c == '"' || c == '\\');
    let escape = (!plain).then(|| c.escape_default());
    plain.then_some(c).into_iter().chain(escape.into_iter().flatten())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn integer(value: i128) -> Raw {
        Raw::Integer { text: value.to_string(), value: Some(value) }
    }

    #[test]
    fn integers_keep_their_bounds() {
        let kind = Kind::Integer { min: 1, max: 8 };
        assert_eq!(kind.check(&integer(1)), Ok(Value::Integer(1)));
        assert_eq!(kind.check(&integer(8)), Ok(Value::Integer(8)));
        for wrong in [0, 9, -1, i128::MAX] {
            assert_eq!(kind.check(&integer(wrong)), Err(Refusal::NotAllowed(None)));
        }
        let huge = Raw::Integer { text: "9".repeat(60), value: None };
        assert_eq!(kind.check(&huge), Err(Refusal::NotAllowed(None)));
        assert_eq!(kind.check(&Raw::Text("1".into())), Err(Refusal::WrongType));
        assert_eq!(kind.check(&Raw::Other("float")), Err(Refusal::WrongType));
    }

    #[test]
    fn blocks_are_powers_of_two() {
        let kind = Kind::PowerOfTwo { min: 8, max: 256 };
        assert_eq!(kind.check(&integer(32)), Ok(Value::Integer(32)));
        for wrong in [4, 24, 512] {
            assert_eq!(kind.check(&integer(wrong)), Err(Refusal::NotAllowed(None)));
        }
    }

    #[test]
    fn several_integers_are_a_list_or_one_of_them() {
        let kind = Kind::Integers { max: 100, most: 3 };
        let list = |values: &[i128]| Raw::List(values.iter().copied().map(integer).collect());
        let taken = |values: &[u64]| Ok(Value::Integers(values.to_vec()));
        assert_eq!(kind.check(&integer(7)), taken(&[7]));
        assert_eq!(kind.check(&list(&[1, 100, 7])), taken(&[1, 100, 7]));
        assert_eq!(kind.check(&Raw::from_text(kind, "7")), taken(&[7]));
        assert_eq!(kind.check(&Raw::from_text(kind, "8, 7")), taken(&[8, 7]));

        let why = |why: &str| Err(Refusal::NotAllowed(Some(why.to_owned())));
        assert_eq!(kind.check(&integer(0)), Err(Refusal::NotAllowed(None)));
        assert_eq!(kind.check(&list(&[])), why("these are 0"));
        assert_eq!(kind.check(&list(&[1; 4])), why("these are 4"));
        assert_eq!(kind.check(&list(&[1, -2])), why("number 2 is -2"));
        assert_eq!(kind.check(&Raw::from_text(kind, "101,1")), why("number 1 is 101"));

        let mixed = Raw::List(vec![integer(1), Raw::Other("float"), Raw::Text("a".into())]);
        assert_eq!(mixed.found(), "the array [1, (float), \"a\"]");
        assert_eq!(list(&[1; 9]).written(), "[1, 1, 1, 1, 1, 1, ...]");
        assert_eq!(kind.check(&mixed), Err(Refusal::WrongType));
        for wrong in ["", "7,", "7 8", "a"] {
            let raw = Raw::from_text(kind, wrong);
            assert_eq!((kind.check(&raw), raw), (Err(Refusal::WrongType), Raw::Text(wrong.into())));
        }
        let single = Kind::Integer { min: 1, max: 8 };
        assert_eq!(single.check(&list(&[1])), Err(Refusal::WrongType));
    }

    #[test]
    fn text_of_flags_is_read_by_the_key_that_it_is_for() {
        let threads = Kind::AutoOrUpTo(64);
        assert_eq!(threads.check(&Raw::from_text(threads, "3")), Ok(Value::Integer(3)));
        assert_eq!(threads.check(&Raw::from_text(threads, "auto")), Ok(Value::Text("auto".into())));
        assert_eq!(threads.check(&Raw::from_text(threads, "")), Err(Refusal::WrongType));
        assert_eq!(threads.check(&Raw::from_text(threads, "3x")), Err(Refusal::WrongType));
        assert_eq!(Kind::Bool.check(&Raw::from_text(Kind::Bool, "true")), Ok(Value::Bool(true)));
        assert_eq!(Kind::Bool.check(&Raw::from_text(Kind::Bool, "yes")), Err(Refusal::WrongType));
        assert_eq!(Kind::Name.check(&Raw::from_text(Kind::Name, "7")), Ok(Value::Text("7".into())));
    }

    #[test]
    fn cuda_is_refused_with_a_reason() {
        let kind = Kind::Word(&["auto", "cpu"]);
        let Err(Refusal::NotAllowed(Some(why))) = kind.check(&Raw::Text("cuda".into())) else {
            panic!("taken");
        };
        assert_eq!(why, "there is no CUDA backend yet");
    }

    #[test]
    fn addresses_are_normal() {
        let check = |text: &str| Kind::Address.check(&Raw::Text(text.into()));
        assert_eq!(check("localhost"), Ok(Value::Text("127.0.0.1".into())));
        assert_eq!(check("::1"), Ok(Value::Text("::1".into())));
        assert_eq!(check("127.0.0.1:80"), Err(Refusal::NotAllowed(None)));
    }

    #[test]
    fn long_and_odd_text_stays_on_one_line() {
        assert_eq!(shortened("a\n\"b\""), "a\\n\\\"b\\\"");
        assert_eq!(shortened(&"x".repeat(500)).len(), 123);
    }
}

//! What a repository's files say, one parameter at a time.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::error::ImportError;
use super::pbtxt::{Field, Message, Scalar, Value};
use super::report::{Outcome, shown};

/// A parameter of a file, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// The file, from the repository's folder on.
    pub(crate) file: String,
    /// Where in the file: `parameters.max_beam_width`, `instance_group.count`.
    pub(crate) path: String,
    pub(crate) given: Given,
    /// `None` until something has been decided; it is decided once.
    pub(crate) outcome: Option<Outcome>,
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given {
    /// Nothing: a placeholder of the template, or no text.
    Unset(String),
    One(String),
    Many(Vec<String>),
    /// Something with parts, in words.
    Parts(String),
}

impl Leaf {
    pub(crate) fn new(file: &str, path: impl Into<String>, given: Given) -> Self {
        Self { file: file.to_owned(), path: path.into(), given, outcome: None }
    }

    /// The path without the numbers of repeated messages.
    pub(crate) fn plain_path(&self) -> String {
        // A parameter's key is what somebody made up.
        if self.path.starts_with("parameters.") {
            return self.path.clone();
        }
        let mut plain = String::new();
        let mut numbered = false;
        for c in self.path.chars() {
            match c {
                '[' => numbered = true,
                ']' => numbered = false,
                c if !numbered => plain.push(c),
                _ => {}
            }
        }
        plain
    }

    /// Decides, unless that was done.
    pub(crate) fn decide(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }
}

impl Given {
    /// Text as it stands in a file.
    pub(crate) fn text(text: &str) -> Self {
        // Triton takes a value with a placeholder in it as it stands, and then for its default.
        match text.trim().is_empty() || text.contains("${") {
            true => Given::Unset(text.to_owned()),
            false => Given::One(text.to_owned()),
        }
    }

    /// The one value.
    pub(crate) fn one(&self) -> Option<&str> {
        match self {
            Given::One(text) => Some(text),
            Given::Many(texts) if texts.len() == 1 => Some(&texts[0]),
            _ => None,
        }
    }

    pub(crate) fn is_unset(&self) -> bool {
        matches!(self, Given::Unset(_))
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Given::Unset(text) if text.trim().is_empty() => f.write_str("\"\""),
            Given::Unset(text) | Given::One(text) | Given::Parts(text) => f.write_str(text),
            Given::Many(texts) => write!(f, "[{}]", texts.join(", ")),
        }
    }
}

/// The parameters of a config.pbtxt. Tensors and the steps of an ensemble are one each.
///
/// # Errors
/// [`ImportError::Field`] for a field that is both a value and a message, and for a parameter that is
/// none.
pub(crate) fn of_config(
    file: &str,
    path: &Path,
    config: &Message,
) -> Result<Vec<Leaf>, ImportError> {
    let mut walk = Walk { file, path, leaves: Vec::new() };
    for group in by_name(config) {
        let name = group[0].name.as_str();
        let parts = |count: usize, what: &str| {
            let plural = if count == 1 { "" } else { "s" };
            Leaf::new(file, name, Given::Parts(format!("{count} {what}{plural}")))
        };
        match name {
            "parameters" => walk.parameters(&group)?,
            "input" | "output" => {
                walk.leaves.push(parts(config.values(name).count(), "tensor"));
            }
            "ensemble_scheduling" => {
                let steps = config.messages(name).map(|inner| inner.messages("step").count());
                walk.leaves.push(parts(steps.sum(), "step"));
            }
            _ => walk.group(name, &group)?,
        }
    }
    Ok(walk.leaves)
}

struct Walk<'a> {
    file: &'a str,
    path: &'a Path,
    leaves: Vec<Leaf>,
}

impl Walk<'_> {
    fn message(&mut self, path: &str, message: &Message) -> Result<(), ImportError> {
        if message.0.is_empty() {
            self.leaves.push(Leaf::new(self.file, path, Given::Parts("{}".to_owned())));
        }
        for group in by_name(message) {
            self.group(&format!("{path}.{}", group[0].name), &group)?;
        }
        Ok(())
    }

    /// The fields of one name.
    fn group(&mut self, path: &str, group: &[&Field]) -> Result<(), ImportError> {
        let values: Vec<_> = group.iter().flat_map(|field| field.value.each()).collect();
        let messages: Vec<_> = values.iter().filter_map(|value| message(value)).collect();
        if messages.is_empty() {
            let is_list = values.len() != 1 || matches!(group[0].value, Value::List(_));
            let texts: Vec<_> = values.into_iter().filter_map(scalar).collect();
            let given = match texts.as_slice() {
                [text] if !is_list => Given::text(text),
                texts if texts.iter().any(|text| text.contains("${")) => {
                    Given::Unset(format!("[{}]", texts.join(", ")))
                }
                _ => Given::Many(texts),
            };
            self.leaves.push(Leaf::new(self.file, path, given));
            return Ok(());
        }
        if messages.len() != values.len() {
            let what = format!("{path} is a value here and a message there");
            return Err(self.wrong(group[0], what));
        }
        for (number, message) in messages.iter().enumerate() {
            match messages.len() {
                1 => self.message(path, message)?,
                _ => self.message(&format!("{path}[{number}]"), message)?,
            }
        }
        Ok(())
    }

    fn parameters(&mut self, group: &[&Field]) -> Result<(), ImportError> {
        let mut places = HashMap::new();
        for field in group {
            for entry in field.value.each() {
                let entry = message(entry).ok_or_else(|| {
                    self.wrong(field, "parameters has messages with key and value".to_owned())
                })?;
                let (key, given) = parameter(entry).map_err(|what| self.wrong(field, what))?;
                let path = format!("parameters.{key}");
                if let Some(earlier) = places.insert(key, self.leaves.len()) {
                    let again = Outcome::left("it is given again below, and that counts", "");
                    self.leaves[earlier].decide(again);
                }
                self.leaves.push(Leaf::new(self.file, path, given));
            }
        }
        Ok(())
    }

    fn wrong(&self, field: &Field, what: String) -> ImportError {
        ImportError::Field { path: self.path.to_owned(), at: field.at, what }
    }
}

/// Key and value of an entry of `parameters`.
fn parameter(entry: &Message) -> Result<(String, Given), String> {
    let key = entry.text("key").ok_or("a parameter has no key")?.to_owned();
    let told = shown(&key, 200);
    if let Some(other) = entry.0.iter().find(|field| !matches!(&*field.name, "key" | "value")) {
        return Err(format!(
            "parameter {told} has a field {}: only key and value belong there",
            other.name
        ));
    }
    let mut values = entry.messages("value");
    let value = values.next().ok_or_else(|| format!("parameter {told} has no value"))?;
    match (value.0.as_slice(), values.next()) {
        ([field], None) if field.name == "string_value" => match field.value.each() {
            [Value::Scalar(Scalar::Text(text))] => Ok((key, Given::text(text))),
            [Value::Scalar(Scalar::Placeholder(name))] => {
                Ok((key, Given::Unset(format!("${{{name}}}"))))
            }
            _ => Err(format!("the string_value of parameter {told} is not one string")),
        },
        _ => Err(format!("the value of parameter {told} is not one string_value")),
    }
}

/// The fields of each name, names in the order of their first mention.
fn by_name(message: &Message) -> Vec<Vec<&Field>> {
    let mut places = HashMap::new();
    let mut groups: Vec<Vec<&Field>> = Vec::new();
    for field in &message.0 {
        let place = *places.entry(field.name.as_str()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(field),
            None => groups.push(vec![field]),
        }
    }
    groups
}

fn message(value: &Value) -> Option<&Message> {
    match value {
        Value::Message(message) => Some(message),
        Value::Scalar(_) | Value::List(_) => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Scalar(Scalar::Text(text) | Scalar::Number(text) | Scalar::Word(text)) => {
            Some(text.clone())
        }
        Value::Scalar(Scalar::Placeholder(name)) => Some(format!("${{{name}}}")),
        Value::Message(_) | Value::List(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn leaves(text: &str) -> Result<Vec<String>, ImportError> {
        let config = Message::parse(text).unwrap();
        let leaves = of_config("m/config.pbtxt", Path::new("x"), &config)?;
        Ok(leaves.iter().map(|leaf| format!("{} = {}", leaf.path, leaf.given)).collect())
    }

    #[test]
    fn every_value_is_a_leaf() {
        let text = "max_batch_size: 8 input [{name: \"a\"}, {name: \"b\"}]\n\
                    dynamic_batching { preferred_batch_size: [4, 8] default_queue_policy {} }\n\
                    instance_group [{count: 1}, {count: 2 kind: KIND_CPU}]\n\
                    parameters { key: \"a\" value: { string_value: \"${a}\" } }\n\
                    ensemble_scheduling { step [{}, {}] }";
        assert_eq!(
            leaves(text).unwrap(),
            [
                "max_batch_size = 8",
                "input = 2 tensors",
                "dynamic_batching.preferred_batch_size = [4, 8]",
                "dynamic_batching.default_queue_policy = {}",
                "instance_group[0].count = 1",
                "instance_group[1].count = 2",
                "instance_group[1].kind = KIND_CPU",
                "parameters.a = ${a}",
                "ensemble_scheduling = 2 steps",
            ]
        );
        let leaf = Leaf::new("f", "instance_group[12].count", Given::text("1"));
        assert_eq!(leaf.plain_path(), "instance_group.count");
        let leaf = Leaf::new("f", "parameters.odd[1]", Given::text("1"));
        assert_eq!(leaf.plain_path(), "parameters.odd[1]");
    }

    #[test]
    fn of_a_parameter_given_twice_the_later_counts() {
        let twice = "parameters { key: \"a\" value { string_value: \"1\" } }\n";
        let config = Message::parse(&twice.repeat(2)).unwrap();
        let leaves = of_config("f", Path::new("x"), &config).unwrap();
        assert!(leaves[0].outcome.is_some() && leaves[1].outcome.is_none());
    }

    #[test]
    fn misshapen_fields_are_refused() {
        for (text, says) in [
            ("parameters: 3", "x:1:1: parameters has messages with key and value"),
            ("\nparameters { value {} }", "x:2:1: a parameter has no key"),
            ("parameters { key: \"a\" }", "x:1:1: parameter a has no value"),
            (
                "parameters { key: \"a\" value { string_value: [1, 2] } }",
                "x:1:1: the string_value of parameter a is not one string",
            ),
            (
                "parameters { key: \"a\" value { int_value: 1 } }",
                "x:1:1: the value of parameter a is not one string_value",
            ),
            (
                "parameters { key: \"a\" value {} other: 1 }",
                "x:1:1: parameter a has a field other: only key and value belong there",
            ),
            ("a: 1 a {}", "x:1:1: a is a value here and a message there"),
        ] {
            assert_eq!(leaves(text).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn placeholders_and_nothing_are_unset() {
        assert!(Given::text("${x}").is_unset() && Given::text("/m/${x}").is_unset());
        assert!(Given::text(" ").is_unset());
        assert_eq!(Given::text("0"), Given::One("0".to_owned()));
        assert_eq!(leaves("a: [${b}, 2] c: ${d}").unwrap(), ["a = [${b}, 2]", "c = ${d}"]);
    }
}

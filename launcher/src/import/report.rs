//! What became of each parameter.

use std::fmt::Write as _;

use serde::Serialize;

use super::leaf::Leaf;

/// What became of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The same is said here by this key, or by this name.
    Taken { new: New },
    /// Nothing needs to be said: it is so here.
    SoHere { why: String },
    /// Something else is said here.
    Changed { new: New, why: String },
    /// Nothing is said here.
    Left { why: String, instead: String },
    /// No such parameter is known.
    Unknown,
}

/// What stands for a parameter now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct New {
    /// The key of the deployment file, dotted; `None` for a name that clients use.
    pub(crate) key: Option<String>,
    /// As the file has it.
    pub(crate) value: String,
}

impl Outcome {
    pub(crate) fn left(why: impl Into<String>, instead: impl Into<String>) -> Self {
        Outcome::Left { why: why.into(), instead: instead.into() }
    }

    fn group(&self) -> Group {
        match self {
            Outcome::Taken { .. } | Outcome::SoHere { .. } => Group::TakenOver,
            Outcome::Changed { .. } => Group::Changed,
            Outcome::Left { .. } => Group::NotTakenOver,
            Outcome::Unknown => Group::Unknown,
        }
    }

    /// In words, for a table.
    fn told(&self) -> String {
        match self {
            Outcome::Taken { new } => new.told(),
            Outcome::SoHere { why } => format!("so here: {why}"),
            Outcome::Changed { new, why } => format!("{}: {why}", new.told()),
            Outcome::Left { why, instead } if instead.is_empty() => why.clone(),
            Outcome::Left { why, instead } => format!("{why}; instead: {instead}"),
            Outcome::Unknown => "no parameter of this name is known; it has no effect here".into(),
        }
    }
}

impl New {
    pub(crate) fn told(&self) -> String {
        match &self.key {
            Some(key) => format!("{key} = {}", self.value),
            None => self.value.clone(),
        }
    }
}

/// The parts of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Group {
    TakenOver,
    Changed,
    NotTakenOver,
    Unknown,
}

impl Group {
    const ALL: [Group; 4] = [Group::TakenOver, Group::Changed, Group::NotTakenOver, Group::Unknown];

    fn title(self) -> &'static str {
        match self {
            Group::TakenOver => "taken over",
            Group::Changed => "changed",
            Group::NotTakenOver => "not taken over",
            Group::Unknown => "unknown",
        }
    }
}

/// Everything that was read, and what is left to do.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) items: Vec<Item>,
    /// What the user should know or do, in sentences.
    pub(crate) notes: Vec<String>,
}

/// A parameter and what became of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) file: String,
    pub(crate) parameter: String,
    pub(crate) value: String,
    pub(crate) outcome: Outcome,
}

impl From<Leaf> for Item {
    fn from(leaf: Leaf) -> Self {
        Item {
            value: leaf.given.to_string(),
            file: leaf.file,
            parameter: leaf.path,
            // What no rule knows.
            outcome: leaf.outcome.unwrap_or(Outcome::Unknown),
        }
    }
}

/// An item as JSON has it.
#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    parameter: &'a str,
    value: &'a str,
    outcome: Group,
    key: Option<&'a str>,
    new: Option<&'a str>,
    why: Option<&'a str>,
    instead: Option<&'a str>,
}

impl Report {
    /// The parts one after the other, a line for each parameter under its file, then the notes.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for group in Group::ALL {
            let of_group = self.items.iter().filter(|item| item.outcome.group() == group);
            let items: Vec<_> = of_group.collect();
            if items.is_empty() {
                continue;
            }
            let blank = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{blank}{} ({})", group.title(), items.len());
            for of_file in items.chunk_by(|a, b| a.file == b.file) {
                let _ = writeln!(out, "  {}", shown(&of_file[0].file, 200));
                rows(of_file, &mut out);
            }
        }
        if !self.notes.is_empty() {
            let _ = writeln!(out, "\nto do and to know");
        }
        for note in &self.notes {
            let _ = writeln!(out, "  * {}", shown(note, 1000));
        }
        out
    }

    /// An object with `items` and `notes`.
    pub(crate) fn json(&self) -> serde_json::Value {
        let rows: Vec<_> = self.items.iter().map(Item::row).collect();
        serde_json::json!({ "items": rows, "notes": self.notes })
    }
}

/// Two columns: what was there, and what became of it.
fn rows(items: &[&Item], out: &mut String) {
    const LONGEST_VALUE: usize = 40;
    const WIDEST: usize = 64;
    let left = |item: &&Item| {
        format!("{} = {}", shown(&item.parameter, 200), shown(&item.value, LONGEST_VALUE))
    };
    let lefts: Vec<_> = items.iter().map(left).collect();
    let width =
        lefts.iter().map(|left| left.chars().count()).filter(|&width| width <= WIDEST).max();
    let width = width.unwrap_or(0);
    for (left, item) in lefts.iter().zip(items) {
        let _ = writeln!(out, "    {left:width$}  {}", shown(&item.outcome.told(), 1000));
    }
}

impl Item {
    fn row(&self) -> Row<'_> {
        let (new, why, instead) = match &self.outcome {
            Outcome::Taken { new } => (Some(new), None, None),
            Outcome::SoHere { why } => (None, Some(why), None),
            Outcome::Changed { new, why } => (Some(new), Some(why), None),
            Outcome::Left { why, instead } => (None, Some(why), Some(instead)),
            Outcome::Unknown => (None, None, None),
        };
        Row {
            file: &self.file,
            parameter: &self.parameter,
            value: &self.value,
            outcome: self.outcome.group(),
            key: new.and_then(|new| new.key.as_deref()),
            new: new.map(|new| new.value.as_str()),
            why: why.map(String::as_str),
            instead: instead.map(String::as_str).filter(|instead| !instead.is_empty()),
        }
    }
}

/// Text from a file, fit for a terminal and for a comment: no control characters, and no longer than
/// `longest` characters.
pub(crate) fn shown(text: &str, longest: usize) -> String {
    let visible = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    let mut shown: String = text.chars().take(longest).map(visible).collect();
    if text.chars().nth(longest).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_long_texts_cut() {
        assert_eq!(shown("a\u{1b}[2J\nb", 10), "a\\u{1b}[2J\\nb");
        assert_eq!(shown("äöü", 2), "äö...");
        assert_eq!(shown("äö", 2), "äö");
    }

    #[test]
    fn json_has_the_parts_of_each_outcome() {
        let item =
            |outcome| Item { file: "f".into(), parameter: "p".into(), value: "1".into(), outcome };
        let new = New { key: Some("model.tp_size".into()), value: "2".into() };
        let report = Report {
            items: vec![
                item(Outcome::Changed { new, why: "w".into() }),
                item(Outcome::left("w", "i")),
                item(Outcome::Unknown),
            ],
            notes: vec!["n".into()],
        };
        let json = report.json();
        assert_eq!(json["items"][0]["outcome"], "changed");
        assert_eq!(json["items"][0]["key"], "model.tp_size");
        assert_eq!(json["items"][0]["new"], "2");
        assert_eq!(json["items"][1]["outcome"], "not_taken_over");
        assert_eq!(json["items"][1]["instead"], "i");
        assert_eq!(json["items"][2]["why"], serde_json::Value::Null);
        assert_eq!(json["notes"][0], "n");
    }
}

//! The parameters of a model.yaml: each value by its path, as in `kv_cache_config.max_tokens`.

use std::collections::HashSet;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::error::ImportError;
use super::leaf::{Given, Leaf};

/// Mappings and sequences within each other.
const DEEPEST: usize = 64;

/// Reads all values of one document.
///
/// # Errors
/// [`ImportError::Yaml`] with the place where the text is not YAML, or has what is not read: several
/// documents, aliases, keys that are no scalars or stand twice, and nesting beyond a bound.
pub(crate) fn leaves(file: &str, path: &Path, text: &str) -> Result<Vec<Leaf>, ImportError> {
    let mut walk = Walk { file, path, leaves: Vec::new(), inside: Vec::new() };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| walk.broken(&error))?;
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(walk.wrong(span, "a second document; only one is read"));
                }
            }
            Event::Scalar(text, style, ..) => walk.scalar(span, &text, style)?,
            Event::Alias(_) => {
                return Err(walk.wrong(span, "aliases are not read; write the value itself"));
            }
            Event::MappingStart(..) => walk.begin(span, Inside::mapping())?,
            Event::SequenceStart(..) => walk.begin(span, Inside::sequence())?,
            Event::MappingEnd | Event::SequenceEnd => walk.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    Ok(walk.leaves)
}

struct Walk<'a> {
    file: &'a str,
    path: &'a Path,
    leaves: Vec<Leaf>,
    /// The mappings and sequences that are open.
    inside: Vec<Inside>,
}

/// An open mapping or sequence.
enum Inside {
    Mapping {
        seen: HashSet<String>,
        key: Option<String>,
    },
    /// Scalars so far, and how many things in all.
    Sequence {
        scalars: Vec<String>,
        count: usize,
    },
}

impl Inside {
    fn mapping() -> Self {
        Inside::Mapping { seen: HashSet::new(), key: None }
    }

    fn sequence() -> Self {
        Inside::Sequence { scalars: Vec::new(), count: 0 }
    }
}

impl Walk<'_> {
    fn scalar(&mut self, span: Span, text: &str, style: ScalarStyle) -> Result<(), ImportError> {
        let plain = matches!(style, ScalarStyle::Plain);
        match self.inside.last_mut() {
            Some(Inside::Mapping { seen, key: key @ None }) => {
                if !seen.insert(text.to_owned()) {
                    let what = format!("{} stands twice", text.escape_debug());
                    return Err(self.wrong(span, &what));
                }
                *key = Some(text.to_owned());
                return Ok(());
            }
            Some(Inside::Sequence { scalars, count }) => {
                scalars.push(text.to_owned());
                *count += 1;
                return Ok(());
            }
            Some(Inside::Mapping { .. }) | None => {}
        }
        let given = match plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            true => Given::Unset("null".to_owned()),
            false => Given::text(text),
        };
        self.leaf(given);
        Ok(())
    }

    fn begin(&mut self, span: Span, inside: Inside) -> Result<(), ImportError> {
        if self.inside.len() == DEEPEST {
            return Err(self.wrong(span, &format!("nested more than {DEEPEST} deep")));
        }
        match self.inside.last_mut() {
            Some(Inside::Mapping { key: None, .. }) => {
                return Err(self.wrong(span, "a key is a scalar"));
            }
            Some(Inside::Sequence { count, .. }) => *count += 1,
            Some(Inside::Mapping { .. }) | None => {}
        }
        self.inside.push(inside);
        Ok(())
    }

    fn end(&mut self) {
        match self.inside.pop() {
            Some(Inside::Mapping { seen, .. }) if seen.is_empty() => {
                self.leaf(Given::Parts("{}".to_owned()));
            }
            // Of a sequence with parts in it, the parts were told.
            Some(Inside::Sequence { scalars, count })
                if scalars.len() == count || !scalars.is_empty() =>
            {
                self.leaf(Given::Many(scalars));
            }
            _ => self.forget_key(),
        }
    }

    /// A value at the present path.
    fn leaf(&mut self, given: Given) {
        let mut path = String::new();
        for inside in &self.inside {
            match inside {
                Inside::Mapping { key, .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key.as_deref().unwrap_or_default());
                }
                Inside::Sequence { count, .. } => path.push_str(&format!("[{}]", count - 1)),
            }
        }
        if path.is_empty() {
            path.push_str("(document)");
        }
        self.leaves.push(Leaf::new(self.file, path, given));
        self.forget_key();
    }

    /// The value of the present key has been read.
    fn forget_key(&mut self) {
        if let Some(Inside::Mapping { key, .. }) = self.inside.last_mut() {
            *key = None;
        }
    }

    fn broken(&self, error: &ScanError) -> ImportError {
        let at = error.marker();
        let what = format!("not YAML: {}", error.info());
        let (line, column) = (at.line(), at.col() + 1);
        ImportError::Yaml { path: self.path.to_owned(), line, column, what }
    }

    fn wrong(&self, span: Span, what: &str) -> ImportError {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        ImportError::Yaml { path: self.path.to_owned(), line, column, what: what.to_owned() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let leaves = leaves("m/1/model.yaml", Path::new("x"), text).map_err(|e| e.to_string())?;
        Ok(leaves.iter().map(|leaf| format!("{} = {}", leaf.path, leaf.given)).collect())
    }

    #[test]
    fn every_value_has_its_path() {
        let text = "model: /m/llama # where\nbackend: \"pytorch\"\nkv_cache_config:\n  \
                    max_tokens: 100\n  max_attention_window: [512, 64]\n  none: ~\n\
                    empty: {}\nlist:\n- a: 1\n- b: 2\nmixed: [1, {c: 3}]\nnothing: []\n";
        assert_eq!(
            read(text).unwrap(),
            [
                "model = /m/llama",
                "backend = pytorch",
                "kv_cache_config.max_tokens = 100",
                "kv_cache_config.max_attention_window = [512, 64]",
                "kv_cache_config.none = null",
                "empty = {}",
                "list[0].a = 1",
                "list[1].b = 2",
                "mixed[1].c = 3",
                "mixed = [1]",
                "nothing = []",
            ]
        );
        assert_eq!(read("just text").unwrap(), ["(document) = just text"]);
        assert_eq!(read("").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_not_read_has_a_place() {
        for (text, says) in [
            ("a: 1\na: 2", "x:2:1: a stands twice"),
            ("a: &b 1\nc: *b", "x:2:4: aliases are not read; write the value itself"),
            ("a: 1\n---\nb: 2", "x:2:1: a second document; only one is read"),
            ("? [a]\n: 1", "x:1:3: a key is a scalar"),
        ] {
            assert_eq!(read(text).unwrap_err(), says);
        }
        assert!(read("a: [").unwrap_err().contains(": not YAML: "));
        let deep = read(&format!("{}{}", "[".repeat(65), "]".repeat(65))).unwrap_err();
        assert_eq!(deep, "x:1:65: nested more than 64 deep");
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&"- ".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c:{}\\[\\]\\-?&*!|>'\"#%@,~\n 0-9é]{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&String::from_utf8_lossy(&bytes));
        }
    }
}

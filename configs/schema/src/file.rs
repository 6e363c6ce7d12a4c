//! TOML text to raw values with their places; unknown keys are found here.

use std::io::Read as _;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::keys::{self, Key};
use crate::kind::{Kind, Raw, shortened};
use crate::names::is_deployment_name;
use crate::{ConfigError, Origin, Position};

/// No deployment comes near this; a model named by mistake does.
const LIMIT_BYTES: u64 = 1 << 20;

/// A value of a known key, as a file has it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The model whose own table has it.
    pub(crate) model: Option<String>,
    pub(crate) key: &'static Key,
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

/// The text of a deployment file.
pub(crate) fn read(file: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file).map_err(failed)?;
    open.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(ConfigError::TooLarge { file: file.to_owned(), limit_bytes: LIMIT_BYTES });
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let places = Places { file, text: &String::from_utf8_lossy(valid) };
        ConfigError::Syntax { at: places.at(valid.len()), message: "not UTF-8".to_owned() }
    })
}

/// What one layer says.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) entries: Vec<Entry>,
    /// Models that have a table, be it empty, in the order of the tables, and where each is named.
    pub(crate) models: Vec<(String, Origin)>,
}

/// What `text` says; what is wrong with it goes to `errors`.
pub(crate) fn parse(file: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Layer {
    let places = Places { file, text };
    let (document, broken) = DeTable::parse_recoverable(text);
    if !broken.is_empty() {
        errors.extend(broken.iter().map(|error| ConfigError::Syntax {
            at: places.at(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        }));
        return Layer::default();
    }
    let mut layer = Layer::default();
    Walk { places: &places, layer: &mut layer, errors }.table(Of::Top, document.get_ref());
    layer
}

struct Walk<'a> {
    places: &'a Places<'a>,
    layer: &'a mut Layer,
    errors: &'a mut Vec<ConfigError>,
}

/// Which table it is.
#[derive(Clone, Copy)]
enum Of<'a> {
    Top,
    Section(&'static str),
    /// The table of models.
    Models,
    /// A model's own.
    Model(&'a str),
    /// A section in a model's own.
    ModelSection(&'a str, &'static str),
}

impl Of<'_> {
    fn path(self, name: &str) -> String {
        match self {
            Of::Top => name.to_owned(),
            Of::Section(section) => format!("{section}.{name}"),
            Of::Models => format!("models.{name}"),
            Of::Model(model) => format!("models.{model}.{name}"),
            Of::ModelSection(model, section) => format!("models.{model}.{section}.{name}"),
        }
    }

    fn key(self, name: &str) -> Option<&'static Key> {
        // A quoted name with a dot only looks like a path.
        if name.contains('.') {
            return None;
        }
        match self {
            Of::Top | Of::Section(_) => keys::find(&self.path(name)),
            Of::Models => None,
            Of::Model(_) => keys::find_of_a_model(name),
            Of::ModelSection(_, section) => keys::find_of_a_model(&format!("{section}.{name}")),
        }
    }

    fn model(self) -> Option<String> {
        match self {
            Of::Model(model) | Of::ModelSection(model, _) => Some(model.to_owned()),
            Of::Top | Of::Section(_) | Of::Models => None,
        }
    }
}

impl Walk<'_> {
    fn table(&mut self, of: Of<'_>, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = name.span().start;
            let name: &str = name.get_ref();
            if let Some(key) = of.key(name) {
                let origin = Origin::File(self.places.at(value.span().start));
                let raw = raw(value.get_ref());
                self.layer.entries.push(Entry { model: of.model(), key, raw, origin });
                continue;
            }
            let section = || keys::SECTIONS.iter().map(|(name, _)| *name).find(|it| *it == name);
            let inner = match of {
                Of::Top if name == "models" => Some(Of::Models),
                Of::Top => section().map(Of::Section),
                Of::Models if is_deployment_name(name) => Some(Of::Model(name)),
                Of::Model(model) if name == "kv_cache" => Some(Of::ModelSection(model, "kv_cache")),
                _ => None,
            };
            match (inner, value.get_ref()) {
                (Some(inner), DeValue::Table(table)) => {
                    if let Of::Model(model) = inner {
                        let origin = Origin::File(self.places.at(at));
                        self.layer.models.push((model.to_owned(), origin));
                    }
                    self.table(inner, table);
                }
                (Some(_), other) => self.errors.push(ConfigError::WrongType {
                    origin: Origin::File(self.places.at(value.span().start)),
                    key: of.path(name),
                    found: raw(other).found(),
                    expected: "a table".to_owned(),
                }),
                (None, _) => self.errors.push(self.unknown(of, name, at)),
            }
        }
    }

    fn unknown(&self, of: Of<'_>, name: &str, at: usize) -> ConfigError {
        let origin = Origin::File(self.places.at(at));
        if let Of::Models = of {
            let allowed = Kind::Name.takes();
            let value = format!("\"{}\"", shortened(name));
            return ConfigError::NotAllowed {
                origin,
                key: "a model's name".into(),
                value,
                allowed,
            };
        }
        // A key of a model's own table is described where all models' are.
        let described = match of {
            Of::Model(_) => format!("model.{name}"),
            Of::ModelSection(_, section) => format!("{section}.{name}"),
            _ => of.path(name),
        };
        let nearest = keys::nearest(&described);
        ConfigError::UnknownKey { origin, nearest, key: shortened(&of.path(name)) }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::Array(items) => {
            Raw::List(items.iter().map(|item| scalar(item.get_ref())).collect())
        }
        other => scalar(other),
    }
}

fn scalar(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(truth) => Raw::Bool(*truth),
        DeValue::Integer(integer) => Raw::Integer {
            text: integer.to_string(),
            value: i128::from_str_radix(integer.as_str(), integer.radix()).ok(),
        },
        other => Raw::Other(other.type_str()),
    }
}

/// Turns byte offsets into lines and columns.
struct Places<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Places<'_> {
    fn at(&self, offset: usize) -> Position {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut errors = Vec::new();
        parse(Path::new("x.toml"), text, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_have_a_place_and_a_neighbour() {
        let text = "name = \"a\"\n\n[model]\nsource = \"a\"\n  tp_sise = 2\n";
        assert_eq!(
            problems(text),
            ["x.toml:5:3: unknown key model.tp_sise; did you mean model.tp_size?"]
        );
        assert_eq!(
            problems("[modle]\ntp_size = 2"),
            ["x.toml:1:2: unknown key modle; did you mean model?"]
        );
        assert_eq!(
            problems("\"model.tp_size\" = 2"),
            ["x.toml:1:1: unknown key model.tp_size; did you mean model.tp_size?"]
        );
        assert_eq!(problems("qqqq = 1"), ["x.toml:1:1: unknown key qqqq"]);
    }

    #[test]
    fn sections_are_tables() {
        assert_eq!(problems("model = 3"), ["x.toml:1:9: model is the integer 3; expected a table"]);
        assert_eq!(
            problems("[[model]]\ntp_size = 2"),
            ["x.toml:1:1: model is the array [(table)]; expected a table"]
        );
    }

    #[test]
    fn broken_text_is_placed() {
        let broken = problems("name = \"a\"\n[model\n");
        assert!(broken[0].starts_with("x.toml:2:"), "{broken:?}");
        assert!(broken[0].contains("not TOML"), "{broken:?}");
        let twice = problems("name = \"a\"\nname = \"b\"\n");
        assert!(twice[0].starts_with("x.toml:2:1: not TOML: duplicate key"), "{twice:?}");
    }

    #[test]
    fn integers_of_any_radix_and_size_are_read() {
        let mut errors = Vec::new();
        let text = "[model]\ntp_size = 0x10\nthreads = -3\nmax_batch_size = 99999999999999999999";
        let entries = parse(Path::new("x"), text, &mut errors).entries;
        let values: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.raw {
                Raw::Integer { value, .. } => value.unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(values, [16, -3, 99_999_999_999_999_999_999]);
        assert!(errors.is_empty());
    }

    #[test]
    fn files_are_bounded_and_utf8() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, b"name = 1\n \xff").unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.ends_with("x.toml:2:2: not TOML: not UTF-8"), "{message}");
        std::fs::write(&path, vec![b'#'; LIMIT_BYTES as usize + 1]).unwrap();
        assert!(matches!(read(&path), Err(ConfigError::TooLarge { .. })));
        assert!(matches!(read(dir.path()), Err(ConfigError::Read { .. })));
        assert!(matches!(read(&dir.path().join("none")), Err(ConfigError::Read { .. })));
    }
}

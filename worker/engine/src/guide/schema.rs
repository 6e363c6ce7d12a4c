//! JSON schemas: the options that they are compiled with, and a bound on what compiling costs.
//!
//! JSON is written without free white space: one space may follow a comma or a colon, and there is
//! no other between values. Where white space may go on for ever, small models let it.

use std::collections::HashMap;

use llguidance::JsonCompileOptions;
use serde_json::{Map, Value, json};

/// Choices times bytes that are copied for each of them, at most, while a schema is compiled: about
/// a quarter of a second.
const MAX_WORK: u64 = 4 << 20;

/// Keywords that say nothing about values.
const ANNOTATIONS: [&str; 6] =
    ["$defs", "definitions", "description", "title", "default", "examples"];

/// The schema in `text`, with the options that it is to be compiled with.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let schema: Value =
        serde_json::from_str(text).map_err(|error| format!("the schema is not JSON: {error}"))?;
    prepare(schema)
}

/// The schema of any object.
pub(super) fn any_object() -> Value {
    with_options(Map::from_iter([("type".to_owned(), json!("object"))]))
}

fn prepare(schema: Value) -> Result<Value, String> {
    let keywords = match &schema {
        Value::Object(keywords) => keywords.clone(),
        Value::Bool(true) => Map::new(),
        Value::Bool(false) => return Err("the schema is false, which no value fits".to_owned()),
        _ => return Err("a schema is an object, true or false".to_owned()),
    };
    if keywords.contains_key("x-guidance") {
        return Err("x-guidance: these options are not the schema's to set".to_owned());
    }
    check_work(&schema)?;
    Ok(with_options(keywords))
}

fn with_options(keywords: Map<String, Value>) -> Value {
    let options = JsonCompileOptions {
        item_separator: ", ?".to_owned(),
        key_separator: ": ?".to_owned(),
        whitespace_flexible: false,
        ..JsonCompileOptions::default()
    };
    let mut schema = Value::Object(keywords);
    options.apply_to(&mut schema);
    schema
}

/// Refuses a schema whose compilation would take too long, or too much memory: llguidance writes
/// out every combination of the choices that hold for one value, with a copy of everything else
/// that does.
pub(super) fn check_work(schema: &Value) -> Result<(), String> {
    let mut scale = Scale { root: schema, weighed: HashMap::new(), work: 0 };
    scale.schema(schema);
    if scale.work > MAX_WORK {
        return Err(format!(
            "the schema's alternatives (anyOf, oneOf, allOf, enum, $ref) and what they stand \
             beside multiply to {}, expected at most {MAX_WORK}",
            scale.work
        ));
    }
    Ok(())
}

/// What holds for one value.
#[derive(Clone, Copy)]
struct Weight {
    /// Combinations of alternatives.
    ways: u64,
    /// How much is written about it.
    bytes: u64,
}

struct Scale<'a> {
    root: &'a Value,
    /// What references stand for; one that is being weighed counts as nothing, since it is not
    /// written out again.
    weighed: HashMap<&'a str, Weight>,
    work: u64,
}

impl<'a> Scale<'a> {
    fn schema(&mut self, schema: &'a Value) -> Weight {
        let Value::Object(keywords) = schema else {
            // Not only schemas: whatever is below one is looked at for schemas in it.
            let bytes = match schema {
                Value::Array(items) => items.iter().map(|item| self.schema(item).bytes + 1).sum(),
                Value::String(text) => text.len() as u64 + 2,
                _ => 4,
            };
            return Weight { ways: 1, bytes };
        };
        let mut whole = Weight { ways: 1, bytes: 0 };
        let mut most_bytes = 0;
        for (keyword, value) in keywords {
            let part = match (keyword.as_str(), value) {
                ("enum", Value::Array(values)) => {
                    Weight { ways: values.len() as u64, bytes: self.schema(value).bytes }
                }
                ("anyOf", Value::Array(options)) => self.options(options),
                ("oneOf", Value::Array(options)) => {
                    let part = self.options(options);
                    // Each is compared with each, to see whether they exclude one another.
                    self.add_work(options.len() as u64, part.bytes);
                    part
                }
                ("allOf", Value::Array(all)) => self.all(all),
                ("$ref", Value::String(reference)) => self.reference(reference),
                (annotation, _) if ANNOTATIONS.contains(&annotation) => {
                    self.schema(value);
                    Weight { ways: 1, bytes: 0 }
                }
                _ => Weight { ways: 1, bytes: self.schema(value).bytes + keyword.len() as u64 + 3 },
            };
            if part.ways > 1 {
                most_bytes = most_bytes.max(part.bytes);
            }
            whole.ways = whole.ways.saturating_mul(part.ways.max(1));
            whole.bytes = whole.bytes.saturating_add(part.bytes);
        }
        // Alternatives are not copied for each other, what is beside them is.
        if whole.ways > 1 {
            self.add_work(whole.ways, whole.bytes - most_bytes);
        }
        whole
    }

    fn options(&mut self, options: &'a [Value]) -> Weight {
        options.iter().fold(Weight { ways: 0, bytes: 0 }, |sum, option| {
            let weight = self.schema(option);
            Weight {
                ways: sum.ways.saturating_add(weight.ways),
                bytes: sum.bytes.saturating_add(weight.bytes),
            }
        })
    }

    fn all(&mut self, all: &'a [Value]) -> Weight {
        let mut whole = Weight { ways: 1, bytes: 0 };
        let mut most_bytes = 0;
        for schema in all {
            let weight = self.schema(schema);
            most_bytes = most_bytes.max(weight.bytes);
            whole.ways = whole.ways.saturating_mul(weight.ways);
            whole.bytes = whole.bytes.saturating_add(weight.bytes);
        }
        self.add_work(whole.ways, whole.bytes - most_bytes);
        whole
    }

    /// References are JSON pointers into the schema; llguidance refuses others.
    fn reference(&mut self, reference: &'a str) -> Weight {
        const NOTHING: Weight = Weight { ways: 1, bytes: 0 };
        if let Some(weight) = self.weighed.get(reference) {
            return *weight;
        }
        self.weighed.insert(reference, NOTHING);
        let target = reference.strip_prefix('#').and_then(|path| {
            path.split('/').skip(1).filter(|_| path != "/").try_fold(self.root, |value, segment| {
                match value {
                    Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
                    value => value.get(segment),
                }
            })
        });
        let weight = target.map_or(NOTHING, |schema| self.schema(schema));
        self.weighed.insert(reference, weight);
        weight
    }

    fn add_work(&mut self, ways: u64, bytes: u64) {
        self.work = self.work.saturating_add(ways.saturating_mul(bytes));
    }
}

//! A request's body as named values, each still JSON, so that a large body costs no more than
//! its text.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::inputs::{Key, Role, by_name, name_of};
use super::value::{Field, read, shown};
use crate::error::ApiError;
use crate::served::Served;

/// More members than any request has use for.
const MAX_MEMBERS: usize = 256;

/// What a request says: its id, and the inputs that this server acts on. Of a name given twice, the
/// last value holds.
pub(super) struct Fields<'a> {
    pub(super) served: Served,
    /// Given back with each response; empty if there is none.
    pub(super) id: String,
    inputs: HashMap<Key, &'a str>,
}

impl<'a> Fields<'a> {
    /// Reads the body of a request to `served`. An empty body is an empty object.
    ///
    /// # Errors
    /// If it is not a JSON object, or a member of it cannot be taken.
    pub(super) fn read(served: Served, body: &'a str) -> Result<Self, ApiError> {
        let mut fields = Self { served, id: String::new(), inputs: HashMap::new() };
        if body.trim_ascii().is_empty() {
            return Ok(fields);
        }
        if let Some(kind) = kind_of_another(body) {
            return Err(ApiError::NotInputs { kind });
        }
        for (name, json) in members(body)? {
            match name.as_str() {
                "id" => fields.id = read("id", json, "a string", |_| true)?,
                "parameters" => {
                    if let Some(kind) = kind_of_another(json) {
                        return Err(ApiError::NotParameters { kind });
                    }
                    for (name, json) in members(json)? {
                        fields.take(&name, json)?;
                    }
                }
                name => fields.take(name, json)?,
            }
        }
        Ok(fields)
    }

    /// An input of the model, whether the request has it or not.
    pub(super) fn field(&self, key: Key) -> Field<'a> {
        let name = name_of(self.served, key).expect("a model is only asked for its own inputs");
        Field { name, json: self.inputs.get(&key).copied() }
    }

    /// Keeps an input. A name that the model doesn't know is a request parameter of no use here.
    fn take(&mut self, name: &str, json: &'a str) -> Result<(), ApiError> {
        let scalar = !json.starts_with(['[', '{', 'n']);
        match by_name(self.served, name).map(|input| (input.name, input.role)) {
            Some((_, Role::Tensor(key, ..))) => {
                self.inputs.insert(key, json);
            }
            Some((_, Role::Parameter(key))) if scalar => {
                self.inputs.insert(key, json);
            }
            Some((name, Role::Unserved(neutral))) => neutral.check(name, json)?,
            None if scalar => {}
            Some((_, Role::Parameter(_))) | None => {
                return Err(ApiError::NotAParameter { name: shown(name) });
            }
        }
        Ok(())
    }
}

/// What `json` begins like, if it is JSON and not an object.
fn kind_of_another(json: &str) -> Option<&'static str> {
    let json = json.trim_ascii();
    match (json, json.as_bytes().first()?) {
        ("true" | "false", _) => Some("a bool"),
        ("null", _) => Some("null"),
        (_, b'[') => Some("an array"),
        (_, b'"') => Some("a string"),
        (_, b'-' | b'0'..=b'9') => Some("a number"),
        _ => None,
    }
}

fn members(object: &str) -> Result<Vec<(String, &str)>, ApiError> {
    match serde_json::from_str(object) {
        Ok(Members(members)) => Ok(members),
        Err(error) if error.is_data() => Err(ApiError::TooManyMembers { limit: MAX_MEMBERS }),
        Err(error) => Err(ApiError::BadJson(error)),
    }
}

/// The members of a JSON object, in order.
struct Members<'a>(Vec<(String, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(String, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, json)) = object.next_entry::<String, &RawValue>()? {
            if members.len() == MAX_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            members.push((name, json.get()));
        }
        Ok(members)
    }
}

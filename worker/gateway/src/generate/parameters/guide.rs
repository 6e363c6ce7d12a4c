//! What the text must be like.

use shardrun_wire::{Guide, Search};

use crate::error::ApiError;
use crate::generate::fields::Fields;
use crate::generate::inputs::Key;

/// A guide's kind is needed with its text, and the other way round; `json` needs none.
pub(super) fn read(fields: &Fields<'_>, search: &Search) -> Result<Option<Guide>, ApiError> {
    let kind_field = fields.field(Key::GuideType);
    let text_field = fields.field(Key::Guide);
    let kind: Option<String> = kind_field.one("a string", |_| true)?;
    let text: Option<String> = text_field.one("a string", |_| true)?;
    let text = text.filter(|text| !text.is_empty());
    let Some(kind) = kind.filter(|kind| !kind.is_empty()) else {
        return match text {
            None => Ok(None),
            Some(_) => Err(kind_field.missing()),
        };
    };
    let text = text.ok_or_else(|| text_field.missing());
    let guide = match kind.as_str() {
        "json" => Guide::Json,
        "json_schema" => Guide::JsonSchema(text?),
        "regex" => Guide::Regex(text?),
        "ebnf_grammar" => Guide::Grammar(text?),
        _ => return Err(kind_field.refused("json, json_schema, regex or ebnf_grammar")),
    };
    if let Search::Beam(beam) = search {
        let allowed = format!("none with a beam_width above 1, which is {}", beam.width);
        return Err(kind_field.refused(allowed));
    }
    Ok(Some(guide))
}

//! How many sequences there are, and whether they are searched by beams.

use serde::Deserialize;
use shardrun_wire::{BeamSearch, EngineLimits, Search};

use crate::error::ApiError;
use crate::generate::fields::Fields;
use crate::generate::inputs::Key;

/// The reference's boolean, or the number that it becomes.
#[derive(Deserialize)]
#[serde(untagged)]
enum EarlyStopping {
    Whether(bool),
    Rule(i32),
}

/// As the reference has it, all beams come back unless fewer are asked for. What belongs to beams
/// is checked and does nothing without them.
pub(super) fn read(fields: &Fields<'_>, limits: &EngineLimits) -> Result<Search, ApiError> {
    let width = fields.field(Key::BeamWidth).whole(1, limits.max_beam_width)?.unwrap_or(1);
    let sequences = fields.field(Key::NumReturnSequences);
    let finite = |key| fields.field(key).number("a number from -3.4e38 to 3.4e38", |_| true);
    let beam = BeamSearch {
        width,
        sequences: width,
        length_penalty: finite(Key::LengthPenalty)?.unwrap_or(0.0),
        diversity_rate: finite(Key::DiversityRate)?.unwrap_or(0.0),
        early_stopping: early_stopping(fields)?,
    };
    if width == 1 {
        let sequences = sequences.whole(1, limits.max_batch_size)?.unwrap_or(1);
        return Ok(Search::Sample { sequences });
    }
    let allowed = format!("a whole number from 1 to beam_width, {width}");
    let sequences = sequences.one(allowed, |n| (1..=width).contains(n))?.unwrap_or(width);
    Ok(Search::Beam(BeamSearch { sequences, ..beam }))
}

fn early_stopping(fields: &Fields<'_>) -> Result<i32, ApiError> {
    let allowed = "true, false or a whole number of 32 bits";
    Ok(match fields.field(Key::EarlyStopping).one(allowed, |_| true)? {
        None => 1,
        Some(EarlyStopping::Whether(stop)) => stop.into(),
        Some(EarlyStopping::Rule(rule)) => rule,
    })
}

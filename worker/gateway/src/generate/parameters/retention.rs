//! How long a request's blocks stay in the cache.

use std::time::Duration;

use shardrun_wire::{RetainedRange, Retention, RetentionPriority};

use crate::error::ApiError;
use crate::generate::fields::Fields;
use crate::generate::inputs::Key;
use crate::generate::value::{Field, MAX_ELEMENTS};

const PRIORITY: &str = "a whole number from 0 to 100";
const DURATION: &str = "milliseconds from 0 to 2147483647, or -1 for no end";

/// Ranges are lists of the same length, one for each property; durations may be left out.
pub(super) fn read(fields: &Fields<'_>) -> Result<Retention, ApiError> {
    let decode_priority = fields.field(Key::DecodePriority).one(PRIORITY, is_priority)?;
    let decode_duration = fields.field(Key::DecodeDuration).one(DURATION, is_open_end)?;
    Ok(Retention {
        ranges: ranges(fields)?,
        decode_priority: decode_priority.map_or(RetentionPriority::DEFAULT, RetentionPriority),
        decode_duration: decode_duration.and_then(duration),
    })
}

fn ranges(fields: &Fields<'_>) -> Result<Vec<RetainedRange>, ApiError> {
    let start_field = fields.field(Key::RangeStarts);
    let end_field = fields.field(Key::RangeEnds);
    let starts: Vec<u32> =
        start_field.list(MAX_ELEMENTS, "positions from 0 to 2147483647", |&start| {
            i32::try_from(start).is_ok()
        })?;
    let ends: Vec<i32> =
        end_field.list(MAX_ELEMENTS, "positions, or -1 for the prompt's end", is_open_end)?;
    let priority_field = fields.field(Key::RangePriorities);
    let priorities: Vec<u8> = priority_field.list(MAX_ELEMENTS, PRIORITY, is_priority)?;
    let duration_field = fields.field(Key::RangeDurations);
    let mut durations: Vec<i32> = duration_field.list(MAX_ELEMENTS, DURATION, is_open_end)?;
    if durations.is_empty() {
        durations = vec![-1; starts.len()];
    }
    for (field, len) in [
        (end_field, ends.len()),
        (priority_field, priorities.len()),
        (duration_field, durations.len()),
    ] {
        if len != starts.len() {
            let allowed = format!("as many as {}, {}", start_field.name, starts.len());
            return Err(field.refused(allowed));
        }
    }
    let mut ranges = Vec::with_capacity(starts.len());
    for (n, &start) in starts.iter().enumerate() {
        let end = u32::try_from(ends[n]).ok();
        if end.is_some_and(|end| end <= start) {
            let allowed = format!("more than its start, {start}, or -1 for the prompt's end");
            return Err(end_field.invalid(ends[n], allowed));
        }
        let priority = RetentionPriority(priorities[n]);
        ranges.push(RetainedRange { start, end, priority, duration: duration(durations[n]) });
    }
    ranges.sort_by_key(|range| range.start);
    refuse_overlap(&ranges, start_field)?;
    Ok(ranges)
}

/// `ranges` are sorted.
fn refuse_overlap(ranges: &[RetainedRange], starts: Field<'_>) -> Result<(), ApiError> {
    for pair in ranges.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if before.end.is_none_or(|end| end > after.start) {
            let end = before.end.map_or("the prompt's end".to_owned(), |end| end.to_string());
            let allowed = format!(
                "ranges that don't overlap, where another goes from {} to {end}",
                before.start
            );
            return Err(starts.invalid(after.start, allowed));
        }
    }
    Ok(())
}

fn is_priority(&priority: &u8) -> bool {
    priority <= RetentionPriority::MAX.0
}

fn is_open_end(&number: &i32) -> bool {
    number >= -1
}

fn duration(ms: i32) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

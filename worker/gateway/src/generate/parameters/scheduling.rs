//! When a request runs, how long, and whose blocks it may find.

use std::time::Duration;

use shardrun_wire::DEFAULT_PRIORITY;

use super::words::MAX_WORD_BYTES;
use crate::error::ApiError;
use crate::generate::fields::Fields;
use crate::generate::inputs::Key;

/// Nanoseconds that fit 63 bits.
const MAX_TIMEOUT_US: u64 = i64::MAX as u64 / 1000;

pub(in crate::generate) struct Scheduling {
    /// In [0, 1]; requests of higher priority start first.
    pub(in crate::generate) priority: f32,
    pub(in crate::generate) timeout: Option<Duration>,
    pub(in crate::generate) cache_salt: Option<String>,
}

impl Scheduling {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let priority = fields
            .field(Key::Priority)
            .number("a number from 0 to 1", |priority| (0.0..=1.0).contains(&priority))?;
        let timeout_us = fields.field(Key::Timeout).whole(0, MAX_TIMEOUT_US)?;
        let allowed = format!("a string of at most {MAX_WORD_BYTES} bytes");
        let cache_salt = fields
            .field(Key::CacheSalt)
            .one(allowed, |salt: &String| salt.len() <= MAX_WORD_BYTES)?;
        Ok(Self {
            priority: priority.unwrap_or(DEFAULT_PRIORITY),
            // In Triton, too, 0 is none.
            timeout: timeout_us.filter(|&us| us > 0).map(Duration::from_micros),
            cache_salt: cache_salt.filter(|salt| !salt.is_empty()),
        })
    }
}

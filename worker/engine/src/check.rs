//! What an engine refuses before a request takes a place in its queue.

use shardrun_wire::{EngineLimits, Refused, Request};

use crate::scheduler::{SchedulerConfig, most_blocks};

/// Refuses what the engine could never run, so that nothing after this needs to ask again.
///
/// # Errors
/// What [`EngineLimits::check`] says, or [`Refused::CacheTooSmall`].
pub(crate) fn check(
    request: &Request,
    limits: &EngineLimits,
    config: &SchedulerConfig,
) -> Result<(), Refused> {
    limits.check(request)?;
    let block = config.kv_cache.tokens_per_block as u64;
    let needed = most_blocks(request, config) as u64 * block;
    let limit = limits.kv_cache_tokens;
    if needed > u64::from(limit) {
        let prompt = request.prompt.len() as u32;
        let (max_tokens, sequences) = (request.max_tokens, request.search.width());
        return Err(Refused::CacheTooSmall { prompt, max_tokens, sequences, needed, limit });
    }
    Ok(())
}

//! How long randomised tests run.

/// So many cases, times `SHARDRUN_SOAK` if that is set.
pub(crate) fn cases(usual: u32) -> u32 {
    let factor = std::env::var("SHARDRUN_SOAK").ok().and_then(|factor| factor.parse().ok());
    factor.unwrap_or(1u32).saturating_mul(usual)
}

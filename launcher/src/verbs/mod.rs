//! One file per verb. Each takes its arguments and a place to print.

pub(crate) mod config;
pub(crate) mod fetch;
pub(crate) mod plan;
pub(crate) mod serve;

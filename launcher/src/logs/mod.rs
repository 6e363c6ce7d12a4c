//! The logs of a run: which files there are, and reading them while they grow.

mod reader;
mod sources;

pub(crate) use reader::{Reader, last_lines};
pub(crate) use sources::{Source, Wanted, sources};

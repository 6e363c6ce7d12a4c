//! Guided decoding: which tokens may come next, so that a sequence's text belongs to a language.
//!
//! ```text
//! client's thread      GuideVocabulary::compile(&Guide) -> CompiledGuide    may take milliseconds
//! step thread          MaskWorker: start, accept, end -> commands
//! thread `guide`                     advances parsers, computes masks       while the device computes
//! step thread          MaskWorker::mask <- the mask of the next token       normally there already
//! ```
//!
//! Parsing is llguidance's; this room chooses its options, bounds its cost, and keeps its work and
//! its failures away from the step thread. It knows tokens and languages, no scheduling.

mod compile;
mod ebnf;
mod error;
mod schema;
mod vocabulary;
mod worker;

pub(crate) use compile::CompiledGuide;
pub use error::GuideError;
pub use vocabulary::GuideVocabulary;
pub(crate) use worker::MaskWorker;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

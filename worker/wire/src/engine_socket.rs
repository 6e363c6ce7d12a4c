//! An engine in another process: [`EngineServer`] offers one on a Unix socket, [`EngineLink`] on a line
//! that it dials itself, and [`SocketEngine`] is the [`EngineClient`](crate::EngineClient) at the other
//! end of either.
//!
//! Frames and connections know nothing of what carries them: `unix` and `link` hand over the two halves
//! of a stream.
//!
//! # Ids
//! Clients number their requests as they like. The server gives each an id of its own, from 2^63 on,
//! which is what the engine knows and what stands in [`RequestStats`](crate::RequestStats); ids below
//! belong to those who use the engine within its process.
//!
//! # What happens at the bounds
//! * **A stream that nobody reads**: the client's connection writes into it what comes, without ever
//!   waiting, since a stream has room for all that its request may bring. No other stream notices.
//! * **A peer that reads slowly**: the server looks into the requests' streams only while fewer than
//!   `HIGH_WATER` bytes wait to be sent. Beyond that, tokens stay in their streams and later come in
//!   larger pieces. Neither the engine nor another connection notices.
//! * **A peer that reads nothing**, a stopped process for one: the server asks for a sign of life
//!   eight times per `PATIENCE`. Without any for that long, counted only while the server itself runs,
//!   the connection is dropped and its requests are cancelled. To be heard in time, a peer must read
//!   about 100 kB a second. An engine's silence is not the client's business but the lifeline's.
//! * **Logits** go in pieces of `PIECE_VALUES`, in turn with what other requests have, one piece each.
//!   The client gathers at most `max_logits_rows` rows per request; with more, the request is lost.
//! * **Work in progress**: with `MOST_WORK` submissions and takes of one connection unanswered, the
//!   server reads no more from it until one is.
//! * **Long messages**: a request of more than `LONGEST_FRAME` bytes is refused by the client before it is
//!   sent. What claims to be longer is not read, and ends its connection.
//!
//! # What ends what
//! A frame that can't be read, or makes no sense where it comes, ends its connection; the server says
//! why before it closes. A client that is gone has its requests cancelled. When a connection ends, its
//! streams end without a [`Finished`](crate::Finished), and the client's state is
//! [`Stopped`](crate::EngineState::Stopped) for good. Outputs that don't fit their request, by a gap in the
//! tokens for one, lose that request alone; tokens that are there already are dropped.

mod client;
mod framed;
mod link;
mod message;
mod server;
mod unix;

use std::time::Duration;

pub use client::SocketEngine;
pub use link::{EngineLink, EngineStream};
pub use server::EngineServer;

/// The longest message: a request with millions of tokens, or what one iteration or one event of the
/// cache says.
const LONGEST_FRAME: usize = 8 << 20;

/// With so many bytes to be sent, a connection takes no more from streams.
const HIGH_WATER: usize = 256 << 10;

/// Logits in one frame: 256 KiB.
const PIECE_VALUES: usize = 64 << 10;

/// Tokens in one frame: at most 72 KiB, with log probabilities.
const PIECE_TOKENS: usize = 8 << 10;

/// Submissions and takes of one connection that the engine has not answered.
const MOST_WORK: usize = 256;

/// For how long a peer may give no sign of life.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often a connection looks whether the engine's state has changed.
const LOOK: Duration = Duration::from_millis(50);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

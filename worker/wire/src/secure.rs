//! Streams between processes that know the run's [`Secret`](crate::Secret): each end knows that the
//! other knows it, and nobody between them reads, changes, repeats or leaves out a byte unnoticed.
//!
//! The protocol is Noise (<https://noiseprotocol.org/noise.html>, revision 34), pattern `NNpsk0`: two
//! messages of ephemeral keys, both authenticated by the pre-shared secret, then records. A message
//! or record is its length in two bytes, little-endian, then its bytes, 65535 at most. Records of each
//! direction are numbered from 0; the number is never sent, so a record can be opened only in its
//! place.
//!
//! The end of the stream between two records is not authenticated: somebody between the two processes
//! can cut the connection, as a broken cable can. Which end is a proper one is for the messages to say.
//!
//! Nothing here knows what carries the bytes.

mod blocking;
mod handshake;
mod polled;
mod records;

pub(crate) use blocking::read;
pub(crate) use handshake::{HandshakeError, initiate, respond};
pub(crate) use polled::{PolledReader, PolledWriter};
pub(crate) use records::{Opener, Sealer};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

//! How two processes come to know that both know the secret.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use snow::{Builder, HandshakeState};
use thiserror::Error;

use super::{Opener, Sealer};
use crate::Secret;

const PROTOCOL: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Told apart from other uses of the protocol.
const PROLOGUE: &[u8] = b"shardrun";

/// Each message is an ephemeral public key and the authentication of nothing more.
const MESSAGE: usize = 32 + 16;

/// In place of an answer: the length of no message.
const REFUSAL: [u8; 2] = [0; 2];

/// Why a peer is not known.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    /// The peer has another secret.
    #[error("it has another secret")]
    WrongSecret,
    /// The peer speaks something else.
    #[error("what it sent is no handshake")]
    Foreign,
    /// The peer ended the connection.
    #[error("it ended the connection during the handshake")]
    Ended,
    /// The peer said nothing, or not enough.
    #[error("its handshake did not come in time")]
    Late,
    /// The stream failed.
    #[error("the handshake failed: {0}")]
    Io(io::Error),
    /// The protocol can't go on; no fault of the peer's.
    #[error("the handshake failed: {0}")]
    Noise(#[from] snow::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Self::Ended
            }
            ErrorKind::TimedOut => Self::Late,
            _ => Self::Io(error),
        }
    }
}

/// The handshake of the one who dials.
pub(crate) fn initiate(
    stream: &mut (impl Read + Write),
    secret: &Secret,
) -> Result<(Sealer, Opener), HandshakeError> {
    let mut noise = builder(secret)?.build_initiator()?;
    say(stream, &mut noise)?;
    hear(stream, &mut noise)?;
    transport(noise)
}

/// The handshake of the one who listens. It reads 50 bytes at most, and says nothing to a peer that
/// has not shown that it knows the secret, but that it doesn't.
pub(crate) fn respond(
    stream: &mut (impl Read + Write),
    secret: &Secret,
) -> Result<(Sealer, Opener), HandshakeError> {
    let mut noise = builder(secret)?.build_responder()?;
    if let Err(error) = hear(stream, &mut noise) {
        if let HandshakeError::WrongSecret = error {
            let _ = stream.write_all(&REFUSAL);
        }
        return Err(error);
    }
    say(stream, &mut noise)?;
    transport(noise)
}

fn builder(secret: &Secret) -> Result<Builder<'_>, snow::Error> {
    Builder::new(PROTOCOL.parse()?).psk(0, secret.bytes())?.prologue(PROLOGUE)
}

fn say(stream: &mut impl Write, noise: &mut HandshakeState) -> Result<(), HandshakeError> {
    let mut bytes = [0; 2 + MESSAGE];
    let (len, message) = bytes.split_at_mut(2);
    len.copy_from_slice(&(MESSAGE as u16).to_le_bytes());
    noise.write_message(&[], message)?;
    Ok(stream.write_all(&bytes)?)
}

fn hear(stream: &mut impl Read, noise: &mut HandshakeState) -> Result<(), HandshakeError> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    if len == REFUSAL && noise.is_initiator() {
        return Err(HandshakeError::WrongSecret);
    }
    if usize::from(u16::from_le_bytes(len)) != MESSAGE {
        return Err(HandshakeError::Foreign);
    }
    let mut message = [0; MESSAGE];
    stream.read_exact(&mut message)?;
    match noise.read_message(&message, &mut []) {
        Ok(_) => Ok(()),
        Err(snow::Error::Decrypt) => Err(HandshakeError::WrongSecret),
        Err(error) => Err(error.into()),
    }
}

fn transport(noise: HandshakeState) -> Result<(Sealer, Opener), HandshakeError> {
    let transport = Arc::new(noise.into_stateless_transport_mode()?);
    Ok((Sealer::new(transport.clone()), Opener::new(transport)))
}

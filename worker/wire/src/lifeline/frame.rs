//! The lifeline's frames on a blocking stream.

use std::io::{Error, ErrorKind, Read, Result, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{FrameError, HEADER, append, decode, message_len};

/// The longest message; a rank's reason of failure is the longest that is written.
const LONGEST: usize = 64 * 1024;

pub(super) fn write(stream: &mut impl Write, message: &impl Serialize) -> Result<()> {
    let mut bytes = Vec::new();
    append(&mut bytes, message, LONGEST)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
    stream.write_all(&bytes)
}

/// The next message; `None` when the stream has ended between messages.
pub(super) fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>> {
    let bad = |error: FrameError| Error::new(ErrorKind::InvalidData, error);
    let mut header = [0; HEADER];
    match stream.read(&mut header[..1])? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut header[1..])?,
    }
    let mut bytes = vec![0; message_len(header, LONGEST).map_err(bad)?];
    stream.read_exact(&mut bytes)?;
    decode(&bytes).map(Some).map_err(bad)
}

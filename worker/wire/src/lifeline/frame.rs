//! The lifeline's frames where threads may wait.

use std::io::{Error, ErrorKind, Read, Result};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{FrameError, HEADER, append, decode, message_len};
use crate::line::LineWriter;

/// The longest message; a rank's reason of failure is the longest that is written.
const LONGEST: usize = 64 * 1024;

pub(super) fn write(line: &mut LineWriter, message: &impl Serialize) -> Result<()> {
    let mut bytes = Vec::new();
    append(&mut bytes, message, LONGEST)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
    line.send(&bytes)
}

/// The next message; `None` when the stream has ended between messages.
pub(super) fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>> {
    match read_bytes(stream)? {
        Some(bytes) => decode(&bytes).map(Some).map_err(bad),
        None => Ok(None),
    }
}

/// The next message as it came.
pub(super) fn read_bytes(stream: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER];
    let first = loop {
        match stream.read(&mut header[..1]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[1..])?;
    let mut bytes = vec![0; message_len(header, LONGEST).map_err(bad)?];
    stream.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn bad(error: FrameError) -> Error {
    Error::new(ErrorKind::InvalidData, error)
}

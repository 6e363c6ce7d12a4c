//! Messages on a stream: their length in four bytes, then themselves.

use std::io::{Error, ErrorKind, Read, Result, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message that is read; a rank's reason of failure is the longest that is written.
const LONGEST: usize = 64 * 1024;

pub(super) fn write(stream: &mut impl Write, message: &impl Serialize) -> Result<()> {
    let mut bytes = vec![0; 4];
    bytes = postcard::to_extend(message, bytes).map_err(Error::other)?;
    let len = bytes.len() - 4;
    if len > LONGEST {
        return Err(Error::new(ErrorKind::InvalidInput, format!("a message of {len} bytes")));
    }
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    stream.write_all(&bytes)
}

/// The next message; `None` when the stream has ended between messages.
pub(super) fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>> {
    let mut len = [0; 4];
    match stream.read(&mut len[..1])? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut len[1..])?,
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > LONGEST {
        return Err(Error::new(ErrorKind::InvalidData, format!("a message of {len} bytes")));
    }
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map(Some).map_err(Error::other)
}

//! Messages as bytes, whatever carries them: the length in four bytes, little-endian, then the
//! message in postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes of a frame before its message.
pub(crate) const HEADER: usize = 4;

/// Why bytes are no frame, or a message makes none.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The length is over the limit.
    #[error("a message of {len} bytes: at most {limit} are allowed")]
    TooLong { len: usize, limit: usize },
    /// The bytes are no message of the expected type.
    #[error("a message of {len} bytes can't be read: {source}")]
    Malformed { len: usize, source: postcard::Error },
    /// The message ends before its frame.
    #[error("a message of {len} bytes has {left} bytes too many")]
    Overlong { len: usize, left: usize },
    /// The type has no form in postcard.
    #[error("the message can't be written: {0}")]
    Unwritable(postcard::Error),
}

/// Appends a frame to `bytes`, which stay as they are if there is an error.
pub(crate) fn append(
    bytes: &mut Vec<u8>,
    message: &impl Serialize,
    limit: usize,
) -> Result<(), FrameError> {
    let start = bytes.len();
    let end = start + HEADER;
    bytes.resize(end, 0);
    if let Err(error) = postcard::to_extend(message, Tail(bytes)) {
        bytes.truncate(start);
        return Err(FrameError::Unwritable(error));
    }
    let len = bytes.len() - end;
    if len > limit {
        bytes.truncate(start);
        return Err(FrameError::TooLong { len, limit });
    }
    bytes[start..end].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// The length of the message behind `header`.
pub(crate) fn message_len(header: [u8; HEADER], limit: usize) -> Result<usize, FrameError> {
    let len = u32::from_le_bytes(header) as usize;
    if len > limit { Err(FrameError::TooLong { len, limit }) } else { Ok(len) }
}

/// The message that `bytes` are, without the header and without anything behind.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let len = bytes.len();
    let (message, left) =
        postcard::take_from_bytes(bytes).map_err(|source| FrameError::Malformed { len, source })?;
    match left.len() {
        0 => Ok(message),
        left => Err(FrameError::Overlong { len, left }),
    }
}

/// Lets postcard append to a vector that stays with its owner.
struct Tail<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Tail<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_in_one_buffer() {
        let mut bytes = Vec::new();
        append(&mut bytes, &(7u32, "seven"), 64).unwrap();
        let first = bytes.len();
        append(&mut bytes, &300u32, 64).unwrap();
        let header = |at: usize| <[u8; HEADER]>::try_from(&bytes[at..at + HEADER]).unwrap();
        assert_eq!(message_len(header(0), 64).unwrap(), first - HEADER);
        assert_eq!(message_len(header(first), 64).unwrap(), 2);
        let message: (u32, String) = decode(&bytes[HEADER..first]).unwrap();
        assert_eq!(message, (7, "seven".into()));
        assert_eq!(decode::<u32>(&bytes[first + HEADER..]).unwrap(), 300);
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_read() {
        let mut bytes = vec![1, 2, 3];
        let error = append(&mut bytes, &[9u8; 64].as_slice(), 64).unwrap_err();
        assert_eq!(error.to_string(), "a message of 65 bytes: at most 64 are allowed");
        assert_eq!(bytes, [1, 2, 3]);
        let error = message_len([0xff; HEADER], 64).unwrap_err();
        assert_eq!(error.to_string(), "a message of 4294967295 bytes: at most 64 are allowed");
    }

    #[test]
    fn bytes_that_are_no_message_and_bytes_behind_one_are_refused() {
        assert!(matches!(decode::<u32>(&[0x80]), Err(FrameError::Malformed { len: 1, .. })));
        assert!(matches!(decode::<u8>(&[1, 2]), Err(FrameError::Overlong { len: 2, left: 1 })));
        // A length field alone reserves nothing.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(decode::<Vec<u32>>(&claim), Err(FrameError::Malformed { .. })));
    }
}

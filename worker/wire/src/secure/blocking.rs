//! Opening records where threads may wait.

use std::io::{self, ErrorKind, Read};

use super::Opener;

/// Reads what the peer sealed; 0 bytes at the stream's end. Never more than one record is read ahead.
///
/// # Errors
/// If a record is not genuine, or cut off, or the stream fails.
pub(crate) fn read(
    opener: &mut Opener,
    stream: &mut impl Read,
    out: &mut [u8],
) -> io::Result<usize> {
    if out.is_empty() {
        return Ok(0);
    }
    loop {
        let taken = opener.take(out)?;
        if taken > 0 {
            return Ok(taken);
        }
        let wanted = opener.wanted();
        match stream.read(&mut opener.room(wanted)[..wanted]) {
            Ok(0) => return opener.end().map(|()| 0),
            Ok(len) => opener.came(len),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

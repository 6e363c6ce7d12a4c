//! The first words on a line: the one who dials says what the line is for, the watcher whether it wants
//! it.

use std::io::{Error, ErrorKind, Read};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Hello, RankId, frame};
use crate::line::{Line, LineWriter};
use crate::{Address, Secret, SocketError};

/// Raised when a message of the lifeline changes, or a type in one. Stands first in an opening, as
/// postcard writes it, in all versions.
const VERSION: u32 = 2;

/// How long a watcher may take to answer: it may be stopped for a while, by Ctrl-Z for one.
const ANSWER: Duration = Duration::from_secs(60);

/// What a line is for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Opening {
    /// A rank's lifeline.
    Lifeline(Hello),
    /// A leader's engine is offered.
    Engine(RankId),
}

/// Whether the watcher wants it. The same in all versions.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Welcome,
    Refused { reason: String },
}

/// Dials a watcher; returns when it wants the line. [`SocketError::Silent`] is one that was reached and
/// did not answer.
pub(crate) fn dial(
    address: &Address,
    secret: Option<&Secret>,
    opening: &Opening,
) -> Result<Line, SocketError> {
    dial_within(ANSWER, address, secret, opening)
}

fn dial_within(
    patience: Duration,
    address: &Address,
    secret: Option<&Secret>,
    opening: &Opening,
) -> Result<Line, SocketError> {
    let mut line = Line::dial(address, secret, Instant::now() + patience)?;
    let unrecognised = |reason: String| SocketError::Unrecognised { peer: address.clone(), reason };
    frame::write(&mut line.writer, &(VERSION, opening))?;
    match frame::read(&mut line.reader) {
        Ok(Some(Answer::Welcome)) => Ok(line),
        Ok(Some(Answer::Refused { reason })) => {
            Err(SocketError::Refused { address: address.clone(), reason })
        }
        Ok(None) => Err(unrecognised("it ended the connection without an answer".into())),
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Err(SocketError::Silent { after: patience })
        }
        Err(error) => Err(unrecognised(format!("its answer can't be read: {error}"))),
    }
}

/// Reads what the line is for; the error says why nobody can tell.
pub(super) fn read(stream: &mut impl Read) -> Result<Opening, Unreadable> {
    let bytes = frame::read_bytes(stream)?.ok_or(Error::from(ErrorKind::UnexpectedEof))?;
    let (version, rest): (u32, _) =
        postcard::take_from_bytes(&bytes).map_err(Unreadable::nonsense)?;
    if version != VERSION {
        return Err(Unreadable::Refused(format!(
            "it speaks version {version} of the lifeline, this process version {VERSION}: both must \
             be of one build"
        )));
    }
    crate::frame::decode(rest).map_err(Unreadable::nonsense)
}

/// Why an opening says nothing.
pub(super) enum Unreadable {
    /// It can be answered.
    Refused(String),
    /// It has not come, or not whole.
    Io(Error),
}

impl Unreadable {
    fn nonsense(error: impl std::fmt::Display) -> Self {
        Self::Refused(format!("what it said first can't be read: {error}"))
    }
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self::Io(error)
    }
}

/// Tells the peer that it is welcome.
pub(super) fn welcome(line: &mut LineWriter) -> std::io::Result<()> {
    frame::write(line, &Answer::Welcome)
}

/// Tells the peer why it isn't.
pub(super) fn refuse(line: &mut LineWriter, reason: String) {
    // A peer that is gone needs no reason.
    let _ = frame::write(line, &Answer::Refused { reason });
    line.finish();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_watcher_that_is_stopped_is_silent_and_one_that_is_gone_is_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeline");
        let near = UnixListener::bind(&path).unwrap();
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [Address::Unix(path), Address::Tcp(far.local_addr().unwrap())];
        let secret = Secret::generate().unwrap();
        let opening = Opening::Engine(RankId { instance: 0, attempt: 0, rank: 0 });
        let patience = Duration::from_millis(50);
        let dial = |address| dial_within(patience, address, Some(&secret), &opening).unwrap_err();
        for address in &addresses {
            let error = dial(address);
            assert!(matches!(error, SocketError::Silent { .. }), "{address}: {error}");
        }
        drop((near, far));
        for address in &addresses {
            let error = dial(address);
            assert!(matches!(error, SocketError::Connect { .. }), "{address}: {error}");
        }
    }
}

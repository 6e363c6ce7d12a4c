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

/// Dials a watcher; returns when it wants the line.
pub(crate) fn dial(
    address: &Address,
    secret: Option<&Secret>,
    opening: &Opening,
) -> Result<Line, SocketError> {
    let mut line = Line::dial(address, secret, Instant::now() + ANSWER)?;
    let unrecognised = |reason: String| SocketError::Unrecognised { peer: address.clone(), reason };
    frame::write(&mut line.writer, &(VERSION, opening))?;
    match frame::read(&mut line.reader) {
        Ok(Some(Answer::Welcome)) => Ok(line),
        Ok(Some(Answer::Refused { reason })) => {
            Err(SocketError::Refused { address: address.clone(), reason })
        }
        Ok(None) => Err(unrecognised("it ended the connection without an answer".into())),
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

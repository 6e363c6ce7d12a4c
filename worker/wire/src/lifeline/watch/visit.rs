//! One connection to a watcher, from its first byte to its last.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tracing::warn;

use super::super::opening::{self, Opening, Unreadable};
use super::super::{FromRank, Hello, frame};
use super::lines::NotTaken;
use super::{Event, Shared};
use crate::door::Place;
use crate::line::{Line, LineReader, LineWriter};
use crate::listener::Arrival;
use crate::{EngineStream, SocketError};

/// How long a connection may take to show who it is and what it is for.
const OPENING: Duration = Duration::from_secs(2);

/// How long saying something may block: what ranks are told is short, so one that has no room for it
/// was stopped long ago.
const SAYING: Duration = Duration::from_millis(10);

/// Serves a connection until its end.
pub(super) fn receive(arrival: Arrival, place: Place, shared: &Shared) {
    let (mut line, opening) = match open(arrival) {
        Ok(opened) => opened,
        Err(error) => return place.turned_away(&error),
    };
    // Who has come so far is one of this run.
    drop(place);
    match opening {
        Ok(Opening::Lifeline(hello)) => attend(line, hello, shared),
        Ok(Opening::Engine(id)) => {
            // Held until the engine is told: what its leader says after the welcome comes later.
            let lines = shared.lines();
            match lines.check(&id) {
                Ok(()) => {
                    if opening::welcome(&mut line.writer).is_ok() {
                        (shared.emit)(Event::Engine { id, engine: EngineStream::new(line) });
                    }
                }
                Err(reason) => {
                    drop(lines);
                    refuse(line.writer, reason);
                }
            }
        }
        Err(reason) => refuse(line.writer, reason),
    }
}

/// Finds out who the peer is and what it wants; the inner error is what to tell it.
fn open(arrival: Arrival) -> Result<(Line, Result<Opening, String>), SocketError> {
    let mut line = arrival.recognise(Instant::now() + OPENING)?;
    let opening = match opening::read(&mut line.reader) {
        Ok(opening) => Ok(opening),
        Err(Unreadable::Refused(reason)) => Err(reason),
        Err(Unreadable::Io(error)) if error.kind() == ErrorKind::TimedOut => {
            return Err(SocketError::Silent { after: OPENING });
        }
        Err(Unreadable::Io(error)) => return Err(error.into()),
    };
    line.settle(SAYING)?;
    Ok((line, opening))
}

fn refuse(mut line: LineWriter, reason: String) {
    warn!(reason, "a rank was refused");
    opening::refuse(&mut line, reason);
}

/// Serves a lifeline until its end.
fn attend(line: Line, mut hello: Hello, shared: &Shared) {
    let Line { mut reader, writer, process } = line;
    hello.pid = process.unwrap_or(hello.pid);
    let id = hello.id;
    let mut lines = shared.lines();
    let number = match lines.take(&hello, writer) {
        Ok(number) => number,
        Err(NotTaken::Refused(writer, reason)) => {
            drop(lines);
            return refuse(writer, reason);
        }
        Err(NotTaken::Broken(error)) => {
            return warn!(%error, "{id} left while it was welcomed");
        }
    };
    let mut listened = (shared.emit)(Event::Hello { hello, local: process.is_some() });
    drop(lines);
    let fault = loop {
        if !listened {
            break None;
        }
        match hear(&mut reader) {
            Ok(message) => {
                let _in_order = shared.lines();
                listened = (shared.emit)(Event::Said { id, message });
            }
            Err(fault) => break fault,
        }
    };
    let mut lines = shared.lines();
    if lines.ended(&id, number) {
        (shared.emit)(Event::Closed { id, fault });
    }
}

/// What a rank says next; the error is the end, with its fault if it is no proper one.
fn hear(reader: &mut LineReader) -> Result<FromRank, Option<String>> {
    match frame::read(reader) {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(None),
        // A process that ended before it had read everything.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(None),
        Err(error) => Err(Some(error.to_string())),
    }
}

//! A rank's end of its lifeline.

use std::io::Result;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::opening::{self, Opening};
use super::{FromRank, Hello, ToRank, frame};
use crate::line::{LineReader, LineWriter};
use crate::{Address, Secret, SocketError};

/// How long a write may block: a watcher that reads nothing for this long is stopped or gone, and
/// the heartbeat must not hang with it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the watcher may take to hear a rank's last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Speaks to the watcher; any thread may.
#[derive(Debug)]
pub struct Link {
    line: Mutex<LineWriter>,
    over: Arc<Over>,
}

/// Hears the watcher.
#[derive(Debug)]
pub struct LinkReader {
    line: LineReader,
    over: Arc<Over>,
}

/// Whether the watcher has ended the lifeline.
#[derive(Debug, Default)]
struct Over {
    is: Mutex<bool>,
    changed: Condvar,
}

impl Link {
    /// Dials the watcher, says hello, and waits until that is welcome, for a minute at most. The
    /// secret is needed for an address of TCP only.
    ///
    /// # Errors
    /// [`SocketError::Connect`] if nobody listens there, [`SocketError::Stranger`] if another user
    /// does, [`SocketError::NoSecret`], [`SocketError::WrongSecret`], [`SocketError::Unrecognised`], or
    /// [`SocketError::Refused`] with the watcher's reason: it doesn't expect this rank, or is of
    /// another build.
    pub fn connect(
        address: &Address,
        secret: Option<&Secret>,
        hello: Hello,
    ) -> std::result::Result<(Self, LinkReader), SocketError> {
        let mut line = opening::dial(address, secret, &Opening::Lifeline(hello))?;
        line.settle(WRITE_TIMEOUT)?;
        let over = Arc::new(Over::default());
        let reader = LinkReader { line: line.reader, over: over.clone() };
        Ok((Self { line: Mutex::new(line.writer), over }, reader))
    }

    /// Says something.
    ///
    /// # Errors
    /// If the watcher is gone, or reads nothing. What is said after that still arrives whole.
    pub fn say(&self, message: &FromRank) -> Result<()> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(&mut line, message)
    }

    /// Says the last thing, and waits until the watcher has heard it, for two seconds at most. A
    /// process that ends without that may take it along, since TCP drops what it was still sending.
    /// Needs a thread in [`LinkReader::hear`].
    ///
    /// # Errors
    /// As for [`Link::say`].
    pub fn end(&self, last: &FromRank) -> Result<()> {
        {
            let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            frame::write(&mut line, last)?;
            line.finish();
        }
        let over = self.over.is.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.over.changed.wait_timeout_while(over, LAST_WORDS, |over| !*over);
        Ok(())
    }
}

impl LinkReader {
    /// Waits for the watcher's next message; `None` if it is gone.
    pub fn hear(&mut self) -> Option<ToRank> {
        let heard = frame::read(&mut self.line).ok().flatten();
        if heard.is_none() {
            self.over.tell();
        }
        heard
    }
}

impl Drop for LinkReader {
    fn drop(&mut self) {
        self.over.tell();
    }
}

impl Over {
    fn tell(&self) {
        *self.is.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

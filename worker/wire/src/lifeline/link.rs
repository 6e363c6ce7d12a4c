//! A rank's end of its lifeline.

use std::io::Result;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{FromRank, Hello, ToRank, frame};

/// How long a write may block: a watcher that reads nothing for this long is stopped or gone, and
/// the heartbeat must not hang with it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Speaks to the watcher; any thread may.
#[derive(Debug)]
pub struct Link {
    stream: Mutex<UnixStream>,
}

/// Hears the watcher.
#[derive(Debug)]
pub struct LinkReader {
    stream: UnixStream,
}

impl Link {
    /// Connects to the watcher's socket and says hello.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(path: &Path, hello: Hello) -> Result<(Self, LinkReader)> {
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let reader = LinkReader { stream: stream.try_clone()? };
        let link = Self { stream: Mutex::new(stream) };
        link.say(&FromRank::Hello(hello))?;
        Ok((link, reader))
    }

    /// Says something.
    ///
    /// # Errors
    /// If the watcher is gone.
    pub fn say(&self, message: &FromRank) -> Result<()> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(&mut *stream, message)
    }
}

impl LinkReader {
    /// Waits for the watcher's next message; `None` if it is gone.
    pub fn hear(&mut self) -> Option<ToRank> {
        frame::read(&mut self.stream).ok().flatten()
    }
}

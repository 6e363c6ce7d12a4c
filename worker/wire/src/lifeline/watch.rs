//! The watcher's end of all lifelines.

use std::collections::BTreeMap;
use std::io::Result;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::{FromRank, Hello, ToRank, frame};

/// How long a new connection may take to say hello, and a write may block.
const IO_TIMEOUT: Duration = Duration::from_secs(2);

/// What happened on a lifeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A rank has connected.
    Hello {
        /// Who it is.
        hello: Hello,
        /// Its process, as the system says.
        pid: i32,
    },
    /// A rank said something, a heartbeat included.
    Said {
        /// Which rank.
        rank: u32,
        /// What.
        message: FromRank,
    },
    /// A rank's lifeline ended: without a goodbye before, the rank is dead.
    Closed {
        /// Which rank.
        rank: u32,
    },
}

/// All lifelines of a deployment.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    ranks: Arc<Mutex<BTreeMap<u32, UnixStream>>>,
}

impl Watch {
    /// Listens on a Unix socket at `path`, this user's alone, and turns what is heard into events.
    /// Threads that end with the process do the listening.
    ///
    /// # Errors
    /// If the socket can't be made; its path may have about 100 bytes.
    pub fn listen<E: Send + 'static>(
        path: &Path,
        events: Sender<E>,
        wrap: impl Fn(Event) -> E + Clone + Send + 'static,
    ) -> Result<Self> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let watch = Self::default();
        let ranks = watch.ranks.clone();
        spawn("lifelines", move || {
            for stream in listener.incoming().flatten() {
                let (ranks, events, wrap) = (ranks.clone(), events.clone(), wrap.clone());
                // A thread that can't be started drops the stream, and its rank ends.
                let _ = spawn("lifeline", move || {
                    let emit = |event| events.send(wrap(event)).is_ok();
                    let _ = attend(stream, &ranks, emit);
                });
            }
        })?;
        Ok(watch)
    }

    /// Says something to a rank, if it is there.
    pub fn say(&self, rank: u32, message: &ToRank) {
        if let Some(stream) = self.lock().get_mut(&rank) {
            // A dead rank is heard of by the end of its lifeline.
            let _ = frame::write(stream, message);
        }
    }

    /// Says something to every rank that is there.
    pub fn say_to_all(&self, message: &ToRank) {
        for stream in self.lock().values_mut() {
            let _ = frame::write(stream, message);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, UnixStream>> {
        self.ranks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one lifeline until its end.
fn attend(
    mut stream: UnixStream,
    ranks: &Mutex<BTreeMap<u32, UnixStream>>,
    emit: impl Fn(Event) -> bool,
) -> Result<()> {
    let peer = getsockopt(&stream, PeerCredentials)?;
    if peer.uid() != geteuid().as_raw() {
        return Ok(());
    }
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let Some(FromRank::Hello(hello)) = frame::read(&mut stream)? else { return Ok(()) };
    stream.set_read_timeout(None)?;
    let rank = hello.rank;
    let lock = || ranks.lock().unwrap_or_else(PoisonError::into_inner);
    {
        let mut ranks = lock();
        if ranks.contains_key(&rank) {
            return Ok(());
        }
        ranks.insert(rank, stream.try_clone()?);
    }
    let mut listened = emit(Event::Hello { hello, pid: peer.pid() });
    while listened && let Ok(Some(message)) = frame::read(&mut stream) {
        listened = emit(Event::Said { rank, message });
    }
    lock().remove(&rank);
    emit(Event::Closed { rank });
    Ok(())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name(name.into()).stack_size(256 * 1024).spawn(run).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::channel;

    use super::super::Link;
    use super::*;

    fn hello(rank: u32) -> Hello {
        Hello { rank, world_size: 2, host: "here".into(), log: "log".into() }
    }

    #[test]
    fn both_ends_hear_each_other_and_each_others_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeline");
        let (sender, events) = channel();
        let watch = Watch::listen(&path, sender, |event| event).unwrap();
        let (link, mut reader) = Link::connect(&path, hello(1)).unwrap();
        let Event::Hello { hello, pid } = events.recv().unwrap() else { panic!() };
        assert_eq!((hello.rank, pid), (1, std::process::id() as i32));
        link.say(&FromRank::Alive { step: 7 }).unwrap();
        let said = Event::Said { rank: 1, message: FromRank::Alive { step: 7 } };
        assert_eq!(events.recv().unwrap(), said);
        watch.say_to_all(&ToRank::Drain);
        assert_eq!(reader.hear(), Some(ToRank::Drain));
        drop((link, reader));
        assert_eq!(events.recv().unwrap(), Event::Closed { rank: 1 });
    }

    #[test]
    fn strange_bytes_and_second_claims_to_a_rank_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeline");
        let (sender, events) = channel();
        let _watch = Watch::listen(&path, sender, |event| event).unwrap();
        let mut stranger = UnixStream::connect(&path).unwrap();
        stranger.write_all(&[0xff; 64]).unwrap();
        let (_link, _reader) = Link::connect(&path, hello(0)).unwrap();
        assert!(matches!(events.recv().unwrap(), Event::Hello { .. }));
        let (_second, mut reader) = Link::connect(&path, hello(0)).unwrap();
        assert_eq!(reader.hear(), None);
    }
}

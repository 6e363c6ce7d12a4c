//! The watcher's end of all lifelines.

mod lines;
mod visit;

use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::{FromRank, Hello, RankId, ToRank};
use crate::door::Door;
use crate::listener::{Listener, Listening};
use crate::{EngineStream, SocketError};
use lines::Lines;

/// Connections of each listener that are not known yet.
const MOST_UNKNOWN: usize = 64;

/// After a connection could not be taken, as when there are no descriptors left.
const REST: Duration = Duration::from_millis(100);

/// What happened on a lifeline.
#[derive(Debug)]
pub enum Event {
    /// A rank has connected.
    Hello {
        /// Who it is.
        hello: Hello,
        /// Whether `hello.pid` is a process of this machine, by the kernel's word: only such a one
        /// may be killed by its number.
        local: bool,
    },
    /// A rank said something, a heartbeat included.
    Said {
        /// Which rank.
        id: RankId,
        /// What.
        message: FromRank,
    },
    /// A leader offers its engine, on a line of its own.
    Engine {
        /// Which leader.
        id: RankId,
        /// The engine; to be dropped if it isn't wanted.
        engine: EngineStream,
    },
    /// A rank's lifeline ended: without a goodbye before, the rank is dead.
    Closed {
        /// Which rank.
        id: RankId,
        /// What else than the end of the process has ended it: the network, or bytes that make no
        /// sense.
        fault: Option<String>,
    },
}

/// All lifelines of a deployment, or of one instance if its leader watches.
///
/// Ranks are taken only of attempts that are [expected](Watch::expect); all others are told so and
/// turned away, without an event. The listeners close with the last clone of this.
#[derive(Clone, Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    listeners: Arc<Mutex<Vec<Listener>>>,
}

/// What the threads of a watch have in common.
struct Shared {
    lines: Mutex<Lines>,
    /// Hands an event on; false if nobody takes events any more. All are told under the lock of the
    /// lines, so that they come in order: a rank's engine before it says that it serves, and its
    /// beginning and end not after it was forgotten.
    emit: Box<dyn Fn(Event) -> bool + Send + Sync>,
}

impl Watch {
    /// Takes what comes to `listener`, and turns what is heard into events. Threads do the listening,
    /// one per lifeline; they end with it. `wrap` is called by them, and must not use the watch.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn listen<E: Send + 'static>(
        listener: Listener,
        events: Sender<E>,
        wrap: impl Fn(Event) -> E + Send + Sync + 'static,
    ) -> Result<Self, SocketError> {
        let emit = Box::new(move |event| events.send(wrap(event)).is_ok());
        let shared = Arc::new(Shared { lines: Mutex::default(), emit });
        let watch = Self { shared, listeners: Arc::default() };
        watch.also_listen(listener)?;
        Ok(watch)
    }

    /// Takes what comes to another listener, too.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn also_listen(&self, listener: Listener) -> Result<(), SocketError> {
        let (shared, socket) = (self.shared.clone(), listener.socket());
        spawn("lifelines", move || take_all(&socket, &shared))?;
        self.listeners().push(listener);
        Ok(())
    }

    /// Closes the listeners: nobody can connect any more. Lifelines go on.
    pub fn stop_listening(&self) {
        self.listeners().clear();
    }

    /// From now on ranks of this attempt of an instance are taken. Lifelines of its other attempts are
    /// ended, without an event, so their ranks end.
    pub fn expect(&self, instance: u32, attempt: u32) {
        self.shared.lines().expect(instance, attempt);
    }

    /// From now on no ranks of this instance are taken. Its lifelines are ended, without an event;
    /// what they said may still be among the events.
    pub fn forget(&self, instance: u32) {
        self.shared.lines().forget(instance);
    }

    /// Says something to a rank, if it is there.
    pub fn say(&self, id: &RankId, message: &ToRank) {
        self.shared.lines().say(|other| other == id, message);
    }

    /// Says something to every rank that is there.
    pub fn say_to_all(&self, message: &ToRank) {
        self.shared.lines().say(|_| true, message);
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("lines", &self.lines).finish_non_exhaustive()
    }
}

/// Gives everyone who connects a thread, until the listener is closed.
fn take_all(socket: &Listening, shared: &Arc<Shared>) {
    let door = Door::new(MOST_UNKNOWN);
    loop {
        let place = door.enter();
        let taken = match socket.accept() {
            None => return,
            Some(Ok(arrival)) => {
                let shared = shared.clone();
                spawn("lifeline", move || visit::receive(arrival, place, &shared))
            }
            Some(Err(error)) => Err(error),
        };
        if let Err(error) = taken {
            warn!(%error, "a connection could not be taken");
            std::thread::sleep(REST);
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).stack_size(256 * 1024).spawn(run).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

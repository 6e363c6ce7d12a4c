//! Watchers, ranks and others, over both kinds of lines.

mod expected;
mod lifelines;
mod strangers;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

use super::super::{Link, LinkReader};
use super::*;
use crate::{Address, BindTo, EngineLink, Secret};

/// The kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unix,
    Tcp,
}

/// A watch, its events, and how it is reached.
struct Watched {
    watch: Watch,
    events: Receiver<Event>,
    address: Address,
    secret: Secret,
    folder: TempDir,
}

/// Does the same over each kind of line.
fn both_kinds(story: impl Fn(Kind)) {
    [Kind::Unix, Kind::Tcp].into_iter().for_each(story);
}

impl Watched {
    /// A watch that expects the first attempt of instance 0.
    fn start(kind: Kind) -> Self {
        Self::start_with(kind, |event| event)
    }

    /// The same with what happens to events on their way.
    fn start_with(kind: Kind, wrap: impl Fn(Event) -> Event + Send + Sync + 'static) -> Self {
        let folder = private_folder();
        let secret = Secret::generate().unwrap();
        let listener = Listener::bind(&match kind {
            Kind::Unix => BindTo::Unix(folder.path().join("lifeline")),
            Kind::Tcp => loopback(&secret),
        })
        .unwrap();
        let address = listener.address();
        let (sender, events) = channel();
        let watch = Watch::listen(listener, sender, wrap).unwrap();
        watch.expect(0, 0);
        Self { watch, events, address, secret, folder }
    }

    fn connect(&self, hello: Hello) -> Result<(Link, LinkReader), SocketError> {
        Link::connect(&self.address, Some(&self.secret), hello)
    }

    /// A rank that is there.
    fn rank(&self, rank: u32) -> (Link, LinkReader) {
        let ends = self.connect(hello(id(0, 0, rank))).unwrap();
        assert!(matches!(self.event(), Event::Hello { hello, .. } if hello.id.rank == rank));
        ends
    }

    /// Why a rank is refused.
    fn refusal(&self, hello: Hello) -> String {
        match self.connect(hello) {
            Err(SocketError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(20)).expect("it came in time")
    }

    fn assert_quiet(&self) {
        assert!(self.events.try_recv().is_err());
    }
}

/// A folder that only this user can enter.
fn private_folder() -> TempDir {
    let mode = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

fn loopback(secret: &Secret) -> BindTo {
    BindTo::Tcp { host: IpAddr::V4(Ipv4Addr::LOCALHOST), secret: secret.clone() }
}

fn id(instance: u32, attempt: u32, rank: u32) -> RankId {
    RankId { instance, attempt, rank }
}

fn hello(id: RankId) -> Hello {
    Hello { id, world_size: 4, pid: 4711, host: "here".into(), log: "log".into() }
}

//! The engine and the ways to it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, mpsc as blocking};

use tokio::net::UnixStream;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::super::link::{EngineLink, EngineStream};
use super::*;
use crate::lifeline::{Event, RankId, Watch};
use crate::line::{AsyncReader, AsyncWriter};
use crate::{Address, BindTo, Listener, Secret};

/// How clients get to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Socket,
    Link,
}

/// A served engine.
pub(super) struct Served {
    pub(super) folder: TempDir,
    pub(super) engine: Arc<FakeEngine>,
    /// What the server said to the engine.
    pub(super) said: Said,
    pub(super) server: JoinHandle<Result<(), SocketError>>,
    end: watch::Sender<bool>,
    door: Door,
}

/// Where clients come from.
enum Door {
    Socket(PathBuf),
    Link(Watcher),
}

/// A supervisor that takes engines over TCP, and how the leader dials it.
pub(super) struct Watcher {
    pub(super) watch: Watch,
    pub(super) address: Address,
    pub(super) secret: Secret,
    events: Arc<Mutex<blocking::Receiver<Event>>>,
    dialled: mpsc::UnboundedSender<EngineLink>,
}

pub(super) const ID: RankId = RankId { instance: 1, attempt: 0, rank: 0 };

impl Served {
    pub(super) fn start(way: Way) -> Self {
        Self::with_patience(way, PATIENCE)
    }

    pub(super) fn with_patience(way: Way, patience: Duration) -> Self {
        let folder = private_folder();
        let (engine, said) = FakeEngine::new();
        let (end, told) = watch::channel(false);
        let (door, server) = match way {
            Way::Socket => {
                let path = folder.path().join("engine");
                let mut server = EngineServer::bind(&path).unwrap();
                server.patience = patience;
                let serve = server.serve(engine.clone(), over(told));
                (Door::Socket(path), tokio::spawn(serve))
            }
            Way::Link => {
                let (watcher, links) = Watcher::start();
                let serve = serve(links, engine.clone(), patience, told);
                (Door::Link(watcher), tokio::spawn(serve))
            }
        };
        Self { folder, engine, said, server, end, door }
    }

    /// Tells the server to end.
    pub(super) fn end(&self) {
        self.end.send(true).unwrap();
    }

    /// The engine's socket.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("engine")
    }

    /// A client's end of a new connection.
    pub(super) async fn halves(&self) -> (AsyncReader, AsyncWriter) {
        match &self.door {
            Door::Socket(path) => {
                let (reader, writer) = UnixStream::connect(path).await.unwrap().into_split();
                (Box::new(reader), Box::new(writer))
            }
            Door::Link(watcher) => watcher.stream().await.into_halves().unwrap(),
        }
    }

    pub(super) async fn client(&self) -> SocketEngine {
        match &self.door {
            Door::Socket(path) => soon(SocketEngine::connect(path)).await.unwrap(),
            Door::Link(watcher) => soon(watcher.stream().await.into_client()).await.unwrap(),
        }
    }

    pub(super) fn watcher(&self) -> &Watcher {
        match &self.door {
            Door::Link(watcher) => watcher,
            Door::Socket(_) => panic!("nobody watches"),
        }
    }
}

impl Watcher {
    fn start() -> (Self, mpsc::UnboundedReceiver<EngineLink>) {
        let secret = Secret::generate().unwrap();
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = Listener::bind(&BindTo::Tcp { host, secret: secret.clone() }).unwrap();
        let address = listener.address();
        let (sender, events) = channel();
        let watch = Watch::listen(listener, sender, |event| event).unwrap();
        watch.expect(ID.instance, ID.attempt);
        let events = Arc::new(Mutex::new(events));
        let (dialled, links) = mpsc::unbounded_channel();
        (Self { watch, address, secret, events, dialled }, links)
    }

    /// Lets the leader dial once more.
    async fn stream(&self) -> EngineStream {
        let (address, secret) = (self.address.clone(), self.secret.clone());
        let dial = move || EngineLink::dial(&address, Some(&secret), ID).unwrap();
        self.dialled.send(tokio::task::spawn_blocking(dial).await.unwrap()).unwrap();
        self.engine().await
    }

    /// The next engine that is offered.
    pub(super) async fn engine(&self) -> EngineStream {
        let events = self.events.clone();
        let next = tokio::task::spawn_blocking(move || events.lock().unwrap().recv().unwrap());
        match soon(next).await.unwrap() {
            Event::Engine { id: ID, engine } => engine,
            other => panic!("{other:?}"),
        }
    }
}

/// What the leader does, as [`EngineServer::serve`] does it.
async fn serve(
    mut links: mpsc::UnboundedReceiver<EngineLink>,
    engine: Arc<FakeEngine>,
    patience: Duration,
    told: watch::Receiver<bool>,
) -> Result<(), SocketError> {
    let mut serving = JoinSet::new();
    loop {
        select! {
            () = over(told.clone()) => break,
            Some(link) = links.recv() => {
                serving.spawn(link.serve_with(patience, engine.clone(), over(told.clone())));
            }
        }
    }
    serving.join_all().await.into_iter().collect()
}

/// Until the end is told.
pub(super) async fn over(mut told: watch::Receiver<bool>) {
    let _ = told.wait_for(|&ended| ended).await;
}

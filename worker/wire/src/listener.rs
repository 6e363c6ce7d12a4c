//! Where the processes of a run dial in.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::sys::socket::{self, Backlog};

use crate::line::Line;
use crate::unix::{self, SocketFile};
use crate::{Address, Secret, SocketError};

/// Where to listen.
#[derive(Clone, Debug)]
pub enum BindTo {
    /// A Unix socket at this path, which takes this user's processes only. It has mode 0600 and needs a
    /// folder of mode 0700.
    Unix(PathBuf),
    /// A free port of this address, which takes only those who know the secret.
    Tcp {
        /// An address of this machine that the peers can reach.
        host: IpAddr,
        /// The run's secret.
        secret: Secret,
    },
}

/// A socket that listens. When it is dropped, nobody can connect any more, and its path is removed.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Arc<Listening>,
    _file: Option<SocketFile>,
}

/// The socket itself, as a thread waits on it.
#[derive(Debug)]
pub(crate) struct Listening {
    kind: Kind,
    closed: AtomicBool,
}

#[derive(Debug)]
enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener, Secret),
}

/// A connection from somebody.
#[derive(Debug)]
pub(crate) enum Arrival {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr, Secret),
}

impl Listener {
    /// Listens. Who connects waits until the listener is given to a
    /// [`Watch`](crate::lifeline::Watch).
    ///
    /// # Errors
    /// [`SocketError::OpenFolder`] if others can enter the socket's folder, [`SocketError::InUse`] if a
    /// process listens at the path (a socket that a dead one left is replaced), or
    /// [`SocketError::Bind`]: a path may have about 100 bytes, and a host must be one of this machine's
    /// addresses.
    pub fn bind(to: &BindTo) -> Result<Self, SocketError> {
        let (kind, address, file) = match to {
            BindTo::Unix(path) => {
                let absolute = std::path::absolute(path).and_then(|path| match path.to_str() {
                    Some(_) => Ok(path),
                    None => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no UTF-8")),
                });
                let path = absolute.map_err(|source| unix::bind_failed(path, source))?;
                let (listener, file) = unix::listen(&path)?;
                (Kind::Unix(listener), Address::Unix(path), Some(file))
            }
            BindTo::Tcp { host, secret } => {
                let asked = SocketAddr::new(*host, 0);
                let failed = |source| SocketError::Bind { address: Address::Tcp(asked), source };
                if host.is_unspecified() {
                    let reason = "peers need an address of one interface to dial";
                    return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)));
                }
                let listener = TcpListener::bind(asked).map_err(failed)?;
                let address = Address::Tcp(listener.local_addr().map_err(failed)?);
                (Kind::Tcp(listener, secret.clone()), address, None)
            }
        };
        let socket = Arc::new(Listening { kind, closed: AtomicBool::new(false) });
        // The ranks of a large run come all at once.
        socket::listen(&socket.kind, Backlog::MAXALLOWABLE).map_err(|error| SocketError::Bind {
            address: address.clone(),
            source: error.into(),
        })?;
        Ok(Self { address, socket, _file: file })
    }

    /// Where it listens, to be published.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    pub(crate) fn socket(&self) -> Arc<Listening> {
        self.socket.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.socket.closed.store(true, Ordering::Release);
        // Wakes the thread that waits on it.
        let _ = socket::shutdown(self.socket.kind.as_fd().as_raw_fd(), socket::Shutdown::Both);
    }
}

impl Listening {
    /// Waits for the next connection; `None` when nobody listens any more.
    pub(crate) fn accept(&self) -> Option<io::Result<Arrival>> {
        let accepted = match &self.kind {
            Kind::Unix(listener) => listener.accept().map(|(stream, _)| Arrival::Unix(stream)),
            Kind::Tcp(listener, secret) => {
                listener.accept().map(|(stream, peer)| Arrival::Tcp(stream, peer, secret.clone()))
            }
        };
        (!self.closed.load(Ordering::Acquire)).then_some(accepted)
    }
}

impl Arrival {
    /// Finds out whether the peer is one of this user, or of this run.
    pub(crate) fn recognise(self, deadline: Instant) -> Result<Line, SocketError> {
        match self {
            Self::Unix(stream) => Line::known_by_user(stream, deadline),
            Self::Tcp(stream, peer, secret) => {
                Line::known_by_secret(stream, &Address::Tcp(peer), &secret, deadline)
            }
        }
    }
}

impl AsFd for Kind {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener, _) => listener.as_fd(),
        }
    }
}

//! A line: a stream to a process that is known to be of this user, by the kernel's word, or of this run,
//! by its secret.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::secure::{self, HandshakeError, Opener, PolledReader, PolledWriter, Sealer};
use crate::socket::Socket;
use crate::{Address, Secret, SocketError, unix};

/// For how long a machine may leave what was sent to it unacknowledged. For a stopped process its kernel
/// acknowledges, as long as it has room: heartbeats find that for many minutes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Both directions, to be used together.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) reader: LineReader,
    pub(crate) writer: LineWriter,
    /// The process at the other end, if it is of this machine and the kernel names it.
    pub(crate) process: Option<i32>,
}

/// What comes from the peer.
#[derive(Debug)]
pub(crate) struct LineReader {
    socket: Socket,
    opener: Option<Opener>,
    deadline: Option<Instant>,
}

/// What goes to the peer.
#[derive(Debug)]
pub(crate) struct LineWriter {
    socket: Socket,
    sealer: Option<Sealer>,
    /// What was taken and is still to be sent.
    unsent: Vec<u8>,
}

/// A direction of a line within a Tokio runtime.
pub(crate) type AsyncReader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type AsyncWriter = Box<dyn AsyncWrite + Send + Unpin>;

impl Line {
    /// Dials `address`. Reading is bounded by `deadline` from then on.
    pub(crate) fn dial(
        address: &Address,
        secret: Option<&Secret>,
        deadline: Instant,
    ) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Connect { address: address.clone(), source };
        match address {
            Address::Unix(path) => {
                Self::known_by_user(UnixStream::connect(path).map_err(failed)?, deadline)
            }
            Address::Tcp(to) => {
                let secret =
                    secret.ok_or_else(|| SocketError::NoSecret { address: address.clone() })?;
                let left = deadline.saturating_duration_since(Instant::now());
                let stream = TcpStream::connect_timeout(to, left.max(Duration::from_millis(1)))
                    .map_err(failed)?;
                let mut socket = tcp(stream)?;
                let ends =
                    secure::initiate(&mut socket.until(deadline), secret).map_err(|error| {
                        match error {
                            // Its kernel has taken the connection.
                            HandshakeError::Late => SocketError::Silent { after: left },
                            error => unrecognised(address, error),
                        }
                    })?;
                Ok(Self::new(socket, Some(ends), None, deadline)?)
            }
        }
    }

    /// A Unix stream, if the process at its other end is this user's.
    pub(crate) fn known_by_user(
        stream: UnixStream,
        deadline: Instant,
    ) -> Result<Self, SocketError> {
        let process = unix::peer_process(&stream)?;
        let process = (process > 0).then_some(process);
        Ok(Self::new(Socket::Unix(stream), None, process, deadline)?)
    }

    /// A TCP stream that was dialled from `peer`, if that knows the secret.
    pub(crate) fn known_by_secret(
        stream: TcpStream,
        peer: &Address,
        secret: &Secret,
        deadline: Instant,
    ) -> Result<Self, SocketError> {
        let mut socket = tcp(stream)?;
        let ends = secure::respond(&mut socket.until(deadline), secret)
            .map_err(|error| unrecognised(peer, error))?;
        Ok(Self::new(socket, Some(ends), None, deadline)?)
    }

    fn new(
        socket: Socket,
        ends: Option<(Sealer, Opener)>,
        process: Option<i32>,
        deadline: Instant,
    ) -> io::Result<Self> {
        let (sealer, opener) = ends.unzip();
        let writer = LineWriter { socket: socket.try_clone()?, sealer, unsent: Vec::new() };
        let reader = LineReader { socket, opener, deadline: Some(deadline) };
        Ok(Self { reader, writer, process })
    }

    /// From now on reading has no deadline, and a write may block for `patience`.
    pub(crate) fn settle(&mut self, patience: Duration) -> io::Result<()> {
        self.reader.deadline = None;
        self.reader.socket.set_read_timeout(None)?;
        self.writer.socket.set_write_timeout(Some(patience))
    }

    /// Both directions for the Tokio runtime that this is called in.
    pub(crate) fn into_tokio(self) -> io::Result<(AsyncReader, AsyncWriter)> {
        let Self { reader: LineReader { socket, opener, .. }, writer, .. } = self;
        match socket {
            Socket::Unix(stream) => {
                stream.set_nonblocking(true)?;
                let (from, to) = tokio::net::UnixStream::from_std(stream)?.into_split();
                Ok((Box::new(from), Box::new(to)))
            }
            Socket::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                let (from, to) = tokio::net::TcpStream::from_std(stream)?.into_split();
                let ends = opener.zip(writer.sealer).expect("a line over TCP is sealed");
                Ok((
                    Box::new(PolledReader::new(from, ends.0)),
                    Box::new(PolledWriter::new(to, ends.1)),
                ))
            }
        }
    }
}

/// Small messages go at once, and a connection whose other machine is gone ends.
fn tcp(stream: TcpStream) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    setsockopt(&stream, TcpUserTimeout, &(UNACKNOWLEDGED.as_millis() as u32))?;
    Ok(Socket::Tcp(stream))
}

fn unrecognised(peer: &Address, error: HandshakeError) -> SocketError {
    let peer = peer.clone();
    match error {
        HandshakeError::WrongSecret => SocketError::WrongSecret { peer },
        error => SocketError::Unrecognised { peer, reason: error.to_string() },
    }
}

impl Read for LineReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Self { socket, opener, deadline } = self;
        match (opener, *deadline) {
            (Some(opener), Some(deadline)) => {
                secure::read(opener, &mut socket.until(deadline), bytes)
            }
            (Some(opener), None) => secure::read(opener, socket, bytes),
            (None, Some(deadline)) => socket.until(deadline).read(bytes),
            (None, None) => socket.read(bytes),
        }
    }
}

impl LineWriter {
    /// Sends `bytes`. If the peer doesn't take them in time, what is left of them goes before the next,
    /// so what arrives is whole and in order; with such a rest waiting, `bytes` are not taken at all.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush()?;
        match &mut self.sealer {
            Some(sealer) => sealer.seal(bytes, &mut self.unsent)?,
            None => self.unsent.extend_from_slice(bytes),
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Nothing more is sent; what was still arrives.
    pub(crate) fn finish(&self) {
        // A peer that is gone needs no end.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends both directions at once, for all who use them.
    pub(crate) fn hang_up(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

//! The client's end.

mod connection;
mod inflight;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::framed::FrameReader;
use super::message::{FromEngine, PROTOCOL, Status, ToEngine};
use super::{LONGEST_FRAME, PATIENCE, unix};
use crate::frame::{self, FrameError};
use crate::{
    EngineClient, EngineLimits, EngineState, IterationStats, KvEvent, OutputStream, Refused,
    Request, RequestId, SocketError,
};
use connection::Connection;

/// An engine in another process, behind an [`EngineServer`](super::EngineServer) of this user, or an
/// [`EngineLink`](super::EngineLink) of this run.
///
/// It is one connection: when that ends, the state is [`EngineState::Stopped`] for good, and all
/// streams end. The other way round, the connection ends, and the server cancels what runs, when
/// this is dropped. A take whose future is dropped loses what it would have brought.
pub struct SocketEngine {
    commands: mpsc::UnboundedSender<Command>,
    seen: watch::Receiver<Seen>,
}

impl fmt::Debug for SocketEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketEngine").field("seen", &*self.seen.borrow()).finish_non_exhaustive()
    }
}

/// What callers want of the connection, which takes it at once. What it has to send is bounded by the
/// callers' own number: each waits for its answer, and a request is cancelled once.
enum Command {
    Submit { frame: Vec<u8>, request: Box<Request>, reply: Accept },
    Cancel(RequestId),
    TakeIterations(oneshot::Sender<Vec<IterationStats>>),
    TakeKvEvents(oneshot::Sender<Vec<KvEvent>>),
}

/// Where the answer to a submission goes.
type Accept = oneshot::Sender<Result<OutputStream, Refused>>;

/// What the connection knows of the engine.
#[derive(Debug)]
struct Seen {
    status: Status,
    /// Why the connection has ended.
    lost: Option<String>,
}

impl SocketEngine {
    /// Connects to the engine that listens at `path`. To be called within a Tokio runtime, which the
    /// connection lives in.
    ///
    /// # Errors
    /// [`SocketError::Connect`] if nobody listens there, [`SocketError::Stranger`] if another user
    /// does, [`SocketError::Closed`] if that ends the connection at once, [`SocketError::Version`],
    /// or [`SocketError::Silent`] if nothing is said for some seconds, as by an engine that does not
    /// serve yet.
    pub async fn connect(path: &Path) -> Result<Self, SocketError> {
        let (reader, writer) = unix::connect(path).await?;
        Self::over(reader, writer, PATIENCE).await
    }

    /// Talks to the server at the other end of a stream.
    pub(super) async fn over<R, W>(
        reader: R,
        writer: W,
        patience: Duration,
    ) -> Result<Self, SocketError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let mut reader = FrameReader::new(reader);
        let status = timeout(patience, meet(&mut reader))
            .await
            .map_err(|_| SocketError::Silent { after: patience })??;
        let (commands, receiver) = mpsc::unbounded_channel();
        let (sender, seen) = watch::channel(Seen { status, lost: None });
        tokio::spawn(Connection::new(reader, writer, receiver, sender).run());
        Ok(Self { commands, seen })
    }

    fn unreachable(&self) -> Refused {
        let lost = self.seen.borrow().lost.clone();
        Refused::Unreachable { reason: lost.unwrap_or_else(|| "the connection has ended".into()) }
    }
}

/// The server's first words.
async fn meet<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<Status, SocketError> {
    let gone = || SocketError::Closed { reason: "it said no hello".into() };
    match reader.next().await?.ok_or_else(gone)? {
        FromEngine::Hello { protocol: PROTOCOL } => {}
        FromEngine::Hello { protocol } => {
            return Err(SocketError::Version { theirs: protocol, ours: PROTOCOL });
        }
        _ => return Err(SocketError::nonsense("no hello at the beginning")),
    }
    match reader.next().await?.ok_or_else(gone)? {
        FromEngine::Status(status) => Ok(status),
        _ => Err(SocketError::nonsense("no status after the hello")),
    }
}

impl EngineClient for SocketEngine {
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        Box::pin(async move {
            let mut frame = Vec::new();
            let message = ToEngine::Submit(Cow::Borrowed(&request));
            frame::append(&mut frame, &message, LONGEST_FRAME).map_err(unsendable)?;
            let (reply, answer) = oneshot::channel();
            let command = Command::Submit { frame, request: Box::new(request), reply };
            if self.commands.send(command).is_err() {
                return Err(self.unreachable());
            }
            answer.await.unwrap_or_else(|_| Err(self.unreachable()))
        })
    }

    fn cancel(&self, id: RequestId) {
        // A connection that has ended has no requests.
        let _ = self.commands.send(Command::Cancel(id));
    }

    fn state(&self) -> EngineState {
        self.seen.borrow().status.state
    }

    fn limits(&self) -> Option<EngineLimits> {
        self.seen.borrow().status.limits
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::TakeIterations(reply));
        Box::pin(async move { answer.await.unwrap_or_default() })
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::TakeKvEvents(reply));
        Box::pin(async move { answer.await.unwrap_or_default() })
    }
}

/// A request that makes no frame.
fn unsendable(error: FrameError) -> Refused {
    let value = match error {
        FrameError::TooLong { len, .. } => format!("{len} bytes long"),
        other => other.to_string(),
    };
    Refused::Invalid {
        field: "the request".into(),
        value,
        allowed: format!("at most {LONGEST_FRAME} bytes can be sent to the engine"),
    }
}

//! The connection, as the client sees it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use super::super::framed::{FrameReader, FrameWriter};
use super::super::message::{FromEngine, ToEngine};
use super::inflight::{Inflight, Misfit};
use super::{Accept, Command, Seen};
use crate::{
    EngineState, IterationStats, KvEvent, Refused, Request, RequestId, SocketError, output_stream,
};

/// Items that one take may bring.
const MOST_TAKEN: usize = 1 << 20;

/// The task behind a [`SocketEngine`](super::SocketEngine).
pub(super) struct Connection<R, W> {
    seen: watch::Sender<Seen>,
    commands: mpsc::UnboundedReceiver<Command>,
    reader: FrameReader<R>,
    writer: FrameWriter<W>,
    /// Whether the server still reads.
    writable: bool,
    requests: HashMap<RequestId, Held>,
    takes: HashMap<u64, Take>,
    next_take: u64,
}

/// A request, until the server says that nothing more comes.
struct Held {
    stage: Stage,
    cancelled: bool,
}

enum Stage {
    /// The server has not answered.
    Submitted { request: Box<Request>, reply: Accept },
    /// Outputs come.
    Running(Inflight),
    /// Outputs come in vain: nobody waited any more, or one didn't fit.
    Lost,
}

/// What a take has brought so far.
enum Take {
    Iterations { got: Vec<IterationStats>, reply: oneshot::Sender<Vec<IterationStats>> },
    KvEvents { got: Vec<KvEvent>, reply: oneshot::Sender<Vec<KvEvent>> },
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    pub(super) fn new(
        reader: FrameReader<R>,
        writer: W,
        commands: mpsc::UnboundedReceiver<Command>,
        seen: watch::Sender<Seen>,
    ) -> Self {
        Self {
            seen,
            commands,
            reader,
            writer: FrameWriter::new(writer),
            writable: true,
            requests: HashMap::new(),
            takes: HashMap::new(),
            next_take: 0,
        }
    }

    /// Runs until the connection ends, or nobody uses it any more.
    pub(super) async fn run(mut self) {
        let Err(error) = self.attend().await else { return };
        warn!(%error, requests = self.requests.len(), "the connection to the engine has ended");
        // Before the streams end, so that who sees their end can ask why.
        self.seen.send_modify(|seen| {
            seen.status.state = EngineState::Stopped;
            seen.lost = Some(error.to_string());
        });
    }

    async fn attend(&mut self) -> Result<(), SocketError> {
        loop {
            select! {
                message = self.reader.next() => match message? {
                    Some(message) => self.hear(message)?,
                    None => return Err(SocketError::Closed { reason: "it gave no reason".into() }),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command)?,
                    None => return Ok(()),
                },
                sent = self.writer.send_some(), if !self.writer.is_empty() => {
                    if sent.is_err() {
                        // What the server still said, and why it closed, is there to be read.
                        self.writable = false;
                        self.writer.clear();
                    }
                }
            }
        }
    }

    /// What callers want.
    fn obey(&mut self, command: Command) -> Result<(), SocketError> {
        match command {
            Command::Submit { frame, request, reply } => {
                match self.requests.entry(request.id) {
                    Entry::Occupied(_) => {
                        let _ = reply.send(Err(Refused::Invalid {
                            field: "id".into(),
                            value: request.id.0.to_string(),
                            allowed: "a request of this id runs already".into(),
                        }));
                        return Ok(());
                    }
                    Entry::Vacant(place) => {
                        let stage = Stage::Submitted { request, reply };
                        place.insert(Held { stage, cancelled: false });
                    }
                }
                if self.writable {
                    self.writer.push_frames(&frame);
                }
                Ok(())
            }
            Command::Cancel(id) => self.cancel(id),
            Command::TakeIterations(reply) => {
                let call = self.take(Take::Iterations { got: Vec::new(), reply });
                self.say(&ToEngine::TakeIterations { call })
            }
            Command::TakeKvEvents(reply) => {
                let call = self.take(Take::KvEvents { got: Vec::new(), reply });
                self.say(&ToEngine::TakeKvEvents { call })
            }
        }
    }

    fn take(&mut self, take: Take) -> u64 {
        let call = self.next_take;
        self.next_take += 1;
        self.takes.insert(call, take);
        call
    }

    fn cancel(&mut self, id: RequestId) -> Result<(), SocketError> {
        match self.requests.get_mut(&id) {
            Some(held) if !held.cancelled => {
                held.cancelled = true;
                self.say(&ToEngine::Cancel(id))
            }
            _ => Ok(()),
        }
    }

    fn say(&mut self, message: &ToEngine<'_>) -> Result<(), SocketError> {
        if self.writable { self.writer.push(message) } else { Ok(()) }
    }

    /// What the server says.
    fn hear(&mut self, message: FromEngine) -> Result<(), SocketError> {
        match message {
            FromEngine::Hello { .. } => Err(SocketError::nonsense("a second hello")),
            FromEngine::Status(status) => {
                self.seen.send_modify(|seen| seen.status = status);
                Ok(())
            }
            FromEngine::Accepted(id) => self.accepted(id),
            FromEngine::Refused(id, refused) => match self.requests.remove(&id) {
                Some(Held { stage: Stage::Submitted { reply, .. }, .. }) => {
                    let _ = reply.send(Err(refused));
                    Ok(())
                }
                _ => Err(unasked("an answer to the submission", id.0)),
            },
            FromEngine::Tokens(id, tokens) => self.output(id, |inflight| inflight.tokens(&tokens)),
            FromEngine::Logits(id, piece) => self.output(id, |inflight| inflight.logits(piece)),
            FromEngine::Finished(id, finished) => {
                self.output(id, |inflight| inflight.finish(finished))
            }
            FromEngine::End(id) => match self.requests.remove(&id) {
                Some(Held { stage: Stage::Running(_) | Stage::Lost, .. }) => Ok(()),
                _ => Err(unasked("the end", id.0)),
            },
            FromEngine::Iteration { call, iteration } => match self.takes.get_mut(&call) {
                Some(Take::Iterations { got, .. }) => gather(got, iteration.into()),
                _ => Err(unasked("an iteration", call)),
            },
            FromEngine::KvEvent { call, event } => match self.takes.get_mut(&call) {
                Some(Take::KvEvents { got, .. }) => gather(got, event),
                _ => Err(unasked("an event", call)),
            },
            FromEngine::Taken { call } => {
                match self.takes.remove(&call) {
                    Some(Take::Iterations { got, reply }) => drop(reply.send(got)),
                    Some(Take::KvEvents { got, reply }) => drop(reply.send(got)),
                    None => return Err(unasked("the end of an answer", call)),
                }
                Ok(())
            }
            FromEngine::Ping => self.say(&ToEngine::Pong),
            FromEngine::Closing { reason } => Err(SocketError::Closed { reason }),
        }
    }

    fn accepted(&mut self, id: RequestId) -> Result<(), SocketError> {
        let unasked = || unasked("an answer to the submission", id.0);
        let held = self.requests.get_mut(&id).ok_or_else(unasked)?;
        let Stage::Submitted { request, reply } = std::mem::replace(&mut held.stage, Stage::Lost)
        else {
            return Err(unasked());
        };
        let (sink, stream) = output_stream(&request);
        if reply.send(Ok(stream)).is_err() {
            return self.cancel(id);
        }
        let limits = self.seen.borrow().status.limits;
        held.stage = Stage::Running(Inflight::new(sink, &request, limits));
        Ok(())
    }

    fn output(
        &mut self,
        id: RequestId,
        write: impl FnOnce(&mut Inflight) -> Result<(), Misfit>,
    ) -> Result<(), SocketError> {
        let unasked = || unasked("an output", id.0);
        let held = self.requests.get_mut(&id).ok_or_else(unasked)?;
        let written = match &mut held.stage {
            Stage::Submitted { .. } => return Err(unasked()),
            Stage::Running(inflight) => write(inflight),
            Stage::Lost => Ok(()),
        };
        let Err(misfit) = written else { return Ok(()) };
        warn!(request = id.0, %misfit, "a request is lost: an output doesn't fit it");
        held.stage = Stage::Lost;
        self.cancel(id)
    }
}

/// An answer that nobody waits for.
fn unasked(what: &str, number: u64) -> SocketError {
    SocketError::nonsense(format!("{what} came for {number}, which is not waiting for it"))
}

fn gather<T>(got: &mut Vec<T>, item: T) -> Result<(), SocketError> {
    if got.len() == MOST_TAKEN {
        return Err(SocketError::nonsense(format!("more than {MOST_TAKEN} items came at once")));
    }
    got.push(item);
    Ok(())
}

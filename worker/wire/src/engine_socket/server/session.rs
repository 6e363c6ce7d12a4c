//! One client's connection, as the server sees it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{debug, warn};

use super::super::framed::{FrameReader, FrameWriter};
use super::super::message::{FromEngine, PROTOCOL, Status, ToEngine};
use super::super::{LOOK, MOST_WORK};
use super::feed::Feed;
use crate::{
    EngineClient, EngineState, IterationStats, KvEvent, OutputStream, Refused, Request, RequestId,
    SocketError,
};

/// How often a client is asked for a sign of life before its silence is too long.
const BEATS: u32 = 8;

/// The next of the ids that servers of this process give.
static NEXT_ID: AtomicU64 = AtomicU64::new(1 << 63);

/// A client: what it asked for, what it gets, and whether it lives.
pub(in super::super) struct Session<R, W> {
    requests: Requests,
    reader: FrameReader<R>,
    writer: FrameWriter<W>,
    /// What the engine has not answered yet.
    work: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// What goes to the client piece by piece, each in turn.
    feeds: FuturesUnordered<BoxFuture<'static, (Feed, FromEngine)>>,
    /// What the client was told of the engine.
    told: Option<Status>,
    /// Whether the server ends.
    ending: watch::Receiver<bool>,
    /// Beats since the client was last heard.
    silent: u32,
}

/// What the engine answered.
enum Answer {
    Submitted(RequestId, Result<OutputStream, Refused>),
    Iterations(u64, Vec<IterationStats>),
    KvEvents(u64, Vec<KvEvent>),
}

/// A client's requests in the engine, by the client's ids. They are cancelled when it goes.
struct Requests {
    engine: Arc<dyn EngineClient>,
    running: HashMap<RequestId, Running>,
}

struct Running {
    /// Its id in the engine.
    id: RequestId,
    /// Whether the engine has taken it; before that, it doesn't know the id.
    accepted: bool,
    cancelled: bool,
}

impl Drop for Requests {
    fn drop(&mut self) {
        for running in self.running.values() {
            self.engine.cancel(running.id);
        }
    }
}

impl<R, W> Session<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    pub(in super::super) fn new(
        reader: R,
        writer: W,
        engine: Arc<dyn EngineClient>,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self {
            requests: Requests { engine, running: HashMap::new() },
            reader: FrameReader::new(reader),
            writer: FrameWriter::new(writer),
            work: FuturesUnordered::new(),
            feeds: FuturesUnordered::new(),
            told: None,
            ending,
            silent: 0,
        }
    }

    /// Serves the client until it leaves, or is silent for longer than `patience`, or the server's end.
    pub(in super::super) async fn run(mut self, patience: Duration) {
        let beat = patience / BEATS;
        match self.attend(beat).await {
            Ok(()) => debug!("a client of the engine has left"),
            Err(error) => {
                warn!(%error, requests = self.requests.running.len(), "a client of the engine is dropped");
                let SocketError::BadFrame { .. } = error else { return };
                let closing = FromEngine::Closing { reason: error.to_string() };
                if self.writer.push(&closing).is_err() {
                    return;
                }
            }
        }
        let Self { requests, mut reader, mut writer, .. } = self;
        drop(requests);
        // A stream that is closed with something unread may lose what was sent last.
        let _ = timeout(beat, async {
            writer.send_all().await?;
            writer.finish().await?;
            reader.gone().await;
            Ok::<_, SocketError>(())
        })
        .await;
    }

    async fn attend(&mut self, beat: Duration) -> Result<(), SocketError> {
        self.writer.push(&FromEngine::Hello { protocol: PROTOCOL })?;
        self.tell_status()?;
        let mut looks = ticks(LOOK);
        let mut beats = ticks(beat);
        while !(self.is_ending() && self.is_idle()) {
            let reading = self.work.len() < MOST_WORK;
            select! {
                // What is rare and short comes first, and writing last, so that what is ready goes
                // together.
                biased;
                _ = looks.tick() => self.tell_status()?,
                _ = beats.tick() => {
                    if reading {
                        self.ask_for_life(beat)?;
                    }
                }
                Ok(()) = self.ending.changed() => self.tell_status()?,
                message = self.reader.next(), if reading => match message? {
                    Some(message) => self.hear(message)?,
                    None => return Ok(()),
                },
                Some(answer) = self.work.next() => self.answer(answer)?,
                Some((feed, message)) = self.feeds.next(), if self.writer.has_room() => {
                    self.feed(feed, &message)?;
                }
                sent = self.writer.send_some(), if !self.writer.is_empty() => sent?,
            }
        }
        Ok(())
    }

    fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    fn is_idle(&self) -> bool {
        self.work.is_empty() && self.feeds.is_empty() && self.writer.is_empty()
    }

    /// What the client says.
    fn hear(&mut self, message: ToEngine<'static>) -> Result<(), SocketError> {
        self.silent = 0;
        let engine = self.requests.engine.clone();
        match message {
            ToEngine::Submit(request) => self.submit(request)?,
            ToEngine::Cancel(id) => {
                if let Some(running) = self.requests.running.get_mut(&id) {
                    running.cancelled = true;
                    if running.accepted {
                        engine.cancel(running.id);
                    }
                }
            }
            ToEngine::TakeIterations { call } => self.work.push(Box::pin(async move {
                Answer::Iterations(call, engine.take_iterations().await)
            })),
            ToEngine::TakeKvEvents { call } => self.work.push(Box::pin(async move {
                Answer::KvEvents(call, engine.take_kv_events().await)
            })),
            ToEngine::Pong => {}
        }
        Ok(())
    }

    fn submit(&mut self, request: Cow<'static, Request>) -> Result<(), SocketError> {
        let mut request = request.into_owned();
        let client_id = request.id;
        if self.is_ending() {
            return self.writer.push(&FromEngine::Refused(client_id, Refused::Draining));
        }
        request.id = RequestId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        match self.requests.running.entry(client_id) {
            Entry::Occupied(_) => {
                let reason = format!("request {} is submitted again before its end", client_id.0);
                return Err(SocketError::nonsense(reason));
            }
            Entry::Vacant(place) => {
                place.insert(Running { id: request.id, accepted: false, cancelled: false });
            }
        }
        let engine = self.requests.engine.clone();
        self.work.push(Box::pin(async move {
            Answer::Submitted(client_id, engine.submit(request).await)
        }));
        Ok(())
    }

    /// What the engine says.
    fn answer(&mut self, answer: Answer) -> Result<(), SocketError> {
        let feed = match answer {
            Answer::Submitted(id, Ok(outputs)) => {
                // The limits have to be known before a request's outputs come.
                self.tell_status()?;
                self.writer.push(&FromEngine::Accepted(id))?;
                if let Some(running) = self.requests.running.get_mut(&id) {
                    running.accepted = true;
                    if running.cancelled {
                        self.requests.engine.cancel(running.id);
                    }
                }
                Feed::request(id, outputs)
            }
            Answer::Submitted(id, Err(refused)) => {
                self.requests.running.remove(&id);
                return self.writer.push(&FromEngine::Refused(id, refused));
            }
            Answer::Iterations(call, stats) => Feed::iterations(call, stats),
            Answer::KvEvents(call, events) => Feed::kv_events(call, events),
        };
        self.feeds.push(Box::pin(feed.turn()));
        Ok(())
    }

    /// Takes what a feed gave, and puts it at the end of the queue.
    fn feed(&mut self, feed: Feed, message: &FromEngine) -> Result<(), SocketError> {
        self.writer.push(message)?;
        match message {
            FromEngine::Taken { .. } => {}
            FromEngine::End(id) => {
                self.requests.running.remove(id);
            }
            _ => self.feeds.push(Box::pin(feed.turn())),
        }
        Ok(())
    }

    /// Tells what the engine is like, if that has changed.
    fn tell_status(&mut self) -> Result<(), SocketError> {
        let engine = &self.requests.engine;
        let state = match engine.state() {
            EngineState::Loading | EngineState::Ready if self.is_ending() => EngineState::Draining,
            state => state,
        };
        let status = Status { state, limits: engine.limits() };
        if self.told.replace(status) != Some(status) {
            self.writer.push(&FromEngine::Status(status))?;
        }
        Ok(())
    }

    /// Counts the beats that the client has let pass: a server that was itself stopped counts one.
    fn ask_for_life(&mut self, beat: Duration) -> Result<(), SocketError> {
        self.silent += 1;
        if self.silent > BEATS {
            return Err(SocketError::Silent { after: beat * BEATS });
        }
        if self.silent == 1 {
            self.writer.push(&FromEngine::Ping)?;
        }
        Ok(())
    }
}

/// Ticks from now on, as far apart as they should be, late ones too.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

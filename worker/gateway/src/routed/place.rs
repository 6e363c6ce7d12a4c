//! Finding an instance for a request, or waiting until there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shardrun_wire::{EngineState, FinishReason, OutputStream, Refused, Request, RequestId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::counts::Waiting;
use super::fleet::{Attachment, Course, Fleet, Load};
use super::journey::{Journey, Stay, Stop};

/// How long a request waits before it asks instances again that took none, though nothing is known to
/// have changed.
const AGAIN: Duration = Duration::from_millis(100);

/// The priority of a request that has started elsewhere: it goes before those that have not.
const STARTED_PRIORITY: f32 = 1.0;

/// The next of the ids that requests have in their instances. One that comes to an instance again must
/// not meet itself.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A request without an instance.
pub(super) struct Placing<'a> {
    journey: &'a mut Journey,
    fleet: Arc<Fleet>,
}

/// What all instances said.
enum Answers {
    Accepted(Stay),
    /// Those that take requests at all have too many.
    Full {
        limit: u32,
    },
    /// There are none.
    Nobody,
}

/// What ends a wait that something else should have ended.
enum Interrupt {
    Cancelled,
    TimedOut,
    Expired,
    ClientLeft,
}

impl<'a> Placing<'a> {
    pub(super) fn new(journey: &'a mut Journey) -> Self {
        let fleet = journey.fleet.clone();
        Self { journey, fleet }
    }

    /// Hands the request to an instance, waiting for one as long as it may.
    pub(super) async fn place(mut self) -> Result<Stay, Stop> {
        let fleet = self.fleet.clone();
        let mut changes = fleet.changes();
        let mut waiting: Option<Waiting<'_>> = None;
        loop {
            if let (Course::Closed { reason }, true) = (fleet.course(), fleet.attached().is_empty())
            {
                return Err(Stop::Refused(Refused::Unreachable { reason }));
            }
            changes.borrow_and_update();
            match self.ask_all().await? {
                Answers::Accepted(stay) => return Ok(stay),
                Answers::Full { limit } if !self.journey.started => {
                    return Err(Stop::Refused(Refused::QueueFull { limit }));
                }
                Answers::Full { .. } | Answers::Nobody => {}
            }
            if waiting.is_none() {
                let limit = fleet.config.max_waiting;
                waiting = match self.journey.started {
                    true => Some(fleet.counts.wait()),
                    false => fleet.counts.wait_new(limit),
                };
                if waiting.is_none() {
                    return Err(Stop::Refused(Refused::QueueFull { limit }));
                }
            }
            self.wait(&mut changes).await?;
        }
    }

    /// Asks each instance that takes requests, the best first.
    async fn ask_all(&mut self) -> Result<Answers, Stop> {
        let mut answers = Answers::Nobody;
        for attachment in self.journey.candidates() {
            if attachment.departure().is_some() {
                // While another thought about it.
                continue;
            }
            match self.ask(&attachment).await? {
                Ok(stay) => return Ok(Answers::Accepted(stay)),
                Err(Refused::QueueFull { limit }) => answers = Answers::Full { limit },
                Err(Refused::Loading | Refused::Draining) => {}
                Err(Refused::Unreachable { .. }) => {
                    if let Some(reason) = self.journey.unanswered(&attachment) {
                        return Err(Stop::End(reason));
                    }
                }
                Err(
                    refused @ (Refused::TooLong { .. }
                    | Refused::CacheTooSmall { .. }
                    | Refused::Invalid { .. }),
                ) => return Err(Stop::Refused(refused)),
            }
        }
        Ok(answers)
    }

    /// Hands the request to one instance.
    async fn ask(&mut self, attachment: &Arc<Attachment>) -> Result<Result<Stay, Refused>, Stop> {
        let limits = attachment.client.limits();
        let Some(limits) = limits else { return Ok(Err(Refused::Loading)) };
        let request = self.request();
        let id = request.id;
        let load = Load::new(attachment, &request);
        let answer = {
            let answer = attachment.client.submit(request);
            tokio::select! {
                biased;
                interrupt = self.interrupted() => Err(interrupt),
                () = attachment.departed() => {
                    Ok(Err(Refused::Unreachable { reason: "it is gone".to_owned() }))
                }
                answer = answer => Ok(answer),
            }
        };
        let outputs: OutputStream = match answer {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(refused)) => {
                if let Refused::Unreachable { .. } = refused {
                    attachment.client.cancel(id);
                }
                return Ok(Err(refused));
            }
            Err(interrupt) => {
                attachment.client.cancel(id);
                return Err(interrupt.into());
            }
        };
        self.fleet.given(attachment, &self.journey.blocks, limits.kv_cache_tokens);
        self.journey.placed();
        if !self.journey.accept() {
            attachment.client.cancel(id);
            return Err(Stop::Left);
        }
        Ok(Ok(Stay {
            attachment: attachment.clone(),
            id,
            outputs,
            load,
            vocab_size: limits.vocab_size as usize,
            doubtful: Vec::new(),
            cancelled: false,
        }))
    }

    /// The request as the next instance gets it.
    fn request(&self) -> Request {
        let journey = &self.journey;
        let mut request = journey.retained.rest_of(&journey.request);
        request.id = RequestId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        // At least something: that it is over is seen here first.
        let least = Duration::from_micros(1);
        request.timeout = journey.times.left().map(|left| left.max(least)).or(request.timeout);
        if journey.started {
            request.priority = STARTED_PRIORITY;
        }
        request
    }

    /// Waits until an instance may take the request.
    async fn wait(&mut self, changes: &mut watch::Receiver<u64>) -> Result<(), Stop> {
        // Somebody takes requests, and none more now; or says that it does.
        let soon = self.fleet.attached().iter().any(|one| one.client.state() == EngineState::Ready);
        tokio::select! {
            biased;
            interrupt = self.interrupted() => Err(interrupt.into()),
            // The sender is the fleet's own.
            _ = changes.changed() => Ok(()),
            () = sleep(AGAIN), if soon => Ok(()),
        }
    }

    /// Waits for what ends all waiting.
    async fn interrupted(&mut self) -> Interrupt {
        let Journey { times, started, registered, client, .. } = &mut *self.journey;
        let queue_timeout = self.fleet.config.queue_timeout.filter(|_| !*started);
        let expiry = queue_timeout.and_then(|wait| times.after(wait));
        tokio::select! {
            () = registered.cancelled() => Interrupt::Cancelled,
            () = at(times.deadline()) => Interrupt::TimedOut,
            () = at(expiry) => Interrupt::Expired,
            () = client.left() => Interrupt::ClientLeft,
        }
    }
}

impl From<Interrupt> for Stop {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => Self::End(FinishReason::Cancelled),
            Interrupt::TimedOut => Self::End(FinishReason::TimedOut),
            Interrupt::Expired => Self::End(FinishReason::Expired),
            Interrupt::ClientLeft => Self::Left,
        }
    }
}

/// Waits until a moment, or for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

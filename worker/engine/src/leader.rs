//! The loop of rank 0: takes requests, plans, tells the followers, computes, samples, answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_queue::ArrayQueue;
use shardrun_comm::{CommError, Mail};
use shardrun_metrics::{Counter, Histogram, Iteration, MetricsPage};
use shardrun_model::Backend;
use shardrun_wire::{EngineLimits, FinishReason, KvEvent, Refused};
use thiserror::Error;
use tracing::{debug, info};

use crate::client::{Command, Inbox, Serving, Submission};
use crate::draw::Drawer;
use crate::executor::{Computed, ExecuteError, Executor};
use crate::guide::{GuideError, GuideVocabulary, MaskWorker};
use crate::iterations::IterationRecord;
use crate::plan::{IterationPlan, Order};
use crate::requests::{Arrival, Requests, SequenceEnd, SequenceToken, microseconds};
use crate::scheduler::{CapacityPolicy, Event, Scheduler, SchedulerConfig, SchedulerStats};

/// Why an engine ended before it was told to.
#[derive(Debug, Error)]
pub enum EngineError<E: std::error::Error + 'static> {
    /// A plan could not be run.
    #[error(transparent)]
    Execute(#[from] ExecuteError<E>),
    /// The followers could not be told, or the leader not be heard.
    #[error(transparent)]
    Mail(#[from] CommError),
    /// Guided requests could not be served.
    #[error(transparent)]
    Guide(#[from] GuideError),
    /// An order is not one.
    #[error("the leader's order cannot be written or read: {0}")]
    Order(#[from] postcard::Error),
}

/// The step thread of the leader.
pub struct Leader<B: Backend> {
    executor: Executor<B>,
    scheduler: Scheduler,
    config: SchedulerConfig,
    mail: Box<dyn Mail>,
    inbox: Inbox,
    requests: Requests,
    drawer: Drawer,
    page: Arc<MetricsPage>,
    /// The number of the iteration that runs or ran last, for the heartbeat.
    step: Arc<AtomicU64>,
    records: Records,
    began: Instant,
    /// Of the metrics, as of the last iteration.
    counted: SchedulerStats,
    // Kept from one iteration to the next for their memory.
    order: Vec<u8>,
    events: Vec<Event>,
    kv_events: Vec<KvEvent>,
}

/// What the leader needs beside its share of the model.
pub struct LeaderParts {
    /// What bounds an iteration, and how requests are chosen.
    pub config: SchedulerConfig,
    /// What clients may ask for.
    pub limits: EngineLimits,
    /// Turns guides into what tokens they allow.
    pub guides: GuideVocabulary,
    /// What the thread for guides does first: the step thread, which starts it, may be bound to a core.
    pub unbind: Box<dyn FnOnce() + Send>,
    /// Longest life of requests that don't say.
    pub request_timeout: Option<Duration>,
    /// What is kept for whoever asks.
    pub records: Records,
    /// The way to the followers.
    pub mail: Box<dyn Mail>,
    /// The way from the clients.
    pub inbox: Inbox,
    /// This rank's metrics.
    pub page: Arc<MetricsPage>,
    /// Where the number of the current iteration is shown.
    pub step: Arc<AtomicU64>,
}

/// What is kept of past iterations.
#[derive(Clone, Copy, Debug)]
pub struct Records {
    /// Iterations; the oldest go first.
    pub iterations: usize,
    /// Of those, the latest that have every request's state, too.
    pub requests: usize,
    /// Bytes of weights and KV cache, which each iteration tells.
    pub memory_bytes: u64,
}

/// What the loop does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Course {
    Serve,
    /// End when nothing is left to do.
    Drain,
    Stop,
}

/// What one iteration's events come to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    started: usize,
    completed: usize,
    queued_for: Duration,
}

impl<B: Backend> Leader<B> {
    /// A leader that is ready to serve: clients see the engine as ready from now on.
    ///
    /// # Errors
    /// [`EngineError::Guide`] if the thread for guides can't be started.
    pub fn new(executor: Executor<B>, parts: LeaderParts) -> Result<Self, EngineError<B::Error>> {
        let LeaderParts { config, limits, guides, unbind, .. } = parts;
        let LeaderParts { request_timeout, records, mail, inbox, .. } = parts;
        let began = Instant::now();
        let vocab_size = limits.vocab_size as usize;
        let drawer = Drawer::new(vocab_size, MaskWorker::new(vocab_size, unbind)?);
        inbox.shared.ready(Serving {
            limits,
            config,
            guides,
            request_timeout,
            iterations: queue_of(records.iterations),
            request_rows: queue_of(records.requests),
            kv_events: queue_of(config.kv_cache.event_buffer),
        });
        let leader = Self {
            executor,
            scheduler: Scheduler::new(config),
            config,
            mail,
            inbox,
            requests: Requests::new(began),
            drawer,
            page: parts.page,
            step: parts.step,
            records,
            began,
            counted: SchedulerStats::default(),
            order: Vec::new(),
            events: Vec::new(),
            kv_events: Vec::new(),
        };
        leader.publish();
        Ok(leader)
    }

    /// Serves until told to drain or stop, then lets the followers end.
    ///
    /// # Errors
    /// [`EngineError`] if an iteration failed; all requests have been told.
    pub fn run(mut self) -> Result<(), EngineError<B::Error>> {
        let result = self.serve();
        let why = match &result {
            Ok(()) => Refused::Draining.to_string(),
            Err(error) => error.to_string(),
        };
        self.inbox.shared.end(why.clone());
        let reason = FinishReason::Failed(why);
        self.scheduler.end_all(&reason, &mut self.events);
        self.deliver();
        while let Ok(command) = self.inbox.commands.try_recv() {
            self.take(command);
            self.scheduler.end_all(&reason, &mut self.events);
            self.deliver();
        }
        self.publish();
        result?;
        send(self.mail.as_mut(), &mut self.order, &Order::Stop)
    }

    fn serve(&mut self) -> Result<(), EngineError<B::Error>> {
        let mut course = Course::Serve;
        loop {
            course = course.max(self.take_commands(course));
            if course == Course::Stop || (course == Course::Drain && self.scheduler.is_idle()) {
                return Ok(());
            }
            self.iterate()?;
        }
    }

    /// Takes what clients have asked; sleeps until they do if there is nothing else to do.
    fn take_commands(&mut self, course: Course) -> Course {
        let mut next = course;
        if self.scheduler.is_idle() && course == Course::Serve {
            match self.inbox.commands.recv() {
                Ok(command) => next = next.max(self.take(command)),
                // No client is left, so none will ever ask.
                Err(_) => return Course::Stop,
            }
        }
        while let Ok(command) = self.inbox.commands.try_recv() {
            next = next.max(self.take(command));
        }
        self.deliver();
        next
    }

    fn take(&mut self, command: Command) -> Course {
        match command {
            Command::Submit(submission) => {
                self.add(*submission);
                Course::Serve
            }
            Command::Cancel(id) => {
                self.scheduler.end(id, &FinishReason::Cancelled, &mut self.events);
                Course::Serve
            }
            Command::Drain => {
                info!(requests = self.scheduler.stats().running, "draining");
                Course::Drain
            }
            Command::Stop => Course::Stop,
        }
    }

    fn add(&mut self, submission: Submission) {
        let Submission { request, guide, sink, at } = submission;
        let submitted = at.saturating_duration_since(self.began);
        self.requests.add(Arrival::new(&request, guide, sink, at));
        self.scheduler.add(request, submitted);
    }

    fn iterate(&mut self) -> Result<(), EngineError<B::Error>> {
        let began = Instant::now();
        let now = began.saturating_duration_since(self.began);
        self.scheduler.expire(now, &mut self.events);
        let planned = self.scheduler.schedule(now, &mut self.events).is_some();
        let mut tally = self.deliver();
        if !planned {
            // The last request may have been cancelled: no iteration will show that its blocks are free.
            self.publish();
            return Ok(());
        }
        let plan = self.scheduler.plan();
        let step = plan.step;
        self.step.store(step, Ordering::Relaxed);
        let compute = self.drawer.needs(&self.scheduler, &self.requests);
        send(self.mail.as_mut(), &mut self.order, &Order::Run { plan, compute })?;
        let plan_took = began.elapsed();

        self.drawer.clear();
        let (scheduler, requests, drawer) = (&self.scheduler, &self.requests, &mut self.drawer);
        let mut sampling_took = Duration::ZERO;
        self.executor.run(plan, compute, |computed| {
            let began = Instant::now();
            match computed {
                Computed::Logits(logits) => drawer.draw(scheduler, requests, logits),
                Computed::Best(tokens) => drawer.take(scheduler, tokens),
            }
            sampling_took = began.elapsed();
        })?;
        let forward_took = began.elapsed() - plan_took - sampling_took;
        let stats = self.scheduler.stats();
        self.scheduler.complete(&self.drawer.drawn, &mut self.events);
        for (id, reason) in self.drawer.failed.drain(..) {
            self.scheduler.end(id, &FinishReason::Failed(reason), &mut self.events);
        }
        let ended = self.deliver();
        tally.completed += ended.completed;
        let took = began.elapsed();
        self.scheduler.took(took);
        self.count(forward_took);
        self.publish();
        self.keep(step, took, tally);
        debug!(
            step,
            context_requests = stats.context_requests,
            context_tokens = stats.context_tokens,
            generation_requests = stats.generation_requests,
            generation_tokens = stats.generation_tokens,
            waiting = stats.waiting,
            paused = stats.paused,
            free_blocks = stats.free_blocks,
            plan_us = microseconds(plan_took),
            forward_us = microseconds(forward_took),
            sample_us = microseconds(sampling_took),
            guide_wait_us = microseconds(self.drawer.guides.take_waited()),
            total_us = microseconds(began.elapsed()),
            "iteration"
        );
        Ok(())
    }

    /// Tells clients, guides and metrics what happened.
    fn deliver(&mut self) -> Tally {
        let mut tally = Tally::default();
        let now = Instant::now();
        let guides = &mut self.drawer.guides;
        for event in &self.events {
            match *event {
                Event::Started { id } => {
                    self.inbox.shared.left_queue();
                    tally.started += 1;
                    tally.queued_for += self.requests.start(id, now, &self.page);
                    if let Some(entry) = self.requests.get(id) {
                        entry.guide_sequences(id, guides);
                    }
                }
                Event::Token { id, sequence, token, log_prob } => {
                    if self.requests.is_guided(id) {
                        guides.accept((id, sequence), token);
                    }
                    let token = SequenceToken { sequence, token, log_prob, now };
                    self.requests.token(id, token, &self.page);
                }
                Event::Finished { id, sequence, ref reason, score, ended } => {
                    let reason = reason.clone();
                    if self.requests.is_guided(id) {
                        guides.end((id, sequence));
                    }
                    let end = SequenceEnd { sequence, reason, score, blocks: ended };
                    if let Some(ended) = self.requests.finish(id, end, &self.page) {
                        tally.completed += 1;
                        if !ended.started {
                            self.inbox.shared.left_queue();
                        }
                    }
                }
            }
        }
        // All of an iteration at once; a request that has ended is gone, and was published by that.
        for event in self.events.drain(..) {
            if let Event::Token { id, .. } | Event::Finished { id, .. } = event {
                self.requests.publish(id);
            }
        }
        tally
    }

    /// Adds the iteration to this rank's counters.
    fn count(&mut self, forward_took: Duration) {
        let (before, now) = (self.counted, self.scheduler.stats());
        let count = |counter, n| self.page.counter(counter).add(n);
        count(Counter::Iterations, 1);
        count(Counter::BusyUs, microseconds(forward_took));
        count(Counter::PromptTokens, now.context_tokens as u64);
        count(Counter::KvReusedTokens, now.reused_tokens - before.reused_tokens);
        count(Counter::PausedRequests, now.pauses - before.pauses);
        self.counted = now;
    }

    /// Keeps the iteration for whoever asks later.
    fn keep(&mut self, step: u64, took: Duration, tally: Tally) {
        self.page.histogram(Histogram::IterationUs).observe(microseconds(took));
        let Some(serving) = self.inbox.shared.serving() else { return };
        if let Some(kept) = &serving.kv_events {
            self.scheduler.take_kv_events(&mut self.kv_events);
            for event in self.kv_events.drain(..) {
                kept.force_push(event);
            }
        }
        if let Some(kept) = &serving.request_rows {
            kept.force_push((step, self.scheduler.request_stats()));
        }
        let Some(kept) = &serving.iterations else { return };
        kept.force_push(IterationRecord {
            step,
            ended: SystemTime::now(),
            took,
            queued_for: tally.queued_for,
            started: tally.started,
            completed: tally.completed,
            config: self.config,
            scheduler: self.scheduler.stats(),
            memory_bytes: self.records.memory_bytes,
        });
    }

    fn publish(&self) {
        let stats = self.scheduler.stats();
        // Of no plan if there is nothing to do.
        let of_plan = |number: usize| if self.scheduler.is_idle() { 0 } else { number as u64 };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let batch = self.config.max_batch_size;
        self.page.publish(&Iteration {
            timestamp_us: microseconds(now),
            active_requests: (stats.waiting + stats.running) as u64,
            max_requests: batch as u64,
            scheduled_requests: of_plan(stats.context_requests + stats.generation_requests),
            context_requests: of_plan(stats.context_requests),
            generation_requests: of_plan(stats.generation_requests),
            waiting_requests: stats.waiting as u64,
            paused_requests: stats.paused as u64,
            context_tokens: of_plan(stats.context_tokens),
            generation_tokens: of_plan(stats.generation_tokens),
            empty_slots: (batch - stats.sequences) as u64,
            static_batching: self.config.capacity == CapacityPolicy::StaticBatch,
            kv_blocks_max: stats.kv_blocks as u64,
            kv_blocks_free: stats.free_blocks as u64,
            kv_blocks_used: stats.used_blocks as u64,
            kv_blocks_reused: stats.counts.reused,
            kv_blocks_missed: stats.counts.missed,
            tokens_per_kv_block: self.config.kv_cache.tokens_per_block as u64,
        });
    }
}

/// A queue with room for so many; none for none.
fn queue_of<T>(kept: usize) -> Option<ArrayQueue<T>> {
    (kept > 0).then(|| ArrayQueue::new(kept))
}

fn send<E: std::error::Error + 'static>(
    mail: &mut dyn Mail,
    bytes: &mut Vec<u8>,
    order: &Order<&IterationPlan>,
) -> Result<(), EngineError<E>> {
    let mut empty = std::mem::take(bytes);
    empty.clear();
    *bytes = postcard::to_extend(order, empty)?;
    Ok(mail.send(bytes)?)
}

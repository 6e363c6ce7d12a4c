//! The loop of rank 0: takes requests, plans, tells the followers, computes, samples, answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shardrun_comm::{CommError, Mail};
use shardrun_metrics::{Counter, Iteration, MetricsPage};
use shardrun_model::Backend;
use shardrun_wire::{EngineLimits, EngineState, Output};
use thiserror::Error;
use tracing::{debug, info};

use crate::client::{Command, Inbox};
use crate::executor::{ExecuteError, Executor};
use crate::plan::{IterationPlan, Order};
use crate::requests::Requests;
use crate::sampling::Sampler;
use crate::scheduler::{Scheduler, SchedulerLimits};

/// Why an engine ended before it was told to.
#[derive(Debug, Error)]
pub enum EngineError<E: std::error::Error + 'static> {
    /// A plan could not be run.
    #[error(transparent)]
    Execute(#[from] ExecuteError<E>),
    /// The followers could not be told, or the leader not be heard.
    #[error(transparent)]
    Mail(#[from] CommError),
    /// An order is not one.
    #[error("the leader's order cannot be written or read: {0}")]
    Order(#[from] postcard::Error),
}

/// The step thread of the leader.
pub struct Leader<B: Backend> {
    executor: Executor<B>,
    scheduler: Scheduler,
    limits: SchedulerLimits,
    mail: Box<dyn Mail>,
    inbox: Inbox,
    requests: Requests,
    sampler: Sampler,
    page: Arc<MetricsPage>,
    /// The number of the iteration that runs or ran last, for the heartbeat.
    step: Arc<AtomicU64>,
    // Kept from one iteration to the next for their memory.
    order: Vec<u8>,
    sampled: Vec<u32>,
    outputs: Vec<Output>,
}

/// What the leader needs beside its share of the model.
pub struct LeaderParts {
    /// What bounds an iteration.
    pub limits: SchedulerLimits,
    /// What clients may ask for.
    pub engine_limits: EngineLimits,
    /// The way to the followers.
    pub mail: Box<dyn Mail>,
    /// The way from the clients.
    pub inbox: Inbox,
    /// This rank's metrics.
    pub page: Arc<MetricsPage>,
    /// Where the number of the current iteration is shown.
    pub step: Arc<AtomicU64>,
}

/// What the loop does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Course {
    Serve,
    /// End when nothing is left to do.
    Drain,
    Stop,
}

impl<B: Backend> Leader<B> {
    /// A leader that is ready to serve: clients see the engine as ready from now on.
    pub fn new(executor: Executor<B>, parts: LeaderParts) -> Self {
        let LeaderParts { limits, engine_limits, mail, inbox, page, step } = parts;
        inbox.shared.ready(engine_limits);
        let leader = Self {
            executor,
            scheduler: Scheduler::new(limits),
            limits,
            mail,
            inbox,
            requests: Requests::default(),
            sampler: Sampler::default(),
            page,
            step,
            order: Vec::new(),
            sampled: Vec::new(),
            outputs: Vec::new(),
        };
        leader.publish();
        leader
    }

    /// Serves until told to drain or stop, then lets the followers end.
    ///
    /// # Errors
    /// [`EngineError`] if an iteration failed; all requests have been told.
    pub fn run(mut self) -> Result<(), EngineError<B::Error>> {
        let result = self.serve();
        self.inbox.shared.leave_for(EngineState::Stopped);
        let reason = match &result {
            Ok(()) => "the server is shutting down".to_owned(),
            Err(error) => error.to_string(),
        };
        self.scheduler.fail_all(&reason, &mut self.outputs);
        self.deliver();
        while let Ok(command) = self.inbox.commands.try_recv() {
            self.take(command);
            self.scheduler.fail_all(&reason, &mut self.outputs);
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
            Command::Submit { request, outputs, at } => {
                self.requests.add(request.id, outputs, at, request.prompt.len());
                self.scheduler.add(request);
                Course::Serve
            }
            Command::Cancel(id) => {
                self.outputs.extend(self.scheduler.cancel(id));
                Course::Serve
            }
            Command::Drain => {
                info!(requests = self.scheduler.stats().running, "draining");
                Course::Drain
            }
            Command::Stop => Course::Stop,
        }
    }

    fn iterate(&mut self) -> Result<(), EngineError<B::Error>> {
        let began = Instant::now();
        let Some(plan) = self.scheduler.schedule() else {
            // The last request may have been cancelled: no iteration will show that its blocks are free.
            self.publish();
            return Ok(());
        };
        let step = plan.step;
        self.step.store(step, Ordering::Relaxed);
        send(self.mail.as_mut(), &mut self.order, &Order::Run(plan))?;
        let planned = began.elapsed();
        for &id in self.scheduler.started() {
            self.requests.start(id, &self.page);
            self.inbox.shared.left_queue();
        }

        let (rows, sampler, sampled) =
            (self.scheduler.sample_rows(), &mut self.sampler, &mut self.sampled);
        sampled.clear();
        let mut sampling = Duration::ZERO;
        self.executor.run(self.scheduler.plan(), |logits| {
            let computed = Instant::now();
            let vocab = logits.len() / rows.len();
            for (row, logits) in rows.iter().zip(logits.chunks_exact(vocab)) {
                sampled.push(sampler.sample(logits, &row.sampling, row.position));
            }
            sampling = computed.elapsed();
        })?;
        let forward = began.elapsed() - planned - sampling;
        let stats = self.scheduler.stats();
        self.scheduler.complete(sampled, &mut self.outputs);

        self.page.counter(Counter::Iterations).add(1);
        self.page.counter(Counter::BusyUs).add(forward.as_micros() as u64);
        self.page.counter(Counter::PromptTokens).add(stats.context_tokens as u64);
        self.publish();
        self.deliver();
        debug!(
            step,
            context_requests = stats.context_requests,
            context_tokens = stats.context_tokens,
            generation_requests = stats.generation_requests,
            waiting = stats.waiting,
            free_blocks = stats.free_blocks,
            plan_us = planned.as_micros() as u64,
            forward_us = forward.as_micros() as u64,
            sample_us = sampling.as_micros() as u64,
            total_us = began.elapsed().as_micros() as u64,
            "iteration"
        );
        Ok(())
    }

    fn deliver(&mut self) {
        for output in self.outputs.drain(..) {
            if self.requests.deliver(output, &self.page) {
                self.inbox.shared.left_queue();
            }
        }
    }

    fn publish(&self) {
        let stats = self.scheduler.stats();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.page.publish(&Iteration {
            timestamp_us: now.as_micros() as u64,
            active_requests: (stats.waiting + stats.running) as u64,
            max_requests: self.limits.max_batch_size as u64,
            scheduled_requests: (stats.context_requests + stats.generation_requests) as u64,
            context_requests: stats.context_requests as u64,
            generation_requests: stats.generation_requests as u64,
            waiting_requests: stats.waiting as u64,
            paused_requests: 0,
            context_tokens: stats.context_tokens as u64,
            kv_blocks_max: stats.kv_blocks as u64,
            kv_blocks_free: stats.free_blocks as u64,
            kv_blocks_used: (stats.kv_blocks - stats.free_blocks) as u64,
            kv_blocks_reused: 0,
            tokens_per_kv_block: self.limits.tokens_per_block as u64,
        });
    }
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

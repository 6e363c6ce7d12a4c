//! The loop of every other rank: does what the leader orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shardrun_comm::Mail;
use shardrun_metrics::{Counter, MetricsPage};
use shardrun_model::Backend;
use tracing::debug;

use crate::executor::Executor;
use crate::leader::EngineError;
use crate::plan::Order;

/// How long a follower sleeps before it looks whether anything else has happened. Its death watch
/// is the lifeline, not this.
const NAP: Duration = Duration::from_secs(60);

/// Runs the leader's orders until it says stop.
///
/// # Errors
/// [`EngineError`] if an order could not be followed; the instance is lost then.
pub fn follow<B: Backend>(
    mut executor: Executor<B>,
    mut mail: Box<dyn Mail>,
    page: &MetricsPage,
    step: &Arc<AtomicU64>,
) -> Result<(), EngineError<B::Error>> {
    let mut message = Vec::new();
    loop {
        if !mail.receive(&mut message, NAP)? {
            continue;
        }
        match postcard::from_bytes::<Order>(&message)? {
            Order::Stop => return Ok(()),
            Order::Run { plan, compute } => {
                step.store(plan.step, Ordering::Relaxed);
                let began = Instant::now();
                executor.run(&plan, compute, |_| {})?;
                let busy_us = began.elapsed().as_micros() as u64;
                page.counter(Counter::Iterations).add(1);
                page.counter(Counter::BusyUs).add(busy_us);
                debug!(step = plan.step, tokens = plan.tokens.len(), busy_us, "iteration");
            }
        }
    }
}

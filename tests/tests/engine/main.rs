//! The engine as a client of its socket sees it: token by token, under every policy.

mod resuming;
mod same_tokens;
mod socket;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use shardrun_tests::{Deployment, Setup};
use shardrun_wire::{EngineClient as _, FinishReason, Output, Request, SocketEngine};

/// One rank of one thread: what is compared here doesn't depend on ranks.
fn setup(model: &Path) -> anyhow::Result<Setup> {
    Ok(Setup::new(model)?.set("model.tp_size", 1).set("model.max_seq_len", 1024))
}

/// The deployment's engine.
async fn connect(deployment: &Deployment) -> anyhow::Result<SocketEngine> {
    deployment.ready()?;
    Ok(SocketEngine::connect(&deployment.run_dir()?.join("engine")).await?)
}

/// What came of a request, by sequence.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    tokens: BTreeMap<u32, Vec<u32>>,
    reasons: BTreeMap<u32, FinishReason>,
    /// Of all sequences.
    log_probs: BTreeMap<u32, Vec<f32>>,
}

async fn ask(engine: &SocketEngine, request: Request) -> anyhow::Result<Answer> {
    let id = request.id;
    let mut stream = engine.submit(request).await?;
    let mut answer = Answer::default();
    while let Some(output) = stream.next().await {
        match output {
            Output::Tokens(new) => {
                answer.tokens.entry(new.sequence).or_default().extend(new.tokens);
                answer.log_probs.entry(new.sequence).or_default().extend(new.log_probs);
            }
            Output::Finished(end) => {
                if let FinishReason::Failed(reason) = &end.reason {
                    bail!("{id:?} failed: {reason}");
                }
                answer.reasons.insert(end.sequence, end.reason);
            }
            Output::Logits(_) => {}
        }
    }
    stream.is_finished().then_some(answer).with_context(|| format!("{id:?} was lost"))
}

/// Lets a future of a test run.
fn run<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // The connection is read while a test waits for something else.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build()?.block_on(future)
}

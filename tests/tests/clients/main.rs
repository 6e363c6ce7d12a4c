//! What clients see of a deployment of two ranks: answers, streams, errors, metrics.

mod answers;
mod bad_input;
mod counting;
mod ending;
mod generation;
mod guided;
mod iterations;
mod loading;
mod logits;
mod perf;
mod sampling;
mod sequences;
mod streams;
mod tokens;
mod words;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shardrun_tests::{Client, Deployment, Setup, Shared, model};

/// Bodies may have so many bytes.
const MAX_BODY: usize = 200_000;
/// Tokens of the longest sequence.
const MAX_SEQ_LEN: usize = 2048;
/// How long what a request has held may take to be free.
const SOON: Duration = Duration::from_secs(5);

static SHARED: Shared = Shared::new();

/// The deployment that most tests here share.
fn shared() -> anyhow::Result<Option<(Arc<Deployment>, Client)>> {
    let Some(model) = model()? else { return Ok(None) };
    let deployment = SHARED.get(|| {
        Setup::new(&model)?
            .exact()
            .set("server.max_body_bytes", MAX_BODY)
            .set("model.max_seq_len", MAX_SEQ_LEN)
            .serve()
    })?;
    let client = deployment.client()?;
    Ok(Some((deployment, client)))
}

fn prompt(text: &str, max_tokens: usize) -> Value {
    json!({"text_input": text, "max_tokens": max_tokens, "exclude_input_in_output": true})
}

/// Text, the end token ignored: as many tokens as asked for.
fn endless(text: &str, max_tokens: usize) -> Value {
    let mut request = prompt(text, max_tokens);
    request["end_id"] = json!(-1);
    request
}

fn with(mut request: Value, more: &[(&str, Value)]) -> Value {
    for (key, value) in more {
        request[*key] = value.clone();
    }
    request
}

//! What each iteration says of itself, and whose turn it is.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde_json::{Value, json};
use shardrun_tests::{Client, Deployment, Setup, golden, model, until};

use super::counting::{nothing_is_left, requests};
use super::tokens::ask;
use super::{SOON, endless, with};

const NAMES: [&str; 21] = [
    "timestamp",
    "iter",
    "iterLatencyMS",
    "newActiveRequestsQueueLatencyMS",
    "numNewActiveRequests",
    "numActiveRequests",
    "numQueuedRequests",
    "numCompletedRequests",
    "maxNumActiveRequests",
    "maxBatchSizeStatic",
    "maxBatchSizeTunerRecommended",
    "maxBatchSizeRuntime",
    "maxNumTokensStatic",
    "maxNumTokensTunerRecommended",
    "maxNumTokensRuntime",
    "gpuMemUsage",
    "cpuMemUsage",
    "pinnedMemUsage",
    "kvCacheStats",
    "staticBatchingStats",
    "inflightBatchingStats",
];
const CACHE_NAMES: [&str; 9] = [
    "maxNumBlocks",
    "freeNumBlocks",
    "usedNumBlocks",
    "tokensPerBlock",
    "allocTotalBlocks",
    "allocNewBlocks",
    "reusedBlocks",
    "missedBlocks",
    "cacheHitRate",
];
const BATCH_NAMES: [&str; 7] = [
    "numScheduledRequests",
    "numContextRequests",
    "numGenRequests",
    "numPausedRequests",
    "numCtxTokens",
    "microBatchId",
    "avgNumDecodedTokensPerIter",
];

/// A deployment that runs one request at a time.
fn narrow() -> anyhow::Result<Option<(Deployment, Client)>> {
    let Some(model) = model()? else { return Ok(None) };
    let deployment = Setup::new(&model)?.set("model.max_batch_size", 1).serve()?;
    let client = deployment.client()?;
    Ok(Some((deployment, client)))
}

fn iterations(client: &Client) -> anyhow::Result<Vec<Value>> {
    let reply = client.observe("/iteration_stats")?;
    assert_eq!(reply.content_type, "application/json");
    Ok(reply.json()?.as_array().context("an array")?.clone())
}

fn has_names(object: &Value, names: &[&str]) -> anyhow::Result<()> {
    let there: BTreeSet<&str> =
        object.as_object().context("an object")?.keys().map(String::as_str).collect();
    let missing: Vec<_> = names.iter().filter(|name| !there.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {object}");
    Ok(())
}

#[test]
fn iterations_are_told_once_by_the_reference_s_names() -> anyhow::Result<()> {
    let Some((_deployment, client)) = narrow()? else { return Ok(()) };
    let prompt = &golden()?.prompts[17].ids[..100];
    client.answer("tensorrt_llm", &ask(prompt, 12))?;
    until("everything to be free", SOON, || nothing_is_left(&client))?;
    let told = iterations(&client)?;
    // The prompt's iteration has the first token.
    assert!(told.len() >= 12, "{} iterations", told.len());
    for iteration in &told {
        has_names(iteration, &NAMES)?;
        has_names(iteration, &["specDecodingStats"])?;
        has_names(&iteration["kvCacheStats"], &CACHE_NAMES)?;
        has_names(&iteration["inflightBatchingStats"], &BATCH_NAMES)?;
        assert!(iteration["staticBatchingStats"].is_null(), "{iteration}");
        let time = iteration["timestamp"].as_str().context("a text")?;
        let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(form, "00-00-0000 00:00:00.000000");
    }
    let sum = |name: &str| told.iter().filter_map(|one| one.pointer(name)?.as_u64()).sum::<u64>();
    assert_eq!(sum("/numNewActiveRequests"), 1);
    assert_eq!(sum("/numCompletedRequests"), 1);
    assert_eq!(sum("/inflightBatchingStats/numCtxTokens"), 100);
    assert_eq!(sum("/inflightBatchingStats/numGenRequests"), 11, "and one with the prompt");
    let numbers: Vec<u64> = told.iter().filter_map(|one| one["iter"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    let last = told.last().context("a last one")?;
    assert_eq!(last["numActiveRequests"], 0);
    assert_eq!(last["kvCacheStats"]["usedNumBlocks"], 0);
    assert_eq!(iterations(&client)?, Vec::<Value>::new(), "each is told once");
    Ok(())
}

#[test]
fn of_those_that_wait_the_dearest_is_next() -> anyhow::Result<()> {
    let Some((_deployment, client)) = narrow()? else { return Ok(()) };
    // Runs until it is left.
    let mut running = client.stream(&endless("Once upon a time", 3000))?;
    running.next_text()?.context("it has begun")?;
    let prompt = &golden()?.prompts[0].ids;
    let began = std::thread::scope(|scope| {
        let mut waiting = Vec::new();
        for (before, priority) in [0.5, 0.1, 0.9].into_iter().enumerate() {
            let more = [("priority", json!(priority)), ("return_perf_metrics", json!(true))];
            let request = with(ask(prompt, 2), &more);
            let one = client.clone();
            let answer = move || -> anyhow::Result<(u64, f64)> {
                let answer = one.answer("tensorrt_llm", &request)?;
                Ok((answer["first_scheduled_time_ns"].as_u64().context("a time")?, priority))
            };
            waiting.push(scope.spawn(answer));
            let all_wait = || Ok(requests(&client.metrics()?, "waiting")? == before as f64 + 1.0);
            until("it to wait", SOON, all_wait)?;
        }
        drop(running);
        waiting
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let mut order = began.clone();
    order.sort_by_key(|&(time, _)| time);
    let order: Vec<f64> = order.into_iter().map(|(_, priority)| priority).collect();
    assert_eq!(order, [0.9, 0.5, 0.1], "{began:?}");
    until("everything to be free", SOON, || nothing_is_left(&client))?;
    Ok(())
}

//! Orchestrator mode across nodes, by both spawners: a client can't tell them apart.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use shardrun_tests::Client;
use shardrun_tests::slurm::User;

use super::site::{Batch, Site, answers, counts};

/// Two models on two nodes: `a` has two ranks on the first and one on the second, `b` one on the second.
pub(crate) fn two_models<'a>(
    site: &'a Site,
    spawner: &str,
    options: &[&str],
) -> anyhow::Result<Batch<'a>> {
    let home = site.cluster.home(User::Ada);
    let source = json!(home.join("model.gguf"));
    // The folder's one model is not one of these.
    let keys = [
        ("model.source", Value::Null),
        ("mode", json!("orchestrator")),
        ("models.a.source", source.clone()),
        ("models.a.tp_size", json!(3)),
        ("models.b.source", source),
        ("launch.spawner", json!(spawner)),
        ("supervision.restart_backoff_ms", json!(50)),
    ];
    let nodes = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2"];
    site.serve(&[&nodes, options].concat(), &keys)
}

/// What a client sees of the API, without what is different in every run.
fn seen(client: &Client) -> anyhow::Result<Vec<String>> {
    let mut seen = Vec::new();
    for path in ["/v2/health/ready", "/v2/models/a", "/v2/models/b", "/v2/models/c", "/v2"] {
        let reply = client.get(path)?;
        seen.push(format!("{path}: {} {}", reply.status, reply.body));
    }
    for (model, request) in [
        ("b", json!({"text_input": "One, two,", "max_tokens": 8})),
        (
            "a",
            json!({"text_input": "One, two,", "max_tokens": 8, "top_k": 5, "seed": 3, "temperature": 1.2}),
        ),
        ("a", json!({"text_input": "x", "max_tokens": 0})),
        ("c", json!({"text_input": "x", "max_tokens": 1})),
    ] {
        let reply = client.post(&format!("/v2/models/{model}/generate"), request.to_string())?;
        seen.push(format!("{request}: {} {}", reply.status, reply.body));
    }
    Ok(seen)
}

#[test]
fn two_models_by_both_spawners() -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    let mut all = Vec::new();
    for spawner in ["step", "comm_spawn"] {
        let batch = two_models(&site, spawner, &[])?;
        let client = batch.client()?;
        answers(&client, "a")?;
        answers(&client, "b")?;
        let places = [(0, 0), (0, 1), (0, 2), (1, 0)]
            .map(|(instance, rank)| batch.rank(instance, rank).map(|rank| rank.node));
        let places = places.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(places == [1, 1, 2, 2], "{spawner}: {places:?}");
        counts(&client, &[(0, 0, 1), (0, 1, 1), (0, 2, 2), (1, 0, 2)])?;
        // The leader of `b` is on the other node.
        let scrape = client.metrics()?;
        let blocks = [("model", "tensorrt_llm_b"), ("kv_cache_block_type", "max")];
        let blocks = scrape.value("nv_trt_llm_kv_cache_block_metrics", &blocks)?;
        ensure!(blocks > 0.0, "{spawner}: {scrape:?}");
        let generated = [("model", "tensorrt_llm_b")];
        let generated = scrape.value("shardrun_generation_tokens_total", &generated)?;
        ensure!(generated >= 20.0, "{spawner}: b has generated {generated} tokens");
        all.push(seen(&client)?);
        // What drains is told so, and finishes.
        let mut events =
            client.stream(&json!({"text_input": "Once", "max_tokens": 30, "end_id": -1}))?;
        events.next_text()?;
        site.ada(&["scancel", "--signal=TERM", "--batch", &batch.id.to_string()])?;
        batch.says("running requests may finish", 1, Duration::from_secs(5))?;
        let rest = events.rest()?;
        ensure!(rest.len() == 29, "{} events came after the first", rest.len());
        let job = batch.end()?;
        ensure!(job.state() == "COMPLETED" && job.field("ExitCode") == "0:0", "{job:?}");
        site.nothing_left()?;
    }
    ensure!(all[0] == all[1], "{:#?}\n{:#?}", all[0], all[1]);
    Ok(())
}

//! Several models and instances, as clients see them.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP};
use serde_json::{Value, json};
use shardrun_tests::{Client, Ready, Role, free_ports, until, until_some};

use super::streams::{Asked, Played, Playing, asked, expect_same, undisturbed};
use super::{BACK, INSTANCES, Spawner, endless, hit, one_of_each, setup, until_ready};

fn ready(client: &Client, model: &str) -> anyhow::Result<bool> {
    let reply = client.get(&format!("/v2/models/{model}/ready"))?;
    ensure!([200, 400].contains(&reply.status), "{reply:?}");
    Ok(reply.status == 200)
}

/// Each model has its own names, the first one the plain ones, too; what they mean is the same.
fn every_name_answers(client: &Client) -> anyhow::Result<()> {
    let request = endless("The capital of France is", 8);
    let tokens = json!({
        "input_ids": [504, 3575, 282, 4649, 314], "input_lengths": 5, "request_output_len": 8,
        "end_id": -1,
    });
    let text = |name: &str| anyhow::Ok(client.answer(name, &request)?["text_output"].clone());
    let ids = |name: &str| anyhow::Ok(client.answer(name, &tokens)?["output_ids"].clone());
    for (model, plain) in [("alpha", true), ("beta", false)] {
        let expected = text(model)?;
        for served in ["ensemble", "tensorrt_llm_bls"] {
            ensure!(text(&format!("{served}_{model}"))? == expected, "{served}_{model}");
            ensure!(!plain || text(served)? == expected, "{served}");
        }
        let expected = ids(&format!("tensorrt_llm_{model}"))?;
        ensure!(!plain || ids("tensorrt_llm")? == expected);
    }
    let reply = client.post("/v2/models/gamma/generate", request.to_string())?;
    let error = reply.error()?;
    ensure!(reply.status == 404, "{reply:?}");
    ensure!(
        error.contains("'gamma' is not found; there are ") && error.contains("beta"),
        "{error}"
    );
    Ok(())
}

/// What is of one instance has its number as a label.
fn metrics_tell_instances_apart(client: &Client) -> anyhow::Result<()> {
    let metrics = client.metrics()?;
    for (instance, model) in INSTANCES.iter().enumerate() {
        let instance = instance.to_string();
        let model = if *model == "beta" { "tensorrt_llm_beta" } else { "tensorrt_llm" };
        let ranks = if model == "tensorrt_llm_beta" { 1 } else { 2 };
        let of = [("instance", &*instance), ("model", model)];
        let mut iterations = Vec::new();
        for rank in 0..ranks {
            let rank = rank.to_string();
            let of = [of[0], of[1], ("rank", &*rank)];
            ensure!(metrics.value("shardrun_rank_weight_bytes", &of)? > 1e7);
            iterations.push(metrics.value("shardrun_rank_iterations_total", &of)?);
        }
        ensure!(iterations.iter().all(|&done| done > 0.0), "instance {instance}: {iterations:?}");
        let used = [of[0], of[1], ("kv_cache_block_type", "max")];
        ensure!(metrics.value("nv_trt_llm_kv_cache_block_metrics", &used)? == 128.0);
    }
    let successes = |name| metrics.value("nv_inference_request_success", &[("model", name)]);
    // Both have answered 24 and 8 streams, and what else was asked.
    ensure!(successes("ensemble")? + successes("ensemble_alpha").unwrap_or(0.0) >= 24.0);
    ensure!(successes("ensemble_beta")? >= 8.0);
    Ok(())
}

fn answers(spawner: Spawner) -> anyhow::Result<Option<Vec<Played>>> {
    let Some(setup) = setup(spawner)? else { return Ok(None) };
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    until_ready(&client, 2.0, 1.0)?;
    ensure!(client.get("/v2/health/ready")?.status == 200);
    every_name_answers(&client)?;
    let played = undisturbed(&client, &asked())?;
    metrics_tell_instances_apart(&client)?;
    Ok(Some(played))
}

#[test]
fn both_spawners_answer_alike() -> anyhow::Result<()> {
    let Some(by_step) = answers(Spawner::Step)? else { return Ok(()) };
    let Some(by_comm_spawn) = answers(Spawner::CommSpawn)? else { return Ok(()) };
    expect_same(&by_comm_spawn, &by_step)
}

/// From the first moment that the port is open each model says for itself whether it is ready; one that
/// loads again keeps new requests waiting.
fn readiness(spawner: Spawner) -> anyhow::Result<()> {
    let Some(setup) = one_of_each(spawner)? else { return Ok(()) };
    let [http, metrics] = free_ports()?;
    let deployment = setup
        .set("server.http_port", http)
        .set("server.metrics_port", metrics)
        // A rank is stopped on purpose, and not to be missed.
        .set("supervision.heartbeat_timeout_ms", 600_000)
        .serve()?;
    let address =
        Ready { http: format!("127.0.0.1:{http}"), metrics: format!("127.0.0.1:{metrics}") };
    let client = Client::new(address.clone());
    until_some("the port to be open", BACK, || Ok(TcpStream::connect(&address.http).ok()))?;
    until("a rank to stop", BACK, || Ok(hit(&deployment, 0, Role::Rank(1), SIGSTOP).is_ok()))?;
    ensure!(client.get("/v2/health/live")?.status == 200);
    until("beta to be ready", BACK, || ready(&client, "beta"))?;
    ensure!(!ready(&client, "alpha")? && !ready(&client, "ensemble")?);
    ensure!(client.get("/v2/health/ready")?.status == 400);
    let request = endless("Hello", 4);
    client.answer("beta", &request)?;
    let reply = client.post("/v2/models/alpha/generate", request.to_string())?;
    let sentence = "the model is loading, please try again later";
    ensure!(reply.status == 503 && reply.error()? == sentence, "{reply:?}");
    ensure!(deployment.stdout().is_empty(), "ready is not said too early");
    hit(&deployment, 0, Role::Rank(1), SIGCONT)?;
    ensure!(deployment.ready()? == address);
    ensure!(client.get("/v2/health/ready")?.status == 200 && ready(&client, "alpha")?);
    let expected: Value = client.answer("alpha", &request)?;

    hit(&deployment, 0, Role::Rank(0), SIGKILL)?;
    until("alpha to be not ready", Duration::from_secs(5), || Ok(!ready(&client, "alpha")?))?;
    ensure!(client.get("/v2/health/ready")?.status == 400 && ready(&client, "beta")?);
    ensure!(client.get("/v2/health/live")?.status == 200);
    // It waits until there is an instance again.
    ensure!(client.answer("alpha", &request)? == expected);
    ensure!(client.get("/v2/health/ready")?.status == 200);
    Ok(())
}

#[test]
fn each_model_is_ready_for_itself_by_step() -> anyhow::Result<()> {
    readiness(Spawner::Step)
}

#[test]
fn each_model_is_ready_for_itself_by_comm_spawn() -> anyhow::Result<()> {
    readiness(Spawner::CommSpawn)
}

/// A model whose entry in the file has changed is replaced: streams that run stay with the one before,
/// however long they take, and what the two have counted is one row of numbers.
#[test]
fn a_replaced_model_finishes_its_streams() -> anyhow::Result<()> {
    const LONG: usize = 1000;
    let Some(setup) = one_of_each(Spawner::Step)? else { return Ok(()) };
    let file = setup.folder().join("deployment.toml");
    let deployment = setup.set("supervision.drain_timeout_ms", 100).serve()?;
    let client = deployment.client()?;
    until_ready(&client, 1.0, 1.0)?;
    let load = || client.post("/v2/repository/models/beta/load", String::new());
    ensure!(load()?.status == 200, "it is there");
    let long = Asked { model: "beta", request: endless("Once upon a time", LONG) };
    let stream = Playing::begin(&client, &[long]);
    stream.until_come(1, "beta", 5)?;
    client.answer("beta", &endless("Hello", 4))?;
    let mut text = std::fs::read_to_string(&file)?;
    text += "models.beta.max_queue_size = 77\n";
    std::fs::write(&file, text)?;
    let reply = load()?;
    ensure!(reply.status == 200, "{reply:?}");
    ensure!(stream.running() == 1, "the stream ends too early to tell");
    let busy = load()?;
    let error = busy.error()?;
    let sentence = "the model 'beta' is being replaced: requests of the one before still run";
    ensure!(busy.status == 503 && error.contains(sentence), "{busy:?}");
    // Both are there, and each series once: the reader of metrics sees to that.
    let counts = || {
        let metrics = client.metrics()?;
        let succeeded = |name| metrics.value("nv_inference_request_success", &[("model", name)]);
        anyhow::Ok((succeeded("ensemble_beta")?, succeeded("tensorrt_llm_beta")?))
    };
    ensure!(counts()? == (1.0, 1.0), "{:?}", counts()?);
    client.answer("beta", &endless("Hello", 4))?;
    let index = client.post("/v2/repository/index", String::new())?.json()?;
    let of_beta = index.as_array().into_iter().flatten().filter(|it| it["name"] == "beta");
    let states: Vec<&Value> = of_beta.map(|it| &it["state"]).collect();
    ensure!(states == ["READY"], "{index}");
    let played = stream.finish()?.remove(0);
    ensure!(played.came.len() > LONG - 100, "{} events", played.came.len());
    until("the one before to be gone", BACK, || Ok(load()?.status == 200))?;
    ensure!(counts()? == (3.0, 3.0), "{:?}", counts()?);
    client.answer("beta", &endless("Hello", 4))?;
    ensure!(counts()? == (4.0, 4.0), "{:?}", counts()?);
    Ok(())
}

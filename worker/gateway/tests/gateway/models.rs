//! Several models behind one gateway, which come, go and change while others serve.

use std::sync::Arc;

use serde_json::json;
use shardrun_gateway::{ModelError, ModelParts};
use shardrun_wire::{EngineState, FinishReason};

use crate::client::{get, open, post, read_until};
use crate::engine::{Bytes, Call, FakeEngine};
use crate::server::{MODEL, Server, new_page};

const BODY: &str = r#"{"text_input":"in","max_tokens":3}"#;
const TOKENS: &str = r#"{"input_ids":[1],"input_lengths":1,"request_output_len":3}"#;

fn parts(name: &str, default: bool) -> ModelParts {
    let (engine, _) = FakeEngine::new();
    let (name, page) = (name.to_owned(), new_page());
    ModelParts { name, engine, page, default, request_timeout: None }
}

#[tokio::test]
async fn each_name_leads_to_its_model() {
    let server = Server::start().await;
    let (other, mut calls) = FakeEngine::new();
    server.add("2", other.clone());
    for (name, body, engine, platform) in [
        ("ensemble", BODY, &server.engine, "ensemble"),
        ("tiny", BODY, &server.engine, "ensemble"),
        ("ensemble_tiny", BODY, &server.engine, "ensemble"),
        ("tensorrt_llm_bls_tiny", BODY, &server.engine, "python"),
        ("tensorrt_llm_tiny", TOKENS, &server.engine, "tensorrtllm"),
        ("2", BODY, &other, "ensemble"),
        ("ensemble_2", BODY, &other, "ensemble"),
        ("tensorrt_llm_bls_2", BODY, &other, "python"),
        ("tensorrt_llm_2", TOKENS, &other, "tensorrtllm"),
    ] {
        engine.says("out");
        let reply = post(server.http, &format!("/v2/models/{name}/generate"), body).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        assert_eq!(reply.json()["model_name"], *name);
        let metadata = get(server.http, &format!("/v2/models/{name}/versions/1")).await.json();
        assert_eq!((&metadata["name"], &metadata["platform"]), (&json!(name), &json!(platform)));
    }
    let submitted = std::iter::from_fn(|| calls.try_recv().ok()).count();
    assert_eq!(submitted, 4);
}

#[tokio::test]
async fn the_server_is_ready_when_every_model_is() {
    let server = Server::start().await;
    let (other, _calls) = FakeEngine::new();
    server.add("2", other.clone());
    let status = async |path| get(server.http, path).await.status;
    assert_eq!(status("/v2/health/ready").await, 200);
    *other.state.lock().unwrap() = EngineState::Loading;
    assert_eq!(status("/v2/health/ready").await, 400);
    assert_eq!(status("/v2/models/2/ready").await, 400);
    assert_eq!(status("/v2/models/ensemble/ready").await, 200);
    *other.state.lock().unwrap() = EngineState::Stopped;
    assert_eq!(status("/v2/health/live").await, 200, "one lives");
    server.state.remove_model("2").unwrap();
    assert_eq!(status("/v2/health/ready").await, 200);
    assert_eq!(status("/v2/models/tensorrt_llm_2/ready").await, 400);
    server.state.remove_model(MODEL).unwrap();
    assert_eq!(status("/v2/health/ready").await, 200, "none is missing");
    assert_eq!(status("/v2/health/live").await, 200);
    let reply = get(server.http, "/v2/models/ensemble").await;
    assert_eq!(reply.error(), "Request for unknown model: 'ensemble' is not found");
}

#[tokio::test]
async fn no_two_models_share_a_name() {
    let server = Server::start().await;
    let state = &server.state;
    let taken = |model: &str, name: &str| {
        let (model, name) = (model.to_owned(), name.to_owned());
        Err(ModelError::NameTaken { model, name, other: MODEL.to_owned() })
    };
    assert_eq!(state.add_model(parts(MODEL, false)), taken(MODEL, MODEL));
    assert_eq!(
        state.add_model(parts("ensemble_tiny", false)),
        taken("ensemble_tiny", "ensemble_tiny")
    );
    assert_eq!(state.add_model(parts("other", true)), taken("other", "ensemble"), "two defaults");
    let reserved = Err(ModelError::Reserved { name: "tensorrt_llm".to_owned() });
    assert_eq!(state.add_model(parts("tensorrt_llm", false)), reserved);
    for name in ["", "a/b", "é", &"a".repeat(129)] {
        let name = name.to_owned();
        assert_eq!(state.add_model(parts(&name, false)), Err(ModelError::BadName { name }));
    }
    let unknown = Err(ModelError::Unknown { name: "ensemble".to_owned() });
    assert_eq!(state.set_text("ensemble", Arc::new(Bytes)), unknown, "not its own name");
    assert_eq!(state.replace(parts("ensemble", true), Arc::new(Bytes)), unknown);
    assert_eq!(state.remove_model("ensemble"), unknown);
    // Names that only look alike.
    state.add_model(parts("tiny_2", false)).unwrap();
    state.add_model(parts("2", false)).unwrap();
    let error = state.add_model(parts("tensorrt_llm_2", false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model 'tensorrt_llm_2' would be served as 'tensorrt_llm_2', which the model '2' is \
         already"
    );
    assert_eq!(get(server.http, "/v2/models/ensemble/ready").await.status, 200);
}

#[tokio::test]
async fn what_runs_stays_with_the_model_that_was_replaced() {
    let mut server = Server::start().await;
    let sink = server.engine.held();
    let body = r#"{"id":"old","text_input":"in","max_tokens":9,"stream":true}"#;
    let mut stream =
        open(server.http, "POST /v2/models/ensemble/generate_stream", body.as_bytes()).await;
    let id = server.submitted().await.id;
    let sink = sink.await.unwrap();
    sink.say(0, "a");
    read_until(&mut stream, "\"text_output\":\"a\"").await;

    let (new, mut calls) = FakeEngine::new();
    let parts = ModelParts { engine: new.clone(), ..parts(MODEL, true) };
    server.state.replace(parts, Arc::new(Bytes)).unwrap();
    new.says("new");
    assert_eq!(server.generate(BODY).await.json()["text_output"], "innew");
    assert!(matches!(calls.try_recv(), Ok(Call::Submit(_))));

    let stop = r#"{"id":"old","stop":true}"#;
    assert_eq!(server.tokens(stop).await.status, 200);
    assert_eq!(server.cancelled().await, id, "it is stopped where it runs");
    sink.say(0, "b");
    read_until(&mut stream, "\"text_output\":\"b\"").await;
    server.state.remove_model(MODEL).unwrap();
    sink.say_and_end(0, "c", FinishReason::Length);
    read_until(&mut stream, "\"text_output\":\"c\"").await;
    assert_eq!(server.generate(BODY).await.status, 404);
}

#[tokio::test]
async fn statistics_are_those_of_the_model_that_is_asked_for() {
    let server = Server::start().await;
    let (other, _calls) = FakeEngine::new();
    server.add("2", other.clone());
    let iteration = |iter| shardrun_wire::IterationStats { iter, ..Default::default() };
    *server.engine.iterations.lock().unwrap() = vec![iteration(1)];
    *other.iterations.lock().unwrap() = vec![iteration(2)];
    let iter = async |path| get(server.metrics, path).await.json()[0]["iter"].clone();
    assert_eq!(iter("/iteration_stats?x=y&model=tensorrt_llm_2").await, 2);
    assert_eq!(iter("/iteration_stats").await, 1, "the default model's");
    let reply = post(server.metrics, "/kv_cache_events?model=none", "").await;
    assert_eq!(reply.status, 404);
}

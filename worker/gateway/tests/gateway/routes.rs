//! Every path and method that is not generate's.

use serde_json::{Value, json};
use shardrun_wire::EngineState;

use crate::client::{get, post, send};
use crate::server::Server;

#[tokio::test]
async fn health_follows_the_engine() {
    let server = Server::start_loading().await;
    let status = async |path| {
        let reply = get(server.http, path).await;
        assert_eq!(reply.body, "");
        reply.status
    };
    let ready = [
        "/v2/health/ready",
        "/v2/models/ensemble/ready",
        "/v2/models/tensorrt_llm_bls/versions/1/ready",
    ];
    *server.engine.state.lock().unwrap() = EngineState::Loading;
    assert_eq!(status("/v2/health/live").await, 200);
    for path in ready {
        assert_eq!(status(path).await, 400, "{path}: loading");
    }
    *server.engine.state.lock().unwrap() = EngineState::Ready;
    assert_eq!(status("/v2/health/ready").await, 400, "the tokenizer is not there");
    server.load();
    for path in ready {
        assert_eq!(status(path).await, 200, "{path}: ready");
    }
    for path in ["/v2/models/none/ready", "/v2/models/ensemble/versions/2/ready"] {
        assert_eq!(status(path).await, 400, "{path}: unknown");
    }
    *server.engine.state.lock().unwrap() = EngineState::Draining;
    assert_eq!(status("/v2/health/live").await, 200);
    assert_eq!(status("/v2/health/ready").await, 400, "draining");
    *server.engine.state.lock().unwrap() = EngineState::Stopped;
    assert_eq!(status("/v2/health/live").await, 400, "stopped");
}

#[tokio::test]
async fn metadata_lists_what_is_served() {
    let server = Server::start_loading().await;
    let reply = get(server.http, "/v2").await;
    let expected =
        json!({"name": "shardrun", "version": env!("CARGO_PKG_VERSION"), "extensions": []});
    assert_eq!((reply.status, reply.json()), (200, expected));

    let reply = get(server.http, "/v2/models/ensemble").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let ensemble = reply.json();
    let about = |model: &Value| {
        (model["name"].clone(), model["platform"].clone(), model["versions"].clone())
    };
    assert_eq!(about(&ensemble), (json!("ensemble"), json!("ensemble"), json!(["1"])));
    for (name, datatype, shape) in [
        ("text_input", "BYTES", json!([-1, 1])),
        ("max_tokens", "INT32", json!([-1, 1])),
        ("stop_words", "BYTES", json!([-1, -1])),
        ("seed", "UINT64", json!([-1, 1])),
        ("stream", "BOOL", json!([-1, 1])),
        ("top_p", "FP32", json!([-1, 1])),
        ("retention_token_range_starts", "INT32", json!([-1, -1])),
        ("cache_salt", "BYTES", json!([-1, 1])),
    ] {
        assert_eq!(tensor(&ensemble["inputs"], name), Some((datatype.into(), shape)), "{name}");
    }
    assert_eq!(
        tensor(&ensemble["outputs"], "generation_logits"),
        Some(("FP32".to_owned(), json!([-1, -1, -1, -1])))
    );
    // Neither what is not acted on, nor what is no tensor.
    for name in ["lora_task_id", "priority", "timeout", "input_ids", "stop"] {
        assert_eq!(tensor(&ensemble["inputs"], name), None, "{name}");
    }

    let bls = get(server.http, "/v2/models/tensorrt_llm_bls/versions/1").await.json();
    assert_eq!(about(&bls), (json!("tensorrt_llm_bls"), json!("python"), json!(["1"])));
    assert_eq!(bls["inputs"], ensemble["inputs"]);
    assert_eq!(bls["outputs"], ensemble["outputs"]);

    let llm = get(server.http, "/v2/models/tensorrt_llm").await.json();
    assert_eq!(about(&llm), (json!("tensorrt_llm"), json!("tensorrtllm"), json!(["1"])));
    for (name, datatype, shape) in [
        ("input_ids", "INT32", json!([-1, -1])),
        ("input_lengths", "INT32", json!([-1, 1])),
        ("request_output_len", "INT32", json!([-1, 1])),
        ("stop_words_list", "INT32", json!([-1, 2, -1])),
        ("embedding_bias", "FP32", json!([-1, -1])),
        ("runtime_top_k", "INT32", json!([-1, 1])),
        ("len_penalty", "FP32", json!([-1, 1])),
        ("streaming", "BOOL", json!([-1, 1])),
        ("stop", "BOOL", json!([-1, 1])),
    ] {
        assert_eq!(tensor(&llm["inputs"], name), Some((datatype.into(), shape)), "{name}");
    }
    assert_eq!(tensor(&llm["inputs"], "text_input"), None);
    let outputs: Vec<&str> = llm["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(outputs[..3], ["output_ids", "sequence_length", "cum_log_probs"]);
    assert_eq!(outputs.len(), 17);
}

/// Datatype and shape of a tensor in a list.
fn tensor(list: &Value, name: &str) -> Option<(String, Value)> {
    let tensor = list.as_array().unwrap().iter().find(|tensor| tensor["name"] == name)?;
    Some((tensor["datatype"].as_str().unwrap().to_owned(), tensor["shape"].clone()))
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let server = Server::start().await;
    for path in ["/", "/v1/models", "/v2/", "/v2/models/ensemble/nothing", "/metrics"] {
        let reply = get(server.http, path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.error(), format!("{path} is not a path of this server"));
    }
    for model in ["none", "postprocessing", "preprocessing", "%00"] {
        let named = if model == "%00" { "\0" } else { model };
        let text = format!(
            "Request for unknown model: '{named}' is not found; there are ensemble, \
             ensemble_tiny, tensorrt_llm, tensorrt_llm_bls, tensorrt_llm_bls_tiny, \
             tensorrt_llm_tiny, tiny"
        );
        let reply = get(server.http, &format!("/v2/models/{model}")).await;
        assert_eq!((reply.status, reply.error()), (404, text.clone()));
        let reply = post(server.http, &format!("/v2/models/{model}/generate"), "{}").await;
        assert_eq!((reply.status, reply.error()), (404, text));
    }
    let reply = post(server.http, "/v2/models/ensemble/versions/2/generate", "{}").await;
    let text = "Request for unknown model: 'ensemble' version 2 is not found";
    assert_eq!((reply.status, reply.error().as_str()), (404, text));
    assert_eq!(get(server.http, "/v2/models/%ff").await.status, 404);
    assert_eq!(get(server.metrics, "/v2/health/live").await.status, 404);
}

#[tokio::test]
async fn a_wrong_method_is_405() {
    let server = Server::start().await;
    for (address, head) in [
        (server.http, "POST /v2/health/live"),
        (server.http, "POST /v2/models/ensemble"),
        (server.http, "GET /v2/models/ensemble/generate"),
        (server.http, "PUT /v2/models/ensemble/generate_stream"),
        (server.http, "DELETE /v2"),
        (server.metrics, "POST /metrics"),
    ] {
        let reply = send(address, head, b"").await;
        assert_eq!((reply.status, reply.error().as_str()), (405, "Method Not Allowed"), "{head}");
    }
}

#[tokio::test]
async fn metrics_are_text_on_their_own_port() {
    let server = Server::start().await;
    let reply = get(server.metrics, "/metrics").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4"));
    assert!(reply.body.starts_with("# HELP nv_inference_request_success "), "{}", reply.body);
}

//! Every path and method that is not generate's.

use serde_json::json;
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
    let one = |name, datatype| json!({"name": name, "datatype": datatype, "shape": [-1, 1]});
    let expected = json!({
        "name": "ensemble",
        "versions": ["1"],
        "platform": "ensemble",
        "inputs": [
            one("text_input", "BYTES"),
            one("max_tokens", "INT32"),
            {"name": "stop_words", "datatype": "BYTES", "shape": [-1, -1]},
            one("exclude_input_in_output", "BOOL"),
            one("end_id", "INT32"),
            one("pad_id", "INT32"),
            one("top_k", "INT32"),
            one("top_p", "FP32"),
            one("temperature", "FP32"),
            one("seed", "UINT64"),
            one("stream", "BOOL"),
        ],
        "outputs": [{"name": "text_output", "datatype": "BYTES", "shape": [-1, -1]}],
    });
    assert_eq!(reply.json(), expected);
    assert_eq!(reply.header("content-type"), Some("application/json"));

    let reply = get(server.http, "/v2/models/tensorrt_llm_bls/versions/1").await;
    assert_eq!(reply.json()["platform"], "python");
    assert_eq!(reply.json()["inputs"], expected["inputs"]);
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let server = Server::start().await;
    for path in ["/", "/v1/models", "/v2/", "/v2/models/ensemble/nothing", "/metrics"] {
        let reply = get(server.http, path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.error(), format!("{path} is not a path of this server"));
    }
    for model in ["none", "tensorrt_llm", "preprocessing", "%00"] {
        let named = if model == "%00" { "\0" } else { model };
        let text = format!("Request for unknown model: '{named}' is not found");
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

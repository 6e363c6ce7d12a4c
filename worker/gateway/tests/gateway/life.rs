//! Loading, draining, stopping, and what is counted.

use shardrun_wire::{EngineState, FinishReason, Refused};

use crate::client::{open, post, read_until};
use crate::server::Server;

const BODY: &str = r#"{"text_input":"in","max_tokens":3}"#;

#[tokio::test]
async fn requests_are_refused_unless_the_engine_is_ready() {
    let mut server = Server::start_loading().await;
    for (state, text) in [
        (EngineState::Loading, "the model is loading, please try again later"),
        (EngineState::Ready, "the model is loading, please try again later"),
        (EngineState::Draining, "the server is shutting down"),
        (EngineState::Stopped, "the engine has ended"),
    ] {
        *server.engine.state.lock().unwrap() = state;
        for reply in [server.generate(BODY).await, server.stream(BODY).await] {
            assert_eq!((reply.status, reply.error().as_str()), (503, text), "{state:?}");
        }
    }
    server.no_calls();
    *server.engine.state.lock().unwrap() = EngineState::Ready;
    server.load();
    server.engine.says("out");
    assert_eq!(server.generate(BODY).await.status, 200);
}

#[tokio::test]
async fn stopping_lets_running_responses_finish() {
    let mut server = Server::start().await;
    let sink = server.engine.held();
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true}"#;
    let mut stream =
        open(server.http, "POST /v2/models/ensemble/generate_stream", body.as_bytes()).await;
    let sink = sink.await.unwrap();
    sink.say(0, "a");
    read_until(&mut stream, "\"text_output\":\"a\"").await;
    server.stop();
    // The listener closes when the signal has been seen.
    while tokio::net::TcpStream::connect(server.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.metric(r#"nv_inference_count{model="ensemble",version="1"}"#).await, 0.0);
    sink.say_and_end(0, "b", FinishReason::Length);
    let rest = read_until(&mut stream, "0\r\n\r\n").await;
    assert!(rest.contains("\"text_output\":\"b\""), "{rest}");
    server.stopped().await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_a_stop() {
    let mut server = Server::start().await;
    let silent = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let mut kept = tokio::net::TcpStream::connect(server.http).await.unwrap();
    use tokio::io::AsyncWriteExt;
    kept.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: it\r\n\r\n").await.unwrap();
    read_until(&mut kept, "\r\n\r\n").await;
    server.stop();
    server.stopped().await;
    drop((silent, kept));
}

#[tokio::test]
async fn every_end_is_counted_once() {
    let server = Server::start().await;
    server.engine.says("out");
    server.generate(BODY).await;
    server.engine.says("ab");
    server.stream(r#"{"text_input":"in","max_tokens":3,"stream":true}"#).await;
    server.engine.refuses(Refused::QueueFull { limit: 8 });
    server.generate(BODY).await;
    server.engine.refuses(Refused::TooLong { prompt: 9, max_tokens: 9, limit: 9 });
    server.generate(BODY).await;
    server.engine.ends("", FinishReason::Failed("why".to_owned()));
    server.generate(BODY).await;
    server.engine.ends("", FinishReason::TimedOut);
    server.generate(BODY).await;
    server.engine.ends("", FinishReason::Expired);
    server.generate(BODY).await;
    server.engine.says("one stop two");
    let stopped = r#"{"text_input":"in","max_tokens":30,"stop_words":"stop"}"#;
    post(server.http, "/v2/models/tensorrt_llm_bls/generate", stopped).await;
    // Bad input is no request.
    server.generate("{").await;
    // What asks the engine itself is the engine's to count, unless it never got there.
    let tokens = r#"{"input_ids":[1],"input_lengths":1,"request_output_len":3}"#;
    server.engine.says("out");
    server.tokens(tokens).await;
    server.engine.refuses(Refused::QueueFull { limit: 8 });
    server.tokens(tokens).await;

    let failure = |model, reason| {
        format!(r#"nv_inference_request_failure{{model="{model}",reason="{reason}",version="1"}}"#)
    };
    for (series, value) in [
        (r#"nv_inference_request_success{model="ensemble",version="1"}"#.to_owned(), 2.0),
        (r#"nv_inference_request_success{model="tensorrt_llm_bls",version="1"}"#.to_owned(), 1.0),
        (r#"nv_inference_request_success{model="tensorrt_llm",version="1"}"#.to_owned(), 0.0),
        (failure("ensemble", "REJECTED"), 2.0),
        (failure("tensorrt_llm", "REJECTED"), 2.0),
        (failure("ensemble", "OTHER"), 1.0),
        (failure("tensorrt_llm", "OTHER"), 1.0),
        (failure("ensemble", "BACKEND"), 2.0),
        (failure("ensemble", "CANCELED"), 0.0),
        (
            r#"nv_inference_first_response_histogram_ms_count{model="ensemble",version="1"}"#
                .to_owned(),
            2.0,
        ),
    ] {
        assert_eq!(server.metric(&series).await, value, "{series}");
    }
    let duration = r#"nv_inference_request_duration_us{model="ensemble",version="1"}"#;
    assert!(server.metric(duration).await > 0.0);
}

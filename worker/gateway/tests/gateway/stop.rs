//! Stopping a request by its id.

use serde_json::json;
use shardrun_wire::FinishReason;

use crate::client::post;
use crate::server::Server;
use crate::streaming::Events;

fn stop(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","stop":true,"input_ids":[1],"input_lengths":1,"request_output_len":1}}"#
    )
}

#[tokio::test]
async fn a_stop_cancels_the_request_with_its_id() {
    let mut server = Server::start().await;
    for (model, body) in [
        ("ensemble", r#"{"id":"job 7","text_input":"in","max_tokens":9,"stream":true}"#),
        (
            "tensorrt_llm",
            r#"{"id":"job 7","input_ids":[1],"input_lengths":1,"request_output_len":9,
               "streaming":true,"stop":false}"#,
        ),
    ] {
        let mut events = Events::open(&server, model, body).await;
        let id = server.submitted().await.id;
        events.sink.say(0, "a");
        events.next().await;
        let reply = server.tokens(&stop("job 7")).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (200, r#"{"id":"job 7","model_name":"tensorrt_llm","model_version":"1"}"#)
        );
        assert_eq!(server.cancelled().await, id);
        events.sink.end(0, FinishReason::Cancelled);
        assert_eq!(events.next().await, json!({"error": "the request was cancelled"}));
        events.end().await;

        assert_eq!(server.tokens(&stop("job 7")).await.status, 200, "it has ended");
        server.no_calls();
    }
}

#[tokio::test]
async fn a_stop_needs_no_more_than_an_id() {
    let mut server = Server::start().await;
    for body in [r#"{"id":"x","stop":true}"#, r#"{"id":"x","stop":true,"input_ids":[]}"#] {
        assert_eq!(server.tokens(body).await.status, 200);
        let path = "/v2/models/tensorrt_llm/generate_stream";
        let reply = post(server.http, path, body).await;
        let event =
            "data: {\"id\":\"x\",\"model_name\":\"tensorrt_llm\",\"model_version\":\"1\"}\n\n";
        assert_eq!((reply.status, reply.body.as_str()), (200, event));
    }
    for body in [r#"{"stop":true}"#, r#"{"stop":true,"id":""}"#] {
        let reply = server.tokens(body).await;
        let text = "Trying to stop a request but request ID is not provided";
        assert_eq!((reply.status, reply.error().as_str()), (400, text));
    }
    let reply = server.tokens(r#"{"id":"x","stop":1}"#).await;
    assert_eq!(reply.error(), "stop is 1: expected true or false");
    server.no_calls();
}

#[tokio::test]
async fn only_the_model_of_tokens_stops() {
    let mut server = Server::start().await;
    server.engine.says("out");
    let reply = server.generate(r#"{"id":"x","stop":true,"text_input":"in","max_tokens":3}"#).await;
    assert_eq!(reply.status, 200, "a parameter of no use to it");
    server.submitted().await;
    server.no_calls();
}

#[tokio::test]
async fn of_an_id_given_twice_the_later_request_has_it() {
    let mut server = Server::start().await;
    let body = r#"{"id":"twice","text_input":"in","max_tokens":9,"stream":true}"#;
    let mut first = Events::open(&server, "ensemble", body).await;
    server.submitted().await;
    let mut second = Events::open(&server, "ensemble", body).await;
    let id = server.submitted().await.id;
    second.sink.say(0, "a");
    second.next().await;
    // The end of the first does not take the name from the second.
    first.sink.end(0, FinishReason::Length);
    first.next().await;
    first.end().await;
    assert_eq!(server.tokens(&stop("twice")).await.status, 200);
    assert_eq!(server.cancelled().await, id);
    second.sink.end(0, FinishReason::Cancelled);
    assert_eq!(second.next().await, json!({"error": "the request was cancelled"}));
}

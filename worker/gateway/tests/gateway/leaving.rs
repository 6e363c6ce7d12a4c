//! Clients that leave before their answer is whole.

use crate::client::{open, read_until};
use crate::server::Server;

const CANCELED: &str =
    r#"nv_inference_request_failure{model="ensemble",reason="CANCELED",version="1"}"#;

#[tokio::test]
async fn leaving_a_stream_cancels_it() {
    let mut server = Server::start().await;
    let sink = server.engine.held();
    let body = r#"{"text_input":"in","max_tokens":900,"stream":true}"#;
    let mut stream =
        open(server.http, "POST /v2/models/ensemble/generate_stream", body.as_bytes()).await;
    let id = server.submitted().await.id;
    let sink = sink.await.unwrap();
    sink.say(0, "a");
    read_until(&mut stream, "\"text_output\":\"a\"}\n\n").await;
    drop(stream);
    assert_eq!(server.cancelled().await, id);
    server.metric_becomes(CANCELED, 1.0).await;
}

#[tokio::test]
async fn leaving_before_the_first_token_cancels_too() {
    for path in ["generate", "generate_stream"] {
        let mut server = Server::start().await;
        let _sink = server.engine.held();
        let body = format!(
            r#"{{"text_input":"in","max_tokens":900,"stream":{}}}"#,
            path == "generate_stream"
        );
        let head = format!("POST /v2/models/ensemble/{path}");
        let stream = open(server.http, &head, body.as_bytes()).await;
        let id = server.submitted().await.id;
        drop(stream);
        assert_eq!(server.cancelled().await, id, "{path}");
        server.metric_becomes(CANCELED, 1.0).await;
    }
}

#[tokio::test]
async fn leaving_while_the_engine_thinks_about_the_request_cancels_too() {
    let mut server = Server::start().await;
    server.engine.hangs();
    let body = r#"{"text_input":"in","max_tokens":900}"#;
    let stream = open(server.http, "POST /v2/models/ensemble/generate", body.as_bytes()).await;
    let id = server.submitted().await.id;
    drop(stream);
    assert_eq!(server.cancelled().await, id);
    server.metric_becomes(CANCELED, 1.0).await;
}

#[tokio::test]
async fn leaving_in_the_middle_of_a_body_costs_nothing() {
    use tokio::io::AsyncWriteExt;
    let mut server = Server::start().await;
    let mut stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let head =
        b"POST /v2/models/ensemble/generate HTTP/1.1\r\nHost: it\r\nContent-Length: 99\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    drop(stream);
    server.engine.says("out");
    assert_eq!(server.generate(r#"{"text_input":"in","max_tokens":3}"#).await.status, 200);
    server.submitted().await;
    server.no_calls();
}

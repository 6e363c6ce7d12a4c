//! What clients may hold.

use std::time::Duration;

use shardrun_gateway::ConnectionLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{get, read_until};
use crate::server::{MAX_BODY_BYTES, Server};

const LIVE: &[u8] = b"GET /v2/health/live HTTP/1.1\r\nHost: it\r\n\r\n";
/// Longer than a machine under load needs for anything here.
const PATIENCE: Duration = Duration::from_secs(20);

async fn bounded(most: usize, header_ms: u64) -> Server {
    let header_timeout = Duration::from_millis(header_ms);
    let server = Server::start_bounded(None, ConnectionLimits { most, header_timeout }).await;
    server.load();
    server
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_connection() {
    let server = bounded(100, 50).await;
    for (sent, answered) in [(&b"GET /v2/health/live HTTP/1.1\r\nHo"[..], false), (LIVE, true)] {
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest.starts_with(b"HTTP/1.1 200"), answered, "{rest:?}");
    }
}

#[tokio::test]
async fn a_response_may_take_longer_than_a_head() {
    let mut server = bounded(100, 30).await;
    let sink = server.engine.held();
    let body = r#"{"text_input":"in","max_tokens":9}"#;
    let http = server.http;
    let reply = tokio::spawn(async move {
        crate::client::post(http, "/v2/models/ensemble/generate", body).await
    });
    server.submitted().await;
    let sink = sink.await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    sink.say_and_end(0, "out", shardrun_wire::FinishReason::Length);
    assert_eq!(reply.await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_another_to_end() {
    let server = bounded(2, 10_000).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(LIVE).await.unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        held.push(stream);
    }
    let third = get(server.http, "/v2/health/live");
    tokio::pin!(third);
    assert!(timeout(Duration::from_millis(100), &mut third).await.is_err(), "it waits");
    assert_eq!(get(server.metrics, "/metrics").await.status, 200, "of the other port");
    drop(held.pop());
    assert_eq!(timeout(PATIENCE, third).await.unwrap().status, 200);
}

/// Begins a request whose body has `declared` bytes, and brings the first of them.
async fn begin_body(server: &Server, declared: usize, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!(
        "POST /v2/models/ensemble/generate HTTP/1.1\r\nHost: it\r\nContent-Length: {declared}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

#[tokio::test]
async fn a_body_that_does_not_go_on_is_given_up() {
    let server = bounded(100, 150).await;
    let mut stream = begin_body(&server, 20, b"{").await;
    // Slow, and never too long silent.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        stream.write_all(b" ").await.unwrap();
    }
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    let rest = String::from_utf8(rest).unwrap();
    let why = "nothing came of the request body for 0.15 seconds, the longest that it may pause";
    assert!(rest.starts_with("HTTP/1.1 408") && rest.contains(why), "{rest}");
}

#[tokio::test]
async fn bodies_are_bounded_all_together() {
    let server = bounded(100, 60_000).await;
    let first = vec![b' '; MAX_BODY_BYTES - 1];
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(begin_body(&server, MAX_BODY_BYTES, &first).await);
    }
    let why = "the request bodies that are here take 399996 bytes, and together they may take \
               400000: 4 times server.max_body_bytes; please try again later";
    let ask = || server.generate("{    }");
    timeout(PATIENCE, async {
        loop {
            let reply = ask().await;
            if reply.status == 503 {
                return assert_eq!(reply.error(), why);
            }
        }
    })
    .await
    .unwrap();
    // The end of one of them, good or not, makes room.
    drop(held.pop());
    timeout(PATIENCE, async { while ask().await.status == 503 {} }).await.unwrap();
    let mut last = held.pop().unwrap();
    last.write_all(b"{").await.unwrap();
    assert!(read_until(&mut last, "\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

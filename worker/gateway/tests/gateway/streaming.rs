//! `generate_stream`: events, byte for byte.

use serde_json::Value;
use shardrun_wire::FinishReason;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

use crate::client::{Reply, open};
use crate::engine::Sink;
use crate::server::Server;

/// The events of a whole response, having checked the framing.
pub(crate) fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = reply.body.strip_suffix("\n\n").unwrap().split("\n\n");
    events
        .map(|event| {
            let json = event.strip_prefix("data: ").unwrap();
            assert!(!json.contains('\n'));
            serde_json::from_str(json).unwrap()
        })
        .collect()
}

fn texts(reply: &Reply) -> Vec<String> {
    let text = |event: &Value| event["text_output"].as_str().unwrap().to_owned();
    events(reply).iter().map(text).collect()
}

/// A stream whose events are read one by one.
pub(crate) struct Events {
    stream: BufReader<TcpStream>,
    began: bool,
    pub(crate) sink: Sink,
}

impl Events {
    pub(crate) async fn open(server: &Server, model: &str, body: &str) -> Self {
        let sink = server.engine.held();
        let head = format!("POST /v2/models/{model}/generate_stream");
        let stream = BufReader::new(open(server.http, &head, body.as_bytes()).await);
        Self { stream, began: false, sink: sink.await.unwrap() }
    }

    pub(crate) async fn next(&mut self) -> Value {
        let mut event = String::new();
        while !event.ends_with("\n\n") {
            let chunk = self.chunk().await;
            assert!(!chunk.is_empty(), "ended within {event:?}");
            event += &chunk;
        }
        serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()
    }

    pub(crate) async fn end(mut self) {
        assert_eq!(self.chunk().await, "");
    }

    /// The next chunk of the body; empty at its end.
    async fn chunk(&mut self) -> String {
        while !self.began {
            self.began = self.line().await == "\r\n";
        }
        let size = usize::from_str_radix(self.line().await.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await.unwrap();
        chunk.truncate(size);
        String::from_utf8(chunk).unwrap()
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        line
    }
}

#[tokio::test]
async fn an_event_is_a_token_however_many_come_at_once() {
    let server = Server::start().await;
    server.engine.says("\nb");
    let body = r#"{"id":"7","text_input":"in","max_tokens":9,"stream":true}"#;
    let reply = server.stream(body).await;
    assert_eq!(
        reply.body,
        concat!(
            r#"data: {"id":"7","model_name":"ensemble","model_version":"1","sequence_id":0,"#,
            r#""sequence_start":false,"sequence_end":false,"text_output":"\n"}"#,
            "\n\n",
            r#"data: {"id":"7","model_name":"ensemble","model_version":"1","sequence_id":0,"#,
            r#""sequence_start":false,"sequence_end":false,"text_output":"b"}"#,
            "\n\n",
        )
    );
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
}

#[tokio::test]
async fn a_stream_that_was_not_asked_for_is_one_event_with_everything() {
    let server = Server::start().await;
    for stream in ["", r#","stream":false"#] {
        server.engine.says(" a b");
        let body = format!(r#"{{"text_input":"in","max_tokens":9{stream}}}"#);
        assert_eq!(texts(&server.stream(&body).await), ["in a b"]);
    }
}

#[tokio::test]
async fn an_event_comes_when_its_token_does() {
    let mut server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true}"#;
    let mut events = Events::open(&server, "ensemble", body).await;
    server.submitted().await;
    for letter in ["a", "b", "c"] {
        events.sink.say(0, letter);
        // The next one is not written before this one arrived.
        assert_eq!(events.next().await["text_output"], letter);
    }
    events.sink.end(0, FinishReason::EndId);
    assert_eq!(events.next().await["text_output"], "");
    events.end().await;
    server.no_calls();
}

#[tokio::test]
async fn the_last_token_and_the_end_are_one_event() {
    let server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true}"#;
    let mut events = Events::open(&server, "ensemble", body).await;
    events.sink.say(0, "a");
    assert_eq!(events.next().await["text_output"], "a");
    events.sink.say_and_end(0, "bc", FinishReason::Length);
    assert_eq!(events.next().await["text_output"], "b");
    assert_eq!(events.next().await["text_output"], "c");
    events.end().await;
    // An end token is an iteration's own, and so an event of its own.
    let mut events = Events::open(&server, "ensemble", body).await;
    events.sink.say_and_end(0, "d", FinishReason::EndId);
    assert_eq!(events.next().await["text_output"], "d");
    assert_eq!(events.next().await["text_output"], "");
    events.end().await;
}

#[tokio::test]
async fn half_a_character_is_an_event_without_text() {
    let server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true}"#;
    let mut events = Events::open(&server, "ensemble", body).await;
    let euro = "€".as_bytes();
    for (bytes, text) in [(&euro[..1], ""), (&euro[1..2], ""), (&euro[2..], "€"), (b"5", "5")] {
        events.sink.say(0, bytes);
        assert_eq!(events.next().await["text_output"], text);
    }
}

#[tokio::test]
async fn stop_words_are_found_across_events() {
    let mut server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":99,"stream":true,"stop_words":["stop"]}"#;
    let mut events = Events::open(&server, "ensemble", body).await;
    for tokens in ["one s", "to", "p two"] {
        events.sink.say(0, tokens);
    }
    for letter in "one stop".chars() {
        assert_eq!(events.next().await["text_output"], letter.to_string());
    }
    events.end().await;
    let id = server.submitted().await.id;
    assert_eq!(server.cancelled().await, id);
}

#[tokio::test]
async fn each_event_can_have_the_whole_text_so_far() {
    let server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true,"return_log_probs":true,
        "return_all_generated_tokens":true}"#;
    let mut events = Events::open(&server, "ensemble", body).await;
    for (token, text, sum) in [("a", "a", -0.5), ("b", "ab", -1.0), ("c", "abc", -1.5)] {
        events.sink.say(0, token);
        let event = events.next().await;
        assert_eq!(event["text_output"], text);
        assert_eq!(event["cum_log_probs"], sum);
    }
    events.sink.end(0, FinishReason::EndId);
    let event = events.next().await;
    assert_eq!(event["text_output"], "abc");
    assert_eq!(event["output_log_probs"], serde_json::json!([-0.5, -0.5, -0.5]));
    events.end().await;
}

#[tokio::test]
async fn an_error_before_the_first_token_has_a_status() {
    let server = Server::start().await;
    for (reason, status, text) in [
        (
            FinishReason::Failed("no memory".to_owned()),
            500,
            "the engine could not finish the request: no memory",
        ),
        (FinishReason::Expired, 503, "Request timeout expired"),
    ] {
        server.engine.ends("", reason);
        let reply = server.stream(r#"{"text_input":"in","max_tokens":9,"stream":true}"#).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.error(), text);
    }
}

#[tokio::test]
async fn an_error_after_it_is_the_last_event() {
    let server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true,"timeout":70}"#;
    for (reason, text) in [
        (
            FinishReason::Failed("rank 1 is gone".to_owned()),
            "the engine could not finish the request: rank 1 is gone",
        ),
        (
            FinishReason::TimedOut,
            "the request was not finished within its timeout of 70 microseconds",
        ),
        (FinishReason::Cancelled, "the request was cancelled"),
    ] {
        let mut events = Events::open(&server, "ensemble", body).await;
        events.sink.say(0, "a");
        assert_eq!(events.next().await["text_output"], "a");
        events.sink.end(0, reason);
        assert_eq!(events.next().await, serde_json::json!({"error": text}));
        events.end().await;
    }
}

//! `generate_stream`: events, byte for byte.

use serde_json::Value;
use shardrun_wire::{FinishReason, Output};

use crate::client::{Reply, open, read_until};
use crate::engine::{Answer, tokens};
use crate::server::Server;

/// The text of each event, having checked the framing.
fn texts(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = reply.body.strip_suffix("\n\n").unwrap().split("\n\n");
    events
        .map(|event| {
            let json = event.strip_prefix("data: ").unwrap();
            assert!(!json.contains('\n'));
            let event: Value = serde_json::from_str(json).unwrap();
            event["text_output"].as_str().unwrap_or_else(|| panic!("{event}")).to_owned()
        })
        .collect()
}

#[tokio::test]
async fn each_iteration_is_one_event() {
    let server = Server::start().await;
    server.engine.says(&[" a\n", "b"]);
    let body = r#"{"id":"7","text_input":"in","max_tokens":9,"stream":true}"#;
    let reply = server.stream(body).await;
    assert_eq!(
        reply.body,
        concat!(
            r#"data: {"id":"7","model_name":"ensemble","model_version":"1","sequence_id":0,"#,
            r#""sequence_start":false,"sequence_end":false,"text_output":" a\n"}"#,
            "\n\n",
            r#"data: {"id":"7","model_name":"ensemble","model_version":"1","sequence_id":0,"#,
            r#""sequence_start":false,"sequence_end":false,"text_output":"b"}"#,
            "\n\n"
        )
    );
    assert_eq!(texts(&reply), [" a\n", "b"]);
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn a_stream_that_was_not_asked_for_is_one_event_with_everything() {
    let server = Server::start().await;
    for stream in ["", r#","stream":false"#] {
        server.engine.says(&[" a", " b"]);
        let body = format!(r#"{{"text_input":"in","max_tokens":9{stream}}}"#);
        assert_eq!(texts(&server.stream(&body).await), ["in a b"]);
    }
}

#[tokio::test]
async fn an_event_comes_when_its_token_does() {
    let mut server = Server::start().await;
    let outputs = server.engine.held();
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true}"#;
    let mut stream =
        open(server.http, "POST /v2/models/ensemble/generate_stream", body.as_bytes()).await;
    let id = server.submitted().await.id;
    for (index, letter) in ["a", "b", "c"].into_iter().enumerate() {
        let output =
            Output { id, index: index as u32, tokens: tokens(letter.as_bytes()), finish: None };
        outputs.send(output).unwrap();
        // The next one is not sent before this one arrived.
        read_until(&mut stream, &format!("\"text_output\":\"{letter}\"}}\n\n")).await;
    }
    let last = Output { id, index: 3, tokens: vec![], finish: Some(FinishReason::EndId) };
    outputs.send(last).unwrap();
    let end = read_until(&mut stream, "0\r\n\r\n").await;
    assert!(end.contains("\"text_output\":\"\"}\n\n"), "{end}");
    server.no_calls();
}

#[tokio::test]
async fn half_a_character_is_an_event_without_text() {
    let server = Server::start().await;
    let euro = "€".as_bytes();
    let pieces = vec![euro[..1].to_vec(), euro[1..2].to_vec(), euro[2..].to_vec(), b"5".to_vec()];
    server.engine.answer(Answer::Says(pieces, FinishReason::Length));
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true}"#;
    assert_eq!(texts(&server.stream(body).await), ["", "", "€", "5"]);
}

#[tokio::test]
async fn stop_words_are_found_across_events() {
    let mut server = Server::start().await;
    server.engine.says(&["one s", "to", "p two", " three"]);
    let body = r#"{"text_input":"in","max_tokens":9,"stream":true,"stop_words":["stop"]}"#;
    assert_eq!(texts(&server.stream(body).await).concat(), "one stop");
    let id = server.submitted().await.id;
    assert_eq!(server.cancelled().await, id);
}

#[tokio::test]
async fn an_error_before_the_first_token_has_a_status() {
    let server = Server::start().await;
    let failed = Answer::Says(vec![vec![]], FinishReason::Failed("no memory".to_owned()));
    server.engine.answer(failed);
    let reply = server.stream(r#"{"text_input":"in","max_tokens":9,"stream":true}"#).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.error(), "the engine could not finish the request: no memory");
}

#[tokio::test]
async fn an_error_after_it_is_the_last_event() {
    let server = Server::start().await;
    let pieces = vec![b"a".to_vec(), vec![]];
    let failed = Answer::Says(pieces, FinishReason::Failed("rank 1 is gone".to_owned()));
    server.engine.answer(failed);
    let reply = server.stream(r#"{"text_input":"in","max_tokens":9,"stream":true}"#).await;
    assert_eq!(reply.status, 200);
    let last = "data: {\"error\":\"the engine could not finish the request: rank 1 is gone\"}\n\n";
    assert!(reply.body.ends_with(&format!("\"text_output\":\"a\"}}\n\n{last}")), "{reply:?}");
}

//! Answers that come piece by piece.

use anyhow::Context as _;
use serde_json::{Value, json};
use shardrun_tests::raw_request;

use super::{endless, prompt, shared, with};

#[test]
fn a_stream_is_the_whole_text_in_pieces() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    for text in ["Once upon a time", "日本語で数えます：一、二、", "fn main() {"] {
        let request = endless(text, 32);
        let whole = client.generate(&request)?;
        let pieces = client.stream(&request)?.rest()?;
        assert_eq!(pieces.len(), 32, "one event a token");
        assert_eq!(pieces.concat(), whole);
    }
    // Without `stream`, one event with everything.
    let body = prompt("Once upon a time", 4).to_string();
    let reply = client.post("/v2/models/ensemble/generate_stream", body)?;
    assert_eq!(reply.content_type, "text/event-stream; charset=utf-8");
    assert_eq!(reply.body.matches("data: ").count(), 1, "{}", reply.body);
    Ok(())
}

#[test]
fn a_stream_s_bytes_are_server_sent_events() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let body = with(endless("One, two,", 6), &[("stream", json!(true)), ("id", json!("é\n"))]);
    let body = body.to_string();
    let request = format!(
        "POST /v2/models/ensemble/generate_stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = raw_request(client.http(), request.as_bytes())?;
    assert!(reply.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", reply.head);
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    let text = String::from_utf8(reply.body)?;
    let events = text.strip_suffix("\n\n").context("the last event has an end")?;
    let events: Vec<&str> = events.split("\n\n").collect();
    assert_eq!(events.len(), 6, "and no [DONE]");
    for event in events {
        let data = event.strip_prefix("data: ").context("nothing but data")?;
        assert!(!data.contains('\n'));
        let event: Value = serde_json::from_str(data)?;
        assert_eq!((&event["id"], &event["model_name"]), (&json!("é\n"), &json!("ensemble")));
        assert!(event["text_output"].is_string());
    }
    Ok(())
}

#[test]
fn stop_words_and_end_tokens_end_it() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let request = endless("The capital of France is", 40);
    let whole = client.generate(&request)?;
    let word = whole.split_whitespace().nth(6).context("more than six words")?;
    let stopped = client.generate(&with(request, &[("stop_words", json!([word]))]))?;
    let end = whole.find(word).context("the word is in it")? + word.len();
    assert_eq!(stopped, whole[..end]);
    // This one ends by itself, as golden/smollm2-135m-q4_1.json says, at its 30th token.
    let ended = client.stream(&prompt("The capital of France is", 64))?.rest()?;
    assert_eq!(ended.len(), 30, "29 tokens, and an event for the end");
    assert_eq!(ended.last().map(String::as_str), Some(""));
    Ok(())
}

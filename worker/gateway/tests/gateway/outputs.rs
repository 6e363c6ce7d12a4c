//! What comes back beside text: log probabilities, logits, times and blocks.

use serde_json::{Value, json};
use shardrun_wire::{BlockCounts, FinishReason, Logits, LogitsOf, RequestAccount, Wanted};

use crate::engine::{Sink, VOCAB_SIZE};
use crate::server::Server;
use crate::streaming::{Events, events};

fn with(inputs: &str) -> String {
    format!(r#"{{"text_input":"in","max_tokens":4,{inputs}}}"#)
}

/// A row that is told from others by its number; float32 and float64 write its values alike.
fn row(number: u32) -> Vec<f32> {
    (0..VOCAB_SIZE).map(|token| (100 * number) as f32 + token as f32 / 4.0).collect()
}

fn rows(numbers: impl IntoIterator<Item = u32>) -> Vec<f32> {
    numbers.into_iter().flat_map(row).collect()
}

fn generation(sink: &Sink, sequence: u32, index: u32, number: u32) {
    sink.logits(Logits { of: LogitsOf::Generation { sequence, index }, values: row(number) });
}

const ACCOUNT: RequestAccount = RequestAccount {
    arrival_ns: 1_000_000_000_001,
    first_scheduled_ns: 2,
    first_token_ns: 3,
    last_token_ns: 4,
    blocks: BlockCounts { alloc_total: 7, alloc_new: 5, reused: 2, missed: 1 },
};

fn perf_metrics() -> Value {
    json!({
        "kv_cache_alloc_new_blocks": 5,
        "kv_cache_reused_blocks": 2,
        "kv_cache_alloc_total_blocks": 7,
        "arrival_time_ns": 1_000_000_000_001_u64,
        "first_scheduled_time_ns": 2,
        "first_token_time_ns": 3,
        "last_token_time_ns": 4,
        "acceptance_rate": 0.0,
        "total_accepted_draft_tokens": 0,
        "total_draft_tokens": 0,
    })
}

/// The outputs after the text.
fn others(reply: &Value) -> Value {
    let members = reply.as_object().unwrap();
    members.iter().skip_while(|(name, _)| *name != "text_output").skip(1).map(pair).collect()
}

fn pair((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

#[tokio::test]
async fn log_probs_are_as_short_as_float32() {
    let mut server = Server::start().await;
    server.engine.writes(|sink| {
        sink.push(0, 97, -0.1);
        sink.push(0, 98, -1.0);
        sink.push(0, 99, -1e-20);
        sink.end(0, FinishReason::EndId);
    });
    let reply = server.generate(&with(r#""return_log_probs":true"#)).await;
    let expected =
        r#""text_output":"inabc","cum_log_probs":-1.1,"output_log_probs":[-0.1,-1.0,-1e-20]}"#;
    assert!(reply.body.ends_with(expected), "{}", reply.body);
    let wanted = Wanted { log_probs: true, ..Wanted::default() };
    assert_eq!(server.submitted().await.wanted, wanted);
}

#[tokio::test]
async fn log_probs_end_where_the_text_stops() {
    let server = Server::start().await;
    server.engine.says("abcd");
    let inputs = r#""return_log_probs":true,"stop_words":"bc""#;
    let reply = server.generate(&with(inputs)).await.json();
    let expected = json!({"cum_log_probs": -1.5, "output_log_probs": [-0.5, -0.5, -0.5]});
    assert_eq!(others(&reply), expected);
    server.engine.ends("", FinishReason::EndId);
    let reply = server.generate(&with(inputs)).await.json();
    assert_eq!(others(&reply), json!({"cum_log_probs": 0.0, "output_log_probs": []}));
}

#[tokio::test]
async fn logits_of_prompt_and_output() {
    let mut server = Server::start().await;
    server.engine.writes(|sink| {
        let of = |position| LogitsOf::Context { position };
        sink.logits(Logits { of: of(0), values: rows([0, 1]) });
        // Comes twice where an engine starts over.
        sink.logits(Logits { of: of(1), values: rows([1, 2]) });
        generation(sink, 0, 0, 10);
        generation(sink, 0, 1, 11);
        sink.say_and_end(0, "ab", FinishReason::EndId);
    });
    let inputs = r#""return_context_logits":true,"return_generation_logits":[true]"#;
    let reply = server.generate(&with(inputs).replace("\"in\"", "\"inn\"")).await;
    let expected = json!({"context_logits": rows([0, 1, 2]), "generation_logits": rows([10, 11])});
    assert_eq!(others(&reply.json()), expected);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let wanted = Wanted { log_probs: false, context_logits: true, generation_logits: true };
    assert_eq!(server.submitted().await.wanted, wanted);
}

#[tokio::test]
async fn logits_of_several_sequences_are_filled_up_with_zeros() {
    let server = Server::start().await;
    server.engine.writes(|sink| {
        generation(sink, 1, 0, 20);
        generation(sink, 0, 0, 10);
        generation(sink, 0, 1, 11);
        sink.say_and_end(0, "ab", FinishReason::EndId);
        sink.say_and_end(1, "c", FinishReason::EndId);
    });
    let inputs = r#""num_return_sequences":2,"return_generation_logits":true"#;
    let reply = server.generate(&with(inputs)).await.json();
    let mut expected = rows([10, 11, 20]);
    expected.resize(4 * VOCAB_SIZE as usize, 0.0);
    assert_eq!(others(&reply), json!({"generation_logits": expected}));
}

#[tokio::test]
async fn logits_come_with_their_events() {
    let server = Server::start().await;
    let inputs = r#""stream":true,"return_context_logits":true,"return_generation_logits":true,
        "return_all_generated_tokens":true"#;
    let mut events = Events::open(&server, "ensemble", &with(inputs)).await;
    let of = LogitsOf::Context { position: 0 };
    events.sink.logits(Logits { of, values: rows([0, 1]) });
    generation(&events.sink, 0, 0, 10);
    events.sink.say(0, "a");
    let expected = json!({"context_logits": rows([0, 1]), "generation_logits": row(10)});
    assert_eq!(others(&events.next().await), expected);
    generation(&events.sink, 0, 1, 11);
    generation(&events.sink, 0, 2, 12);
    events.sink.say(0, "b");
    assert_eq!(others(&events.next().await), json!({"generation_logits": row(11)}));
    events.sink.say_and_end(0, "c", FinishReason::EndId);
    let event = events.next().await;
    assert_eq!(others(&event), json!({"generation_logits": row(12)}), "each row comes once");
    assert_eq!(event["text_output"], "abc");
}

#[tokio::test]
async fn tokens_without_their_logits_are_an_error() {
    let server = Server::start().await;
    server.engine.says("abc");
    let reply = server.generate(&with(r#""return_generation_logits":true"#)).await;
    assert_eq!(reply.status, 500);
    server.engine.writes(|sink| {
        generation(sink, 0, 1, 10);
        sink.say_and_end(0, "a", FinishReason::EndId);
    });
    let reply = server.generate(&with(r#""return_generation_logits":true"#)).await;
    assert_eq!(reply.error(), "the engine ended before the request was finished");
}

#[tokio::test]
async fn an_answer_without_the_prompts_logits_is_an_error() {
    let server = Server::start().await;
    server.engine.writes(|sink| {
        let of = LogitsOf::Context { position: 0 };
        sink.logits(Logits { of, values: row(0) });
        sink.say_and_end(0, "a", FinishReason::EndId);
    });
    let reply = server.generate(&with(r#""return_context_logits":true"#)).await;
    assert_eq!(reply.error(), "the engine ended before the request was finished");
}

#[tokio::test]
async fn times_and_blocks_come_at_the_end() {
    let server = Server::start().await;
    server.engine.writes(|sink| {
        sink.say(0, "ab");
        sink.finish(0, FinishReason::EndId, Some(ACCOUNT));
    });
    let reply = server.generate(&with(r#""return_perf_metrics":true"#)).await.json();
    assert_eq!(others(&reply), perf_metrics());

    let inputs = r#""return_perf_metrics":true,"stream":true"#;
    let mut events = Events::open(&server, "ensemble", &with(inputs)).await;
    events.sink.say(0, "a");
    assert_eq!(others(&events.next().await), json!({}));
    events.sink.finish(0, FinishReason::EndId, Some(ACCOUNT));
    assert_eq!(others(&events.next().await), perf_metrics());
}

#[tokio::test]
async fn times_and_blocks_are_waited_for_after_a_stop_word() {
    let mut server = Server::start().await;
    let inputs = r#""return_perf_metrics":true,"stream":true,"stop_words":"b""#;
    let mut events = Events::open(&server, "ensemble", &with(inputs)).await;
    let id = server.submitted().await.id;
    events.sink.say(0, "abc");
    let event = events.next().await;
    assert_eq!((&event["text_output"], others(&event)), (&json!("a"), json!({})));
    assert_eq!(server.cancelled().await, id);
    events.sink.finish(0, FinishReason::Cancelled, Some(ACCOUNT));
    let event = events.next().await;
    assert_eq!((&event["text_output"], others(&event)), (&json!("b"), perf_metrics()));
    events.end().await;
}

#[tokio::test]
async fn nothing_comes_that_was_not_asked_for() {
    let server = Server::start().await;
    let inputs = r#""return_log_probs":false,"return_perf_metrics":false"#;
    for stream in [false, true] {
        server.engine.writes(|sink| {
            sink.say(0, "ab");
            sink.finish(0, FinishReason::EndId, Some(ACCOUNT));
        });
        let body = with(&format!(r#"{inputs},"stream":{stream}"#));
        let reply = match stream {
            true => events(&server.stream(&body).await).remove(0),
            false => server.generate(&body).await.json(),
        };
        assert_eq!(others(&reply), json!({}));
    }
}

//! `generate`: what is asked of the engine, and what comes back.

use serde_json::Value;
use shardrun_wire::{FinishReason, Refused, Resumed, Sampling, Search};

use crate::client::post;
use crate::engine::{END_ID, tokens};
use crate::server::Server;

fn text(reply: &crate::client::Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["text_output"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_answer_has_the_prompt_and_what_followed() {
    let mut server = Server::start().await;
    server.engine.says(" is a test");
    let reply = server.generate(r#"{"text_input":"This","max_tokens":10}"#).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(
        reply.body,
        r#"{"model_name":"ensemble","model_version":"1","sequence_id":0,"sequence_start":false,"sequence_end":false,"text_output":"This is a test"}"#
    );
    let request = server.submitted().await;
    assert_eq!(request.prompt, tokens(b"This"));
    assert_eq!(request.max_tokens, 10);
    assert_eq!(request.end_id, Some(END_ID));
    assert_eq!(request.sampling, Sampling::GREEDY);
    assert_eq!(request.search, Search::ONE);
    server.no_calls();
}

#[tokio::test]
async fn id_comes_back_first_and_the_prompt_can_stay_out() {
    let server = Server::start().await;
    server.engine.says("out");
    let body = r#"{"id":"q-7","text_input":"in","max_tokens":3,"exclude_input_in_output":true}"#;
    let reply = post(server.http, "/v2/models/tensorrt_llm_bls/versions/1/generate", body).await;
    assert_eq!(
        reply.body,
        r#"{"id":"q-7","model_name":"tensorrt_llm_bls","model_version":"1","sequence_id":0,"sequence_start":false,"sequence_end":false,"text_output":"out"}"#
    );
    server.engine.says("out");
    let reply = server.generate(r#"{"id":"","text_input":"in","max_tokens":3}"#).await;
    assert!(reply.body.starts_with(r#"{"model_name""#), "an empty id is none");
}

#[tokio::test]
async fn values_may_be_arrays_nested_repeated_or_unknown() {
    let mut server = Server::start().await;
    for body in [
        r#"{"text_input":["in"],"max_tokens":[3],"stream":[false]}"#,
        r#"{"text_input":"in","parameters":{"max_tokens":3,"priority":1}}"#,
        r#"{"text_input":"no","max_tokens":9,"text_input":"in","max_tokens":3}"#,
        r#"{"text_input":"in","max_tokens":3,"a":1,"b":-2.5e300,"c":true,"d":"text"}"#,
        r#"{"text_input":"in","max_tokens":3,"pad_id":-1,"seed":18446744073709551615}"#,
        " {\n\t\"text_input\" : \"\\u0069n\" , \"max_tokens\" : 3 } \n",
    ] {
        server.engine.says("out");
        assert_eq!(text(&server.generate(body).await), "inout", "{body}");
        let request = server.submitted().await;
        assert_eq!((request.prompt, request.max_tokens), (tokens(b"in"), 3), "{body}");
    }
}

#[tokio::test]
async fn a_seed_is_drawn_where_none_is_given() {
    let mut server = Server::start().await;
    let mut seeds = Vec::new();
    for _ in 0..3 {
        server.engine.says("out");
        server.generate(r#"{"text_input":"in","max_tokens":3,"top_k":9}"#).await;
        seeds.push(server.submitted().await.sampling.seed);
    }
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
}

#[tokio::test]
async fn text_ends_after_a_stop_word_and_the_engine_stops() {
    let mut server = Server::start().await;
    server.engine.writes(|sink| sink.say(0, "one stop two three"));
    // The prompt has the word, too, and does not count.
    let body = r#"{"text_input":"stop: ","max_tokens":30,"stop_words":["never","stop"]}"#;
    assert_eq!(text(&server.generate(body).await), "stop: one stop");
    let id = server.submitted().await.id;
    assert_eq!(server.cancelled().await, id);

    server.engine.says("one stop");
    let body = r#"{"text_input":"in ","max_tokens":30,"stop_words":"stop"}"#;
    assert_eq!(text(&server.generate(body).await), "in one stop");
    server.submitted().await;
    server.no_calls();
}

#[tokio::test]
async fn characters_may_be_spread_over_tokens() {
    let server = Server::start().await;
    server.engine.says("naïve €5 🦀");
    let body = r#"{"text_input":"ü: ","max_tokens":30}"#;
    assert_eq!(text(&server.generate(body).await), "ü: naïve €5 🦀");
    // One that never becomes whole is shown as such.
    server.engine.ends(b"a\xe2", FinishReason::Length);
    assert_eq!(text(&server.generate(body).await), "ü: a\u{fffd}");
}

#[tokio::test]
async fn an_answer_may_be_empty() {
    let server = Server::start().await;
    for reason in [FinishReason::EndId, FinishReason::StopWords] {
        server.engine.ends("", reason);
        assert_eq!(text(&server.generate(r#"{"text_input":"in","max_tokens":3}"#).await), "in");
    }
}

#[tokio::test]
async fn ids_are_never_reused() {
    let mut server = Server::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        server.engine.says("out");
        server.generate(r#"{"text_input":"in","max_tokens":3}"#).await;
        ids.push(server.submitted().await.id);
    }
    assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
}

#[tokio::test]
async fn what_the_engine_says_has_its_status() {
    let server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":3}"#;
    for (refused, status, text) in [
        (
            Refused::QueueFull { limit: 8 },
            503,
            "Maximum queue size of 8 has been reached, please try again later",
        ),
        (
            Refused::TooLong { prompt: 9, max_tokens: 3, limit: 10 },
            400,
            "the prompt has 9 tokens and max_tokens is 3: together 2 more than the context of 10 \
             tokens",
        ),
        (Refused::Draining, 503, "the server is shutting down"),
        (
            Refused::Unreachable { reason: "no such file".to_owned() },
            503,
            "the engine can't be reached: no such file",
        ),
        (
            Refused::Invalid {
                field: "guided_decoding_guide".to_owned(),
                value: "(".to_owned(),
                allowed: "not a regular expression".to_owned(),
            },
            400,
            "guided_decoding_guide is (: not a regular expression",
        ),
    ] {
        server.engine.refuses(refused);
        let reply = server.generate(body).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, text));
    }
    for (reason, status, text) in [
        (
            FinishReason::Failed("rank 1 is gone".to_owned()),
            500,
            "the engine could not finish the request: rank 1 is gone",
        ),
        (FinishReason::Cancelled, 400, "the request was cancelled"),
        (FinishReason::Expired, 503, "Request timeout expired"),
    ] {
        server.engine.ends("a", reason);
        let reply = server.generate(body).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, text));
        assert!(reply.json().as_object().is_some_and(|body| body.values().all(Value::is_string)));
    }
}

#[tokio::test]
async fn an_engine_that_is_lost_or_leaves_tokens_out_is_an_error() {
    let mut server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":9}"#;
    let lost = (500, "the engine ended before the request was finished");
    drop(server.engine.held());
    let reply = server.generate(body).await;
    assert_eq!((reply.status, reply.error().as_str()), lost);
    let id = server.submitted().await.id;
    assert_eq!(server.cancelled().await, id);

    server.engine.writes(|sink| sink.say(0, "half"));
    let reply = server.generate(body).await;
    assert_eq!((reply.status, reply.error().as_str()), lost);

    server.engine.resumes(Resumed { tokens: vec![1, 2], finished: false });
    let reply = server.generate(body).await;
    assert_eq!((reply.status, reply.error().as_str()), lost, "two tokens never came");
}

#[tokio::test]
async fn a_timeout_is_named() {
    let mut server = Server::start().await;
    server.engine.ends("a", FinishReason::TimedOut);
    let reply = server.generate(r#"{"text_input":"in","max_tokens":3,"timeout":2500}"#).await;
    let text = "the request was not finished within its timeout of 2500 microseconds";
    assert_eq!((reply.status, reply.error().as_str()), (504, text));
    server.submitted().await;
    server.no_calls();
    // The model's, of a request that names none.
    for timeout in ["", r#","timeout":0"#] {
        server.engine.ends("a", FinishReason::TimedOut);
        let body = format!(r#"{{"text_input":"in","max_tokens":3{timeout}}}"#);
        let reply = server.generate(&body).await;
        let text = "the request was not finished within the model's timeout of 90000 \
                    milliseconds (model.request_timeout_ms)";
        assert_eq!((reply.status, reply.error().as_str()), (504, text));
        assert_eq!(server.submitted().await.timeout, None, "the engine knows it");
    }
}

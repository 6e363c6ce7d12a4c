//! `generate`: what is asked of the engine, and what comes back.

use serde_json::Value;
use shardrun_wire::{FinishReason, Output, Refused, Sampling};

use crate::client::post;
use crate::engine::{Answer, END_ID, tokens};
use crate::server::Server;

fn text(reply: &crate::client::Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["text_output"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_answer_has_the_prompt_and_what_followed() {
    let mut server = Server::start().await;
    server.engine.says(&[" is", " a", " test"]);
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
    server.no_calls();
}

#[tokio::test]
async fn id_comes_back_first_and_the_prompt_can_stay_out() {
    let server = Server::start().await;
    server.engine.says(&["out"]);
    let body = r#"{"id":"q-7","text_input":"in","max_tokens":3,"exclude_input_in_output":true}"#;
    let reply = post(server.http, "/v2/models/tensorrt_llm_bls/versions/1/generate", body).await;
    assert_eq!(
        reply.body,
        r#"{"id":"q-7","model_name":"tensorrt_llm_bls","model_version":"1","sequence_id":0,"sequence_start":false,"sequence_end":false,"text_output":"out"}"#
    );
    server.engine.says(&["out"]);
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
        server.engine.says(&["-out"]);
        assert_eq!(text(&server.generate(body).await), "in-out", "{body}");
        let request = server.submitted().await;
        assert_eq!((request.prompt, request.max_tokens), (tokens(b"in"), 3), "{body}");
    }
}

#[tokio::test]
async fn inputs_that_ask_for_nothing_are_taken() {
    let server = Server::start().await;
    let body = r#"{"text_input":"in","max_tokens":3,"bad_words":"","stop_words":"",
        "embedding_bias_words":[""],"embedding_bias_weights":[],"repetition_penalty":1.0,
        "presence_penalty":0,"frequency_penalty":0.0,"min_tokens":0,"length_penalty":0.7,
        "beam_width":1,"num_return_sequences":1,"return_log_probs":false,
        "return_context_logits":false,"return_generation_logits":[false],
        "return_perf_metrics":false,"guided_decoding_guide_type":"","guided_decoding_guide":"",
        "decoder_text_input":"","prompt_vocab_size":0,"prompt_embedding_table":[],
        "prompt_table_extra_id":[],"lora_task_id":[],"lora_weights":[],"lora_config":[],
        "use_draft_logits":false,"num_draft_tokens":0,"image_url_input":""}"#;
    for model in ["ensemble", "tensorrt_llm_bls"] {
        server.engine.says(&["-out"]);
        let reply = post(server.http, &format!("/v2/models/{model}/generate"), body).await;
        assert_eq!(text(&reply), "in-out");
    }
}

#[tokio::test]
async fn sampling_is_as_in_the_reference() {
    let mut server = Server::start().await;
    let sampling = |temperature, top_k, top_p, seed| Sampling { temperature, top_k, top_p, seed };
    for (inputs, expected) in [
        (r#""temperature":0.5"#, Sampling::GREEDY),
        (r#""top_k":1,"top_p":0.5,"seed":4"#, Sampling::GREEDY),
        (r#""top_p":0"#, Sampling::GREEDY),
        (r#""top_p":-1.5,"seed":4"#, Sampling::GREEDY),
        (r#""top_k":0,"seed":4"#, sampling(1.0, 0, 1.0, 4)),
        (r#""top_k":40,"temperature":2,"seed":4"#, sampling(2.0, 40, 1.0, 4)),
        (r#""top_p":0.75,"seed":4"#, sampling(1.0, 0, 0.75, 4)),
        (r#""top_k":5,"top_p":1,"temperature":0.25,"seed":0"#, sampling(0.25, 5, 1.0, 0)),
        (r#""top_k":5,"top_p":1e-300,"seed":4"#, sampling(1.0, 5, f32::MIN_POSITIVE, 4)),
    ] {
        server.engine.says(&["out"]);
        let body = format!(r#"{{"text_input":"in","max_tokens":3,{inputs}}}"#);
        assert_eq!(server.generate(&body).await.status, 200);
        assert_eq!(server.submitted().await.sampling, expected, "{inputs}");
    }
}

#[tokio::test]
async fn a_seed_is_drawn_where_none_is_given() {
    let mut server = Server::start().await;
    let mut seeds = Vec::new();
    for _ in 0..3 {
        server.engine.says(&["out"]);
        server.generate(r#"{"text_input":"in","max_tokens":3,"top_k":9}"#).await;
        seeds.push(server.submitted().await.sampling.seed);
    }
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
}

#[tokio::test]
async fn the_end_token_can_be_chosen() {
    let mut server = Server::start().await;
    for (end_id, expected) in [("7", Some(7)), ("-1", None), ("255", Some(255)), ("[]", Some(0))] {
        server.engine.says(&["out"]);
        let body = format!(r#"{{"text_input":"in","max_tokens":3,"end_id":{end_id}}}"#);
        assert_eq!(server.generate(&body).await.status, 200);
        assert_eq!(server.submitted().await.end_id, expected);
    }
}

#[tokio::test]
async fn text_ends_after_a_stop_word_and_the_engine_stops() {
    let mut server = Server::start().await;
    server.engine.says(&["one s", "to", "p two", " three"]);
    // The prompt has the word, too, and does not count.
    let body = r#"{"text_input":"stop: ","max_tokens":30,"stop_words":["never","stop"]}"#;
    assert_eq!(text(&server.generate(body).await), "stop: one stop");
    let id = server.submitted().await.id;
    assert_eq!(server.cancelled().await, id);

    server.engine.says(&["one stop"]);
    let body = r#"{"text_input":"in ","max_tokens":30,"stop_words":"stop"}"#;
    assert_eq!(text(&server.generate(body).await), "in one stop");
    server.submitted().await;
    server.no_calls();
}

#[tokio::test]
async fn characters_may_be_spread_over_tokens() {
    let server = Server::start().await;
    let bytes = "naïve €5 🦀".as_bytes();
    let answer = Answer::Says(bytes.iter().map(|&b| vec![b]).collect(), FinishReason::Length);
    server.engine.answer(answer);
    let body = r#"{"text_input":"ü: ","max_tokens":30}"#;
    assert_eq!(text(&server.generate(body).await), "ü: naïve €5 🦀");
    // One that never becomes whole is shown as such.
    server.engine.answer(Answer::Says(vec![vec![b'a', 0xe2]], FinishReason::Length));
    assert_eq!(text(&server.generate(body).await), "ü: a\u{fffd}");
}

#[tokio::test]
async fn an_answer_may_be_empty() {
    let server = Server::start().await;
    server.engine.answer(Answer::Says(vec![vec![]], FinishReason::EndId));
    assert_eq!(text(&server.generate(r#"{"text_input":"in","max_tokens":3}"#).await), "in");
}

#[tokio::test]
async fn tokens_that_come_twice_count_once() {
    let mut server = Server::start().await;
    let outputs = server.engine.held();
    let http = server.http;
    let reply = tokio::spawn(async move {
        let body = r#"{"text_input":"in ","max_tokens":9}"#;
        post(http, "/v2/models/ensemble/generate", body).await
    });
    let id = server.submitted().await.id;
    let output =
        |index, text: &str, finish| Output { id, index, tokens: tokens(text.as_bytes()), finish };
    outputs.send(output(0, "abc", None)).unwrap();
    outputs.send(output(1, "bcd", None)).unwrap();
    outputs.send(output(0, "ab", None)).unwrap();
    outputs.send(output(4, "e", Some(FinishReason::Length))).unwrap();
    assert_eq!(text(&reply.await.unwrap()), "in abcde");
}

#[tokio::test]
async fn ids_are_never_reused() {
    let mut server = Server::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        server.engine.says(&["out"]);
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
    ] {
        server.engine.answer(Answer::Refuse(refused));
        let reply = server.generate(body).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, text));
    }
    let failed = Answer::Says(vec![vec![b'a']], FinishReason::Failed("rank 1 is gone".to_owned()));
    server.engine.answer(failed);
    let reply = server.generate(body).await;
    let text = "the engine could not finish the request: rank 1 is gone";
    assert_eq!((reply.status, reply.error().as_str()), (500, text));

    drop(server.engine.held());
    let reply = server.generate(body).await;
    assert_eq!(
        (reply.status, reply.error().as_str()),
        (500, "the engine ended before the request was finished")
    );
    server.engine.answer(Answer::Says(vec![vec![b'a']], FinishReason::Cancelled));
    let reply = server.generate(body).await;
    assert_eq!((reply.status, reply.error().as_str()), (400, "the request was cancelled"));
    assert_eq!(
        reply.json().as_object().map(|body| body.values().all(Value::is_string)),
        Some(true)
    );
}

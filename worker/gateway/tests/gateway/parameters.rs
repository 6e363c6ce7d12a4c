//! Inputs at values that are fine, and what the engine is asked then.

use std::time::Duration;

use shardrun_wire::{
    Guide, Request, RequestId, RetainedRange, Retention, RetentionPriority, Sampling, Wanted,
};

use crate::client::post;
use crate::engine::{END_ID, tokens};
use crate::server::Server;

/// What the engine is asked if a request has these inputs.
async fn asked(server: &mut Server, inputs: &str) -> Request {
    let mut asked = Vec::new();
    for model in ["ensemble", "tensorrt_llm_bls"] {
        server.engine.says("out");
        let body = format!(r#"{{"text_input":"in","max_tokens":3,{inputs}}}"#);
        let reply = post(server.http, &format!("/v2/models/{model}/generate"), &body).await;
        assert_eq!(reply.status, 200, "{inputs}: {reply:?}");
        asked.push(Request { id: RequestId(0), ..server.submitted().await });
    }
    assert_eq!(asked[0], asked[1], "{inputs}");
    asked.remove(0)
}

fn plain() -> Request {
    let mut request = Request::new(RequestId(0), tokens(b"in"), 3);
    request.end_id = Some(END_ID);
    request
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
        "use_draft_logits":false,"num_draft_tokens":0,"image_url_input":"","cache_salt":"",
        "timeout":0,"retention_token_range_starts":[],"request_type":"context_and_generation"}"#;
    let mut server = server;
    for model in ["ensemble", "tensorrt_llm_bls"] {
        server.engine.says("out");
        let reply = post(server.http, &format!("/v2/models/{model}/generate"), body).await;
        assert_eq!(reply.json()["text_output"], "inout");
        assert_eq!(Request { id: RequestId(0), ..server.submitted().await }, plain());
    }
}

#[tokio::test]
async fn sampling_is_as_in_the_reference() {
    let mut server = Server::start().await;
    let greedy = Sampling::GREEDY;
    let all = |top_k, top_p| Sampling { top_k, top_p, seed: 4, ..greedy };
    for (inputs, expected) in [
        (r#""temperature":0.5"#, Sampling { temperature: 0.5, ..greedy }),
        (r#""top_k":1,"top_p":0.5,"seed":4"#, all(1, 0.5)),
        (r#""top_p":0"#, greedy),
        (r#""top_p":-1.5,"seed":4"#, all(1, 1.0)),
        (r#""top_k":0,"seed":4"#, all(0, 1.0)),
        (r#""top_k":40,"temperature":2,"seed":4"#, Sampling { temperature: 2.0, ..all(40, 1.0) }),
        (r#""top_p":0.75,"seed":4"#, all(0, 0.75)),
        (r#""top_k":5,"top_p":1e-300,"seed":4"#, all(5, f32::MIN_POSITIVE)),
        (r#""top_k":5,"seed":18446744073709551615"#, Sampling { seed: u64::MAX, ..all(5, 1.0) }),
        (
            r#""top_p":0.5,"seed":4,"runtime_top_p_min":0.25,"runtime_top_p_decay":0.75,
               "runtime_top_p_reset_ids":9"#,
            Sampling { top_p_min: 0.25, top_p_decay: 0.75, top_p_reset_id: Some(9), ..all(0, 0.5) },
        ),
        (r#""runtime_top_p_decay":1,"runtime_top_p_reset_ids":-1"#, greedy),
        (r#""min_p":0.125,"top_k":0,"seed":4"#, Sampling { min_p: 0.125, ..all(0, 1.0) }),
        (
            r#""repetition_penalty":1.5,"presence_penalty":-0.5,"frequency_penalty":2"#,
            Sampling {
                repetition_penalty: 1.5,
                presence_penalty: -0.5,
                frequency_penalty: 2.0,
                ..greedy
            },
        ),
        (
            r#""no_repeat_ngram_size":3,"min_tokens":2147483647"#,
            Sampling { no_repeat_ngram_size: 3, min_tokens: i32::MAX as u32, ..greedy },
        ),
    ] {
        let request = asked(&mut server, inputs).await;
        assert_eq!(request, Request { sampling: expected, ..plain() }, "{inputs}");
    }
}

#[tokio::test]
async fn the_end_token_can_be_chosen() {
    let mut server = Server::start().await;
    for (end_id, expected) in [("7", Some(7)), ("-1", None), ("255", Some(255)), ("[]", Some(0))] {
        let request = asked(&mut server, &format!(r#""end_id":{end_id},"pad_id":-1"#)).await;
        assert_eq!(request.end_id, expected);
    }
}

#[tokio::test]
async fn words_become_tokens_as_they_stand() {
    let mut server = Server::start().await;
    let inputs = r#""bad_words":["no"," no","","<nothing>"]"#;
    let bad_words = vec![tokens(b"no"), tokens(b" no")];
    assert_eq!(asked(&mut server, inputs).await, Request { bad_words, ..plain() });
    let inputs = r#""bad_words":"never""#;
    assert_eq!(asked(&mut server, inputs).await.bad_words, [tokens(b"never")]);
    // Nothing goes before a word.
    let inputs = r#""text_input":"<begin>in","bad_words":"<begin>x""#;
    let request = asked(&mut server, inputs).await;
    assert_eq!(request.prompt, [1, b'i'.into(), b'n'.into()]);
    assert_eq!(request.bad_words, [tokens(b"x")]);
    // Stop words are looked for in the text.
    assert_eq!(asked(&mut server, r#""stop_words":["x","y"]"#).await, plain());
}

#[tokio::test]
async fn weights_add_up_for_each_token() {
    let mut server = Server::start().await;
    let inputs = r#""embedding_bias_words":["ab","b","bb"],"embedding_bias_weights":[1,0.5,-2.25]"#;
    let embedding_bias = vec![(97, 1.0), (98, -3.0)];
    assert_eq!(asked(&mut server, inputs).await, Request { embedding_bias, ..plain() });
    let inputs = r#""embedding_bias_words":"aa","embedding_bias_weights":3e38"#;
    assert_eq!(asked(&mut server, inputs).await.embedding_bias, [(97, f32::MAX)]);
}

#[tokio::test]
async fn guides_by_type() {
    let mut server = Server::start().await;
    let guide = |kind, text: &str| {
        format!(r#""guided_decoding_guide_type":"{kind}","guided_decoding_guide":{text}"#)
    };
    for (inputs, expected) in [
        (r#""guided_decoding_guide_type":"json""#.to_owned(), Guide::Json),
        (guide("json", r#""""#), Guide::Json),
        (guide("json_schema", r#""{\"type\":\"object\"}""#), {
            Guide::JsonSchema(r#"{"type":"object"}"#.to_owned())
        }),
        (guide("regex", r#"["[a-z]+"]"#), Guide::Regex("[a-z]+".to_owned())),
        (guide("ebnf_grammar", r#""root ::= \"a\"""#), {
            Guide::Grammar("root ::= \"a\"".to_owned())
        }),
    ] {
        let request = asked(&mut server, &inputs).await;
        assert_eq!(request, Request { guide: Some(expected), ..plain() }, "{inputs}");
    }
}

#[tokio::test]
async fn blocks_are_retained_by_range() {
    let mut server = Server::start().await;
    let inputs = r#""retention_token_range_starts":[40,0],"retention_token_range_ends":[-1,40],
        "retention_token_range_priorities":[0,100],
        "retention_token_range_durations_ms":[-1,1500],
        "retention_decode_priority":7,"retention_decode_duration_ms":0"#;
    let retention = Retention {
        ranges: vec![
            RetainedRange {
                start: 0,
                end: Some(40),
                priority: RetentionPriority(100),
                duration: Some(Duration::from_millis(1500)),
            },
            RetainedRange { start: 40, end: None, priority: RetentionPriority(0), duration: None },
        ],
        decode_priority: RetentionPriority(7),
        decode_duration: Some(Duration::ZERO),
    };
    assert_eq!(asked(&mut server, inputs).await, Request { retention, ..plain() });
    let inputs = r#""retention_token_range_starts":5,"retention_token_range_ends":6,
        "retention_token_range_priorities":50,"retention_decode_duration_ms":-1"#;
    let retention = asked(&mut server, inputs).await.retention;
    let range =
        RetainedRange { start: 5, end: Some(6), priority: RetentionPriority(50), duration: None };
    assert_eq!(retention, Retention { ranges: vec![range], ..Retention::default() });
}

#[tokio::test]
async fn scheduling_by_request_parameters() {
    let mut server = Server::start().await;
    let inputs = r#""parameters":{"priority":0.75,"timeout":1500000},"cache_salt":"tenant 7""#;
    let expected = Request {
        priority: 0.75,
        timeout: Some(Duration::from_millis(1500)),
        cache_salt: Some("tenant 7".to_owned()),
        ..plain()
    };
    assert_eq!(asked(&mut server, inputs).await, expected);
    for (priority, expected) in [("0", 0.0), ("1", 1.0), ("1.0", 1.0)] {
        let request = asked(&mut server, &format!(r#""priority":{priority}"#)).await;
        assert_eq!(request.priority, expected);
    }
    let request = asked(&mut server, r#""timeout":9223372036854775"#).await;
    assert_eq!(request.timeout, Some(Duration::from_micros(9_223_372_036_854_775)));
}

#[tokio::test]
async fn times_and_blocks_are_not_the_engines_business() {
    let mut server = Server::start().await;
    let request = asked(&mut server, r#""return_perf_metrics":true"#).await;
    assert_eq!(request.wanted, Wanted::default());
}

//! The model `tensorrt_llm`: tokens in, tokens out.

use serde_json::{Value, json};
use shardrun_wire::{FinishReason, Request, RequestId, Sampling};

use crate::engine::{MAX_SEQ_LEN, VOCAB_SIZE, tokens};
use crate::server::Server;
use crate::streaming::{Events, events};

fn with(inputs: &str) -> String {
    format!(r#"{{"input_ids":[5,6,7],"input_lengths":3,"request_output_len":4,{inputs}}}"#)
}

async fn refuses(server: &mut Server, body: &str, text: &str) {
    let reply = server.tokens(body).await;
    assert_eq!((reply.status, reply.error().as_str()), (400, text), "{body}");
    server.no_calls();
}

#[tokio::test]
async fn the_answer_has_the_prompt_and_what_followed() {
    let mut server = Server::start().await;
    server.engine.says("ab");
    let body = r#"{"id":"7","input_ids":[5,6,7],"input_lengths":[3],"request_output_len":4}"#;
    let reply = server.tokens(body).await;
    assert_eq!(
        reply.body,
        r#"{"id":"7","model_name":"tensorrt_llm","model_version":"1","output_ids":[5,6,7,97,98],"sequence_length":5}"#
    );
    let request = Request { id: RequestId(0), ..server.submitted().await };
    assert_eq!(request, Request::new(RequestId(0), vec![5, 6, 7], 4), "no end token by itself");

    server.engine.says("ab");
    let reply = server.tokens(&with(r#""exclude_input_in_output":true"#)).await.json();
    assert_eq!((&reply["output_ids"], &reply["sequence_length"]), (&json!([97, 98]), &json!(2)));
}

#[tokio::test]
async fn tokens_stay_as_they_are() {
    let server = Server::start().await;
    // Bytes of no text, and what would stop a text.
    server.engine.ends([0xff, 0, 0xe2], FinishReason::StopWords);
    let reply = server.tokens(&with(r#""stop_words":"x","exclude_input_in_output":true"#)).await;
    assert_eq!(reply.json()["output_ids"], json!([255, 0, 226]));
}

#[tokio::test]
async fn inputs_by_the_names_of_the_engine() {
    let mut server = Server::start().await;
    server.engine.says("ab");
    let mut bias = vec!["0"; VOCAB_SIZE as usize];
    (bias[3], bias[255]) = ("0.5", "-2");
    let body = with(&format!(
        r#""end_id":9,"runtime_top_k":40,"runtime_top_p":0.5,"runtime_top_p_decay":0.5,
        "runtime_top_p_min":0.25,"runtime_top_p_reset_ids":8,"seed":4,"temperature":0.75,
        "stop_words_list":[1,2,3,0,2,3,-1,-1],"bad_words_list":[[4,5],[1,2]],
        "embedding_bias":[{}],"cache_salt":"it""#,
        bias.join(",")
    ));
    assert_eq!(server.tokens(&body).await.status, 200);
    let expected = Request {
        end_id: Some(9),
        sampling: Sampling {
            top_k: 40,
            top_p: 0.5,
            top_p_decay: 0.5,
            top_p_min: 0.25,
            top_p_reset_id: Some(8),
            seed: 4,
            temperature: 0.75,
            ..Sampling::GREEDY
        },
        stop_words: vec![vec![1, 2], vec![3]],
        bad_words: vec![vec![4], vec![5]],
        embedding_bias: vec![(3, 0.5), (255, -2.0)],
        cache_salt: Some("it".to_owned()),
        ..Request::new(RequestId(0), vec![5, 6, 7], 4)
    };
    assert_eq!(Request { id: RequestId(0), ..server.submitted().await }, expected);
}

#[tokio::test]
async fn shorter_sequences_are_filled_up() {
    let server = Server::start().await;
    let write = |sink: &crate::engine::Sink| {
        sink.say_and_end(0, "a", FinishReason::EndId);
        sink.say_and_end(1, "bcd", FinishReason::Length);
    };
    for several in [r#""num_return_sequences":2"#, r#""beam_width":2"#] {
        server.engine.writes(write);
        let body = with(&format!(r#"{several},"return_log_probs":true"#));
        let reply = server.tokens(&body).await.json();
        assert_eq!(reply["output_ids"], json!([5, 6, 7, 97, -1, -1, 5, 6, 7, 98, 99, 100]));
        assert_eq!(reply["sequence_length"], json!([4, 6]));
        assert_eq!(reply["cum_log_probs"], json!([-0.5, -1.5]));
        assert_eq!(reply["output_log_probs"], json!([-0.5, -1.0, -1.0, -0.5, -0.5, -0.5]));
    }
}

#[tokio::test]
async fn streams_have_the_new_tokens_or_all() {
    let server = Server::start().await;
    let seen = |event: &Value| (event["output_ids"].clone(), event["sequence_length"].clone());
    for (all, first, second) in [
        ("false", (json!(97), json!(1)), (json!(98), json!(1))),
        ("true", (json!(97), json!(1)), (json!([97, 98]), json!(2))),
    ] {
        let body = with(&format!(r#""streaming":true,"return_all_generated_tokens":{all}"#));
        let mut events = Events::open(&server, "tensorrt_llm", &body).await;
        events.sink.say(0, "a");
        assert_eq!(seen(&events.next().await), first);
        events.sink.say_and_end(0, "b", FinishReason::Length);
        assert_eq!(seen(&events.next().await), second);
        events.end().await;
    }
    server.engine.ends("", FinishReason::EndId);
    let path = "/v2/models/tensorrt_llm/generate_stream";
    let reply = crate::client::post(server.http, path, with(r#""streaming":true"#)).await;
    assert_eq!(seen(&events(&reply)[0]), (json!([]), json!(0)));
    let reply = server.tokens(&with(r#""streaming":true"#)).await;
    assert!(reply.error().ends_with("(streaming is true: expected false)"), "{reply:?}");
}

#[tokio::test]
async fn prompts_that_are_refused() {
    let mut server = Server::start().await;
    let server = &mut server;
    let body = |ids: &str, length: &str| {
        format!(r#"{{"input_ids":{ids},"input_lengths":{length},"request_output_len":4}}"#)
    };
    for (body, text) in [
        (body("[]", "0"), "input_ids is []: expected at least one token"),
        (body("[1,256]", "2"), "input_ids is 256: expected tokens below 256"),
        (body("[1,-1]", "2"), "input_ids is -1: expected tokens below 256"),
        (body("[1,2.0]", "2"), "input_ids is 2.0: expected tokens below 256"),
        (body("\"text\"", "2"), "input_ids is \"text\": expected tokens below 256"),
        (body("[1,2]", "3"), "input_lengths is 3: expected the number of input_ids, 2"),
        (body("[1,2]", "-1"), "input_lengths is -1: expected the number of input_ids, 2"),
        (body("[1,2]", "[]"), "input 'input_lengths' is missing"),
        (r#"{"input_lengths":3}"#.to_owned(), "input 'input_ids' is missing"),
        (r#"{"input_ids":1}"#.to_owned(), "input 'input_lengths' is missing"),
        (
            r#"{"input_ids":1,"input_lengths":1}"#.to_owned(),
            "input 'request_output_len' is missing",
        ),
        (
            with(r#""request_output_len":0"#),
            "request_output_len is 0: expected a whole number from 1 to 2147483647",
        ),
    ] {
        refuses(server, &body, text).await;
    }
    let long = format!("[{}]", vec!["1"; MAX_SEQ_LEN as usize + 1].join(","));
    let text = format!("input_ids is {}...: expected at most 1000 elements", &long[..60]);
    refuses(server, &body(&long, "1001"), &text).await;
    // To the others it is a parameter that is none.
    let text = "input_ids is an array, an object or null: a request parameter is a string, a \
                number or a bool";
    let reply = server.generate(r#"{"input_ids":[1],"text_input":"in","max_tokens":1}"#).await;
    assert_eq!(reply.error(), text);
}

#[tokio::test]
async fn word_lists() {
    let mut server = Server::start().await;
    for (list, expected) in [
        ("[]", vec![]),
        ("[[],[]]", vec![]),
        ("[0,-1]", vec![]),
        ("[7,1]", vec![vec![7]]),
        ("[[1,2,3,4],[1,4,-1,-1]]", vec![vec![1], vec![2, 3, 4]]),
        // What fills up the row of tokens can be anything.
        ("[9,-1,1,-1]", vec![vec![9]]),
    ] {
        for field in ["stop_words_list", "bad_words_list"] {
            server.engine.says("out");
            assert_eq!(server.tokens(&with(&format!(r#""{field}":{list}"#))).await.status, 200);
            let request = server.submitted().await;
            let (words, none) = match field {
                "stop_words_list" => (request.stop_words, request.bad_words),
                _ => (request.bad_words, request.stop_words),
            };
            assert_eq!((words, none.len()), (expected.clone(), 0), "{field} {list}");
        }
    }
}

#[tokio::test]
async fn word_lists_that_are_refused() {
    let mut server = Server::start().await;
    let rows = "two rows of the same length: tokens, and where each word ends";
    let ends = |n| format!("ends of words that rise from 1 to at most {n}, then -1");
    let integers = "whole numbers of 32 bits";
    let list = "[1,2,-1]";
    for field in ["stop_words_list", "bad_words_list"] {
        for (list, value, allowed) in [
            (list, list, rows.to_owned()),
            ("[[1,2],[1]]", "[[1,2],[1]]", rows.to_owned()),
            ("[[1],[1],[1]]", "[[1],[1],[1]]", rows.to_owned()),
            ("[[1],1]", "[[1],1]", rows.to_owned()),
            ("7", "7", rows.to_owned()),
            ("[1,2,2,2]", "2", ends(2)),
            ("[1,2,2,1]", "1", ends(2)),
            ("[1,2,3,-1]", "3", ends(2)),
            ("[1,2,0,-1]", "0", ends(2)),
            ("[1,2,-1,1]", "-1", ends(2)),
            ("[1,2,-2,-1]", "-2", ends(2)),
            ("[1,256,2,-1]", "256", "tokens below 256".to_owned()),
            ("[-1,2,2,-1]", "-1", "tokens below 256".to_owned()),
            ("[1,\"x\"]", "\"x\"", integers.to_owned()),
            ("[1.5,1]", "1.5", integers.to_owned()),
        ] {
            let text = format!("{field} is {value}: expected {allowed}");
            refuses(&mut server, &with(&format!(r#""{field}":{list}"#)), &text).await;
        }
        let long = format!("[{}]", vec!["1"; 8193].join(","));
        let text = format!("{field} is {}...: expected at most 8192 elements", &long[..60]);
        refuses(&mut server, &with(&format!(r#""{field}":{long}"#)), &text).await;
    }
}

#[tokio::test]
async fn biases() {
    let mut server = Server::start().await;
    let server = &mut server;
    server.engine.says("out");
    assert_eq!(server.tokens(&with(r#""embedding_bias":[]"#)).await.status, 200);
    assert_eq!(server.submitted().await.embedding_bias, []);
    let text = "embedding_bias is [1,2]: expected a number for each of the 256 tokens of the \
                vocabulary";
    refuses(server, &with(r#""embedding_bias":[1,2]"#), text).await;
    let text = "embedding_bias is 1e39: expected numbers up to 3.4e38";
    refuses(server, &with(r#""embedding_bias":[1e39]"#), text).await;
    let long = format!("[{}]", vec!["1"; 257].join(","));
    let text = format!("embedding_bias is {}...: expected at most 256 elements", &long[..60]);
    refuses(server, &with(&format!(r#""embedding_bias":{long}"#)), &text).await;
}

#[tokio::test]
async fn what_this_server_does_not_do() {
    let mut server = Server::start().await;
    let empty = "an empty array";
    let inputs = [
        ("encoder_input_features", "[1]", empty),
        ("encoder_output_lengths", "3", "0"),
        ("draft_input_ids", "[1]", empty),
        ("decoder_input_ids", "[1]", empty),
        ("decoder_input_lengths", "1", "0"),
        ("draft_logits", "[1]", empty),
        ("draft_acceptance_threshold", "\"x\"", "a number"),
        ("prompt_embedding_table", "[1]", empty),
        ("prompt_table_extra_ids", "[1]", empty),
        ("prompt_vocab_size", "1", "0"),
        ("cross_attention_mask", "[true]", empty),
        ("mrope_rotary_cos_sin", "[1]", empty),
        ("mrope_position_deltas", "[1]", empty),
        ("lora_task_id", "1", empty),
        ("lora_weights", "[1]", empty),
        ("lora_config", "[1]", empty),
        ("context_phase_params", "[1]", empty),
        ("skip_cross_attn_blocks", "true", "false"),
        ("lookahead_window_size", "4", "0"),
        ("lookahead_ngram_size", "3", "0"),
        ("lookahead_verification_set_size", "4", "0"),
        ("request_type", "\"generation_only\"", "context_and_generation"),
    ];
    for (field, value, accepted) in inputs {
        let text = format!("{field} is {value}: this server only takes {accepted}");
        refuses(&mut server, &with(&format!(r#""{field}":{value}"#)), &text).await;
    }
    let nothing: Vec<String> = inputs
        .iter()
        .map(|(field, _, accepted)| match *accepted {
            "0" | "false" => format!(r#""{field}":{accepted}"#),
            "context_and_generation" => format!(r#""{field}":"{accepted}""#),
            _ => format!(r#""{field}":[]"#),
        })
        .collect();
    server.engine.says("out");
    assert_eq!(server.tokens(&with(&nothing.join(","))).await.status, 200);
    assert_eq!(server.submitted().await.prompt, tokens(&[5, 6, 7]));
}

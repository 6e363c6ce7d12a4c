//! Inputs at values that are refused: each error names the input, its value and what is allowed,
//! and nothing reaches the engine.

use crate::client::post;
use crate::engine::MAX_LOGITS_ROWS;
use crate::server::Server;

const INT32: &str = "a whole number from 0 to 2147483647";
const FINITE: &str = "a number from -3.4e38 to 3.4e38";
const POSITIVE: &str = "a number above 0, at most 3.4e38";
const SHARE: &str = "a number above 0, at most 1";
const TOKEN: &str = "a token below 256, or a negative number for none";
const BOOL: &str = "true or false";
const RETAINED: &str = "a whole number from 0 to 100";
const DURATION: &str = "milliseconds from 0 to 2147483647, or -1 for no end";

/// Expects 400 and this sentence from the models that take text.
async fn refuses(server: &mut Server, inputs: &str, text: &str) {
    let body = format!(r#"{{"text_input":"in","max_tokens":3,{inputs}}}"#);
    for path in ["ensemble/generate", "tensorrt_llm_bls/generate_stream"] {
        let reply = post(server.http, &format!("/v2/models/{path}"), &body).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, text), "{path} of {body}");
    }
    server.no_calls();
}

/// Expects that each value of a field is refused, and the same values of the model that takes
/// tokens, by its name for it.
async fn refuses_values(fields: [&str; 2], values: &[&str], allowed: &str) {
    let mut server = Server::start().await;
    let [text, llm] = fields;
    for value in values {
        let inputs = format!(r#""{text}":{value}"#);
        refuses(&mut server, &inputs, &format!("{text} is {value}: expected {allowed}")).await;
        if !llm.is_empty() {
            let body = format!(
                r#"{{"input_ids":[1],"input_lengths":1,"request_output_len":3,"{llm}":{value}}}"#
            );
            let reply = server.tokens(&body).await;
            let expected = format!("{llm} is {value}: expected {allowed}");
            assert_eq!((reply.status, reply.error()), (400, expected));
        }
    }
    server.no_calls();
}

/// As `refuses_values`, for a field that all models call the same.
async fn refuses_all(field: &str, values: &[&str], allowed: &str) {
    refuses_values([field, field], values, allowed).await;
}

#[tokio::test]
async fn sampling() {
    refuses_values(["top_k", "runtime_top_k"], &["-1", "2.5", "2147483648", "null"], INT32).await;
    let top_p = "a number up to 1, where 0 and below mean unset";
    refuses_values(["top_p", "runtime_top_p"], &["1.01", "true"], top_p).await;
    for field in ["runtime_top_p_min", "runtime_top_p_decay"] {
        refuses_all(field, &["0", "-0.5", "1.5", "\"1\""], SHARE).await;
    }
    refuses_all("runtime_top_p_reset_ids", &["256", "1.5", "9e9"], TOKEN).await;
    refuses_all("end_id", &["256", "\"x\""], TOKEN).await;
    refuses_all("pad_id", &["\"x\"", "2147483648"], "a whole number of 32 bits").await;
    refuses_all("min_p", &["-0.01", "1.01", "\"0\""], "a number from 0 to 1").await;
    for field in ["temperature", "repetition_penalty"] {
        refuses_all(field, &["0", "-0.5", "1e39", "1e999", "\"hot\"", "true"], POSITIVE).await;
    }
    for field in ["presence_penalty", "frequency_penalty"] {
        refuses_all(field, &["1e39", "-1e39", "\"0\"", "null"], FINITE).await;
    }
    for field in ["no_repeat_ngram_size", "min_tokens"] {
        refuses_all(field, &["-1", "0.5", "2147483648"], INT32).await;
    }
    let seed = "a whole number from 0 to 18446744073709551615";
    refuses_all("seed", &["-1", "18446744073709551616", "1.0"], seed).await;
}

#[tokio::test]
async fn sequences_and_beams() {
    let beams = "a whole number from 1 to 4";
    refuses_all("beam_width", &["0", "5", "-1", "1.5", "\"2\""], beams).await;
    let sequences = "a whole number from 1 to 8";
    refuses_all("num_return_sequences", &["0", "9", "true"], sequences).await;
    refuses_values(["length_penalty", "len_penalty"], &["1e39", "\"x\""], FINITE).await;
    refuses_all("beam_search_diversity_rate", &["-1e39", "false"], FINITE).await;
    let early = "true, false or a whole number of 32 bits";
    refuses_all("early_stopping", &["0.5", "2147483648", "\"true\""], early).await;
    let mut server = Server::start().await;
    for n in ["4", "0"] {
        refuses(
            &mut server,
            &format!(r#""beam_width":3,"num_return_sequences":{n}"#),
            &format!(
                "num_return_sequences is {n}: expected a whole number from 1 to beam_width, 3"
            ),
        )
        .await;
    }
}

#[tokio::test]
async fn flags() {
    for field in [
        "return_log_probs",
        "return_context_logits",
        "return_generation_logits",
        "return_perf_metrics",
        "return_all_generated_tokens",
        "exclude_input_in_output",
    ] {
        refuses_all(field, &["1", "\"true\""], BOOL).await;
    }
    refuses_values(["stream", "streaming"], &["1", "null"], BOOL).await;
    refuses_values(["return_log_probs", ""], &["null"], BOOL).await;
}

#[tokio::test]
async fn words() {
    let long = format!("\"{}\"", "x".repeat(1025));
    for field in ["stop_words", "bad_words", "embedding_bias_words"] {
        let allowed = "strings of at most 1024 bytes";
        refuses_values([field, ""], &["7", "null"], allowed).await;
        let mut server = Server::start().await;
        let text = format!("{field} is {}...: expected {allowed}", &long[..60]);
        refuses(&mut server, &format!(r#""{field}":["ok",{long}]"#), &text).await;
        let many = format!("[{}]", vec!["\"w\""; 257].join(","));
        let text = format!("{field} is {}...: expected at most 256 elements", &many[..60]);
        refuses(&mut server, &format!(r#""{field}":{many}"#), &text).await;
    }
    let mut server = Server::start().await;
    for field in ["bad_words", "embedding_bias_words"] {
        refuses(
            &mut server,
            &format!(r#""{field}":"untokenisable","embedding_bias_weights":[]"#)
                .replace("[]", if field == "bad_words" { "[]" } else { "[1]" }),
            &format!("{field} cannot be tokenised: no token for it"),
        )
        .await;
    }
}

#[tokio::test]
async fn weights() {
    let mut server = Server::start().await;
    let server = &mut server;
    let with =
        |weights| format!(r#""embedding_bias_words":["a","b"],"embedding_bias_weights":{weights}"#);
    for (weights, text) in [
        ("[1]", "embedding_bias_weights is [1]: expected as many as embedding_bias_words, 2"),
        ("[]", "embedding_bias_weights is []: expected as many as embedding_bias_words, 2"),
        ("[1,\"x\"]", "embedding_bias_weights is \"x\": expected numbers up to 3.4e38"),
        ("[1,1e39]", "embedding_bias_weights is 1e39: expected numbers up to 3.4e38"),
    ] {
        refuses(server, &with(weights), text).await;
    }
    refuses(
        server,
        r#""embedding_bias_words":["a"]"#,
        "embedding_bias_weights is missing: expected as many as embedding_bias_words, 1",
    )
    .await;
    refuses(
        server,
        r#""embedding_bias_weights":[1,2]"#,
        "embedding_bias_weights is [1,2]: expected as many as embedding_bias_words, 0",
    )
    .await;
}

#[tokio::test]
async fn guides() {
    let kinds = "json, json_schema, regex or ebnf_grammar";
    let kind = "guided_decoding_guide_type";
    refuses_all(kind, &["\"xml\"", "\"JSON\""], kinds).await;
    refuses_all(kind, &["1"], "a string").await;
    refuses_all("guided_decoding_guide", &["{\"type\":1}"], "a string").await;
    let mut server = Server::start().await;
    let server = &mut server;
    for guide in ["json_schema", "regex", "ebnf_grammar"] {
        let missing = "input 'guided_decoding_guide' is missing";
        refuses(server, &format!(r#""{kind}":"{guide}""#), missing).await;
    }
    let missing = "input 'guided_decoding_guide_type' is missing";
    refuses(server, r#""guided_decoding_guide":"[a-z]""#, missing).await;
    refuses(
        server,
        &format!(r#""{kind}":"json","beam_width":2"#),
        &format!("{kind} is \"json\": expected none with a beam_width above 1, which is 2"),
    )
    .await;
}

#[tokio::test]
async fn retention() {
    refuses_all("retention_decode_priority", &["-1", "101", "1.5"], RETAINED).await;
    refuses_all("retention_decode_duration_ms", &["-2", "2147483648"], DURATION).await;
    let positions = "positions from 0 to 2147483647";
    refuses_all("retention_token_range_starts", &["-1", "2147483648"], positions).await;
    let ends = "positions, or -1 for the prompt's end";
    refuses_all("retention_token_range_ends", &["-2", "\"x\""], ends).await;
    refuses_all("retention_token_range_priorities", &["101", "-1"], RETAINED).await;
    refuses_all("retention_token_range_durations_ms", &["-2", "0.5"], DURATION).await;

    let mut server = Server::start().await;
    let range = |starts, ends, priorities, durations| {
        format!(
            r#""retention_token_range_starts":{starts},"retention_token_range_ends":{ends},
            "retention_token_range_priorities":{priorities},
            "retention_token_range_durations_ms":{durations}"#
        )
    };
    let as_many = |field, value| {
        format!(
            "retention_token_range_{field} is {value}: expected as many as retention_token_range_starts, 2"
        )
    };
    for (inputs, text) in [
        (range("[0,9]", "[5]", "[1,2]", "[]"), as_many("ends", "[5]")),
        (range("[0,9]", "[5,12]", "[]", "[]"), as_many("priorities", "[]")),
        (range("[0,9]", "[5,12]", "[1,2]", "7"), as_many("durations_ms", "7")),
        (
            range("[0,9]", "[5,9]", "[1,2]", "[]"),
            "retention_token_range_ends is 9: expected more than its start, 9, or -1 for the \
             prompt's end"
                .to_owned(),
        ),
        (
            range("[4,0]", "[8,5]", "[1,2]", "[]"),
            "retention_token_range_starts is 4: expected ranges that don't overlap, where another \
             goes from 0 to 5"
                .to_owned(),
        ),
        (
            range("[0,50]", "[-1,60]", "[1,2]", "[]"),
            "retention_token_range_starts is 50: expected ranges that don't overlap, where another \
             goes from 0 to the prompt's end"
                .to_owned(),
        ),
        (
            r#""retention_token_range_priorities":[50]"#.to_owned(),
            "retention_token_range_priorities is [50]: expected as many as \
             retention_token_range_starts, 0"
                .to_owned(),
        ),
    ] {
        refuses(&mut server, &inputs, &text).await;
    }
}

#[tokio::test]
async fn scheduling() {
    refuses_all("priority", &["-0.1", "1.5", "2", "\"1\"", "true"], "a number from 0 to 1").await;
    let timeout = "a whole number from 0 to 9223372036854775";
    refuses_all("timeout", &["-1", "1.5", "9223372036854776", "\"1\""], timeout).await;
    refuses_all("cache_salt", &["7", "null"], "a string of at most 1024 bytes").await;
    let mut server = Server::start().await;
    for field in ["priority", "timeout", "return_all_generated_tokens"] {
        let text = "is an array, an object or null: a request parameter is a string, a number or \
                    a bool";
        for value in ["[1]", "null", "{}"] {
            refuses(&mut server, &format!(r#""{field}":{value}"#), &format!("{field} {text}"))
                .await;
        }
    }
}

#[tokio::test]
async fn more_logits_than_are_kept() {
    let mut server = Server::start().await;
    let server = &mut server;
    let limit = MAX_LOGITS_ROWS;
    let text = |field, rows, prompt, output| {
        format!(
            "{field} is true: expected at most {limit} rows of logits, and the request asks for \
             {rows}: {prompt} of its prompt and {output} of what it may generate"
        )
    };
    let prompt = "x".repeat(limit as usize + 1);
    let inputs = format!(r#""return_context_logits":true,"text_input":"{prompt}""#);
    refuses(server, &inputs, &text("return_context_logits", 21, 21, 0)).await;
    let inputs = r#""return_generation_logits":true,"max_tokens":7,"num_return_sequences":3"#;
    refuses(server, inputs, &text("return_generation_logits", 21, 0, 21)).await;
    let inputs = r#""return_generation_logits":true,"return_context_logits":true,"max_tokens":19"#;
    refuses(server, inputs, &text("return_generation_logits", 21, 2, 19)).await;
    let inputs = r#""return_generation_logits":true,"max_tokens":2147483647,"beam_width":4"#;
    let most = 2_147_483_647_u64 * 4;
    refuses(server, inputs, &text("return_generation_logits", most, 0, most)).await;
    // All there may be is fine.
    let inputs = inputs.replace("2147483647", "5");
    server.engine.writes(|_| ());
    let body = format!(r#"{{"text_input":"in",{inputs}}}"#);
    server.generate(&body).await;
    server.submitted().await;
}

#[tokio::test]
async fn what_this_server_does_not_do() {
    let mut server = Server::start().await;
    for (field, value, accepted) in [
        ("lora_task_id", "0", "an empty array"),
        ("prompt_embedding_table", "[1,2]", "an empty array"),
        ("prompt_vocab_size", "4", "0"),
        ("decoder_text_input", "\"in\"", "empty text"),
        ("request_type", "\"context_only\"", "context_and_generation"),
    ] {
        let text = format!("{field} is {value}: this server only takes {accepted}");
        refuses(&mut server, &format!(r#""{field}":{value}"#), &text).await;
    }
    let body = r#"{"text_input":"in","max_tokens":3,"num_draft_tokens":4}"#;
    let reply = post(server.http, "/v2/models/tensorrt_llm_bls/generate", body).await;
    assert_eq!(reply.error(), "num_draft_tokens is 4: this server only takes 0");
    server.engine.says("out");
    let reply = server.generate(body).await;
    assert_eq!(reply.status, 200, "a parameter like any other to the ensemble");
}

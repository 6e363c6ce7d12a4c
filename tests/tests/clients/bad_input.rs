//! Input that is refused, and a server that goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{MAX_BODY, MAX_SEQ_LEN, SOON, prompt, shared, with};

/// Bodies that get 400, each with what its sentence begins with.
fn bad_bodies() -> Vec<(Vec<u8>, String)> {
    let but = |key: &str, value: Value| with(prompt("Hello", 4), &[(key, value)]);
    let too_long = "word ".repeat(MAX_SEQ_LEN);
    let far_too_long = "word ".repeat(MAX_BODY / 5 - 100);
    let not_json = "the request body is not valid JSON: ";
    let one_or_more = "expected a whole number from 1 to 2147483647";
    let bytes = |body: &[u8], sentence: &str| (body.to_vec(), sentence.to_owned());
    let json = |body: Value, sentence: &str| (body.to_string().into(), sentence.to_owned());
    vec![
        bytes(b"{\"text_input\": ", &format!("{not_json}EOF while")),
        bytes(b"nonsense", &format!("{not_json}expected")),
        bytes(b"[1, 2]", "the request body is an array: expected a JSON object"),
        bytes(b"{\"text_input\": \"\xff\"}", "the request body is not valid UTF-8 after byte 16"),
        bytes(b"", "input 'text_input' is missing"),
        bytes(b"{\"max_tokens\": 4}", "input 'text_input' is missing"),
        bytes(b"{\"text_input\": \"a\"}", "input 'max_tokens' is missing"),
        json(but("text_input", json!("")), "text_input is \"\": expected a prompt"),
        json(but("text_input", json!(5)), "text_input is 5: expected a string"),
        json(
            but("text_input", json!(["a", "b"])),
            "The schema can not convert input 'text_input' to tensor with proper shape",
        ),
        json(but("max_tokens", json!(0)), &format!("max_tokens is 0: {one_or_more}")),
        json(but("max_tokens", json!(-3)), &format!("max_tokens is -3: {one_or_more}")),
        json(but("max_tokens", json!("4")), &format!("max_tokens is \"4\": {one_or_more}")),
        json(but("max_tokens", json!(1.5)), &format!("max_tokens is 1.5: {one_or_more}")),
        json(but("temperature", json!(0)), "temperature is 0: expected a number above 0"),
        json(but("top_p", json!(1.5)), "top_p is 1.5: expected a number up to 1"),
        json(but("top_k", json!(-1)), "top_k is -1: expected a whole number from 0"),
        json(but("seed", json!(-1)), "seed is -1: expected a whole number from 0"),
        json(but("end_id", json!(49152)), "end_id is 49152: expected a token below 49152"),
        json(but("stop_words", json!(3)), "stop_words is 3: expected strings"),
        json(but("beam_width", json!(9)), "beam_width is 9: expected a whole number from 1 to 8"),
        json(
            but("num_return_sequences", json!(33)),
            "num_return_sequences is 33: expected a whole number from 1 to 32",
        ),
        json(but("min_p", json!(1.5)), "min_p is 1.5: expected a number from 0 to 1"),
        json(
            but("repetition_penalty", json!(0)),
            "repetition_penalty is 0: expected a number above 0",
        ),
        json(
            but("no_repeat_ngram_size", json!(-1)),
            "no_repeat_ngram_size is -1: expected a whole number from 0",
        ),
        json(
            but("embedding_bias_words", json!(["a"])),
            "embedding_bias_weights is missing: expected as many as embedding_bias_words, 1",
        ),
        json(but("priority", json!(1.5)), "priority is 1.5: expected a number from 0 to 1"),
        json(but("timeout", json!(-1)), "timeout is -1: expected a whole number from 0"),
        json(
            but("guided_decoding_guide_type", json!("xml")),
            "guided_decoding_guide_type is \"xml\": expected json, json_schema, regex or",
        ),
        json(but("mine", json!({})), "mine is an array, an object or null"),
        json(but("parameters", json!(3)), "Expected JSON object for keyword: 'parameters'"),
        json(
            prompt(&too_long, 4),
            &format!(
                "the prompt has {} tokens and max_tokens is 4: together 5 more than the context of \
                 {MAX_SEQ_LEN} tokens",
                MAX_SEQ_LEN + 1
            ),
        ),
        json(prompt(&far_too_long, 4), "the first 32768 bytes of text_input alone have"),
        json(
            but("max_tokens", json!(MAX_SEQ_LEN)),
            &format!("the prompt has 1 tokens and max_tokens is {MAX_SEQ_LEN}: together 1 more"),
        ),
        json(
            but("max_tokens", json!(2_147_483_647)),
            "the prompt has 1 tokens and max_tokens is 2147483647: together",
        ),
    ]
}

#[test]
fn bad_bodies_get_400_and_one_sentence() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    for (body, sentence) in bad_bodies() {
        for route in ["ensemble/generate", "tensorrt_llm_bls/generate_stream"] {
            let reply = client.post(&format!("/v2/models/{route}"), &body)?;
            let shown = String::from_utf8_lossy(&body[..body.len().min(120)]);
            assert_eq!(reply.status, 400, "{route}, {shown}: {reply:?}");
            assert_eq!(reply.content_type, "application/json", "{route}, {shown}");
            let error = reply.error()?;
            assert!(error.starts_with(&sentence), "{route}, {shown}: {error}");
            assert!(!error.contains('\n'), "one sentence: {error}");
        }
    }
    let streamed = with(prompt("Hello", 4), &[("stream", json!(true))]).to_string();
    let reply = client.post("/v2/models/ensemble/generate", streamed)?;
    assert_eq!(reply.status, 400);
    assert!(reply.error()?.starts_with("generate expects model to produce exactly 1 response"));
    assert!(client.generate(&prompt("Hello", 4))?.len() > 2, "and the server goes on");
    Ok(())
}

#[test]
fn bad_paths_methods_and_sizes_get_their_statuses() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let unknown = "Request for unknown model";
    let there_are = "there are ensemble, ensemble_t, t, tensorrt_llm, tensorrt_llm_bls, \
                     tensorrt_llm_bls_t, tensorrt_llm_t";
    let not_found = |name: &str| format!("{unknown}: '{name}' is not found; {there_are}");
    let body = prompt("Hello", 4).to_string();
    for (path, sentence) in [
        ("/v2/models/gpt/generate", not_found("gpt")),
        ("/v2/models/preprocessing/generate", not_found("preprocessing")),
        (
            "/v2/models/ensemble/versions/2/generate",
            format!("{unknown}: 'ensemble' version 2 is not found"),
        ),
        ("/v3", "/v3 is not a path of this server".to_owned()),
    ] {
        let reply = client.post(path, &body)?;
        assert_eq!((reply.status, reply.error()?), (404, sentence), "{path}");
    }
    let reply = client.get("/v2/models/ensemble/generate")?;
    assert_eq!((reply.status, &*reply.error()?), (405, "Method Not Allowed"));
    assert_eq!(client.get("/v2/models/gpt/ready")?.status, 400);

    let large = prompt(&"x".repeat(MAX_BODY), 1).to_string();
    let reply = client.post("/v2/models/ensemble/generate", large)?;
    let sentence =
        format!("the request body has more than {MAX_BODY} bytes (server.max_body_bytes)");
    assert_eq!((reply.status, reply.error()?), (413, sentence));
    assert!(client.generate(&prompt("Hello", 4))?.len() > 2, "and the server goes on");
    Ok(())
}

#[test]
fn what_is_no_http_harms_nobody() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(client.http())?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(bytes)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        // A reset is an answer, too.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
    }
    // A body that ends before its length does.
    let mut stream = TcpStream::connect(client.http())?;
    stream.write_all(
        b"POST /v2/models/ensemble/generate HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n{",
    )?;
    drop(stream);
    assert!(client.generate(&prompt("Hello", 4))?.len() > 2);
    Ok(())
}

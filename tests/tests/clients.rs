//! What clients see of a deployment of two ranks: answers, streams, errors, metrics.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shardrun_tests::{
    Client, Deployment, Exposition, Ready, Role, Setup, Shared, free_ports, model, raw_request,
    until, until_some,
};

/// Bodies may have so many bytes.
const MAX_BODY: usize = 200_000;
/// Tokens of the longest sequence.
const MAX_SEQ_LEN: usize = 2048;
/// How long what a request has held may take to be free.
const SOON: Duration = Duration::from_secs(5);

static SHARED: Shared = Shared::new();

/// The deployment that most tests here share.
fn shared() -> anyhow::Result<Option<(Arc<Deployment>, Client)>> {
    let Some(model) = model()? else { return Ok(None) };
    let deployment = SHARED.get(|| {
        Setup::new(&model)?
            .set("server.max_body_bytes", MAX_BODY)
            .set("model.max_seq_len", MAX_SEQ_LEN)
            .serve()
    })?;
    let client = deployment.client()?;
    Ok(Some((deployment, client)))
}

fn prompt(text: &str, max_tokens: usize) -> Value {
    json!({"text_input": text, "max_tokens": max_tokens, "exclude_input_in_output": true})
}

/// Text, the end token ignored: as many tokens as asked for.
fn endless(text: &str, max_tokens: usize) -> Value {
    let mut request = prompt(text, max_tokens);
    request["end_id"] = json!(-1);
    request
}

fn with(mut request: Value, more: &[(&str, Value)]) -> Value {
    for (key, value) in more {
        request[*key] = value.clone();
    }
    request
}

#[test]
fn both_models_answer_alike() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let request = json!({"text_input": "The capital of France is", "max_tokens": 5});
    let mut texts = Vec::new();
    for name in ["ensemble", "tensorrt_llm_bls"] {
        for path in ["", "/versions/1"] {
            let path = format!("/v2/models/{name}{path}/generate");
            let reply = client.post(&path, request.to_string())?;
            assert_eq!((reply.status, &*reply.content_type), (200, "application/json"), "{path}");
            let body = reply.json()?;
            assert_eq!(body["model_name"], name);
            assert_eq!(body["model_version"], "1");
            assert!(body.get("id").is_none());
            texts.push(body["text_output"].as_str().context("text")?.to_owned());
        }
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    let text = texts[0].strip_prefix("The capital of France is").context("the prompt first")?;
    assert!(text.contains("Paris"), "{text:?}");
    let excluded = with(request.clone(), &[("exclude_input_in_output", json!(true))]);
    assert_eq!(client.generate(&excluded)?, text);
    // The same members in `parameters`, as one-element arrays, and with an id.
    let nested = json!({"id": "mine", "text_input": ["The capital of France is"],
                        "parameters": {"max_tokens": [5], "temperature": 0.5}});
    let reply = client.post("/v2/models/ensemble/generate", nested.to_string())?.json()?;
    assert_eq!(reply["id"], "mine");
    assert_eq!(reply["text_output"].as_str(), Some(&*texts[0]));
    Ok(())
}

#[test]
fn curl_gets_an_answer_as_the_terminal_says() -> anyhow::Result<()> {
    let Some((deployment, client)) = shared()? else { return Ok(()) };
    let printed = deployment.stdout();
    let line = printed.lines().find_map(|line| line.trim().strip_prefix("curl "));
    let line = line.context("a curl line is printed")?;
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl");
        return Ok(());
    }
    let output = Command::new("sh").arg("-c").arg(format!("curl --max-time 60 {line}")).output()?;
    ensure!(output.status.success(), "{output:?}");
    let body: Value = serde_json::from_slice(&output.stdout)?;
    let text = body["text_output"].as_str().context("text")?;
    assert!(text.starts_with("What is machine learning?") && text.len() > 60, "{text:?}");

    let url = format!("http://{}/v2/models/ensemble/generate_stream", client.http());
    let body = with(endless("Count:", 8), &[("stream", json!(true))]).to_string();
    let output =
        Command::new("curl").args(["-sN", "--max-time", "60", &url, "-d", &body]).output()?;
    let events = String::from_utf8(output.stdout)?;
    assert_eq!(events.matches("data: {").count(), 8, "{events}");
    Ok(())
}

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

#[test]
fn sampling_is_a_function_of_the_seed() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let request = endless("Write a story about", 24);
    let greedy = client.generate(&request)?;
    let sample = |seed: u64, more: &[(&str, Value)]| {
        let seeded = with(request.clone(), &[("seed", json!(seed)), ("temperature", json!(1.0))]);
        client.generate(&with(seeded, more))
    };
    let free = [("top_k", json!(0))];
    assert_eq!(sample(7, &free)?, sample(7, &free)?, "repeatable");
    let mut texts: Vec<String> =
        (0..5).map(|seed| sample(seed, &free)).collect::<Result<_, _>>()?;
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 5, "each seed gives another text");
    // Without a seed, one is drawn.
    let unseeded = with(request.clone(), &[("top_k", json!(0)), ("temperature", json!(1.0))]);
    assert_ne!(client.generate(&unseeded)?, client.generate(&unseeded)?);
    // Settings that leave one token.
    for one in [("top_k", json!(1)), ("top_p", json!(1e-6)), ("temperature", json!(1e-6))] {
        let least = [("top_p", json!(0.9)), one.clone()];
        assert_eq!(sample(3, &least)?, greedy, "{one:?}");
    }
    // Settings that leave some: other texts than the greedy one and the free one, and repeatable.
    for some in [("top_k", json!(8)), ("top_p", json!(0.7))] {
        let some = [some];
        assert_eq!(sample(5, &some)?, sample(5, &some)?, "{some:?}");
        assert_ne!(sample(5, &some)?, greedy, "{some:?}");
    }
    // Very cold is nearly greedy, very hot is nearly uniform: hardly any word of ours.
    let hot = sample(1, &[("top_k", json!(0)), ("temperature", json!(50.0))])?;
    assert_ne!(hot, greedy);
    Ok(())
}

#[test]
fn the_server_says_what_it_is() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let server = client.get("/v2")?.json()?;
    assert_eq!(server["name"], "shardrun");
    assert!(server["version"].is_string() && server["extensions"].is_array());
    for name in ["ensemble", "tensorrt_llm_bls"] {
        for path in [format!("/v2/models/{name}"), format!("/v2/models/{name}/versions/1")] {
            let reply = client.get(&path)?;
            assert_eq!((reply.status, &*reply.content_type), (200, "application/json"));
            let body = reply.json()?;
            assert_eq!(body["name"], name);
            assert_eq!(body["versions"], json!(["1"]));
            let names = |list: &Value| -> anyhow::Result<Vec<String>> {
                let list = list.as_array().context("an array")?;
                let name = |tensor: &Value| tensor["name"].as_str().unwrap_or_default().to_owned();
                assert!(list.iter().all(|t| t["datatype"].is_string() && t["shape"].is_array()));
                Ok(list.iter().map(name).collect())
            };
            let inputs = names(&body["inputs"])?;
            for input in ["text_input", "max_tokens", "seed", "stop_words"] {
                assert!(inputs.iter().any(|name| name == input), "{inputs:?}");
            }
            assert_eq!(names(&body["outputs"])?, ["text_output"]);
            let ready = client.get(&format!("{path}/ready"))?;
            assert_eq!((ready.status, &*ready.body), (200, ""));
        }
    }
    for path in ["/v2/health/live", "/v2/health/ready"] {
        let reply = client.get(path)?;
        assert_eq!((reply.status, &*reply.body), (200, ""), "{path}");
    }
    Ok(())
}

/// Status and sentence of every bad input of the reference, then a good one.
#[test]
fn bad_input_gets_a_status_and_a_sentence() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let good = prompt("Hello", 4);
    let with_key = |key: &str, value: Value| with(good.clone(), &[(key, value)]).to_string();
    let long = "word ".repeat(MAX_SEQ_LEN);
    let very_long = "word ".repeat(MAX_BODY / 5 - 100);
    let whole = "max_tokens is";
    let limit = "expected a whole number from 1 to 2147483647";
    let cases: Vec<(Vec<u8>, String)> = vec![
        (b"{\"text_input\": ".to_vec(), "the request body is not valid JSON: EOF while".into()),
        (b"nonsense".to_vec(), "the request body is not valid JSON: expected".into()),
        (b"[1, 2]".to_vec(), "the request body is an array: expected a JSON object".into()),
        (
            b"{\"text_input\": \"\xff\", \"max_tokens\": 1}".to_vec(),
            "the request body is not valid UTF-8 after byte 16".into(),
        ),
        (b"".to_vec(), "input 'text_input' is missing".into()),
        (b"{\"max_tokens\": 4}".to_vec(), "input 'text_input' is missing".into()),
        (b"{\"text_input\": \"a\"}".to_vec(), "input 'max_tokens' is missing".into()),
        (with_key("text_input", json!("")).into(), "text_input is \"\": expected a prompt".into()),
        (with_key("text_input", json!(5)).into(), "text_input is 5: expected a string".into()),
        (
            with_key("text_input", json!(["a", "b"])).into(),
            "The schema can not convert input 'text_input' to tensor with proper shape".into(),
        ),
        (with_key("max_tokens", json!(0)).into(), format!("{whole} 0: {limit}")),
        (with_key("max_tokens", json!(-3)).into(), format!("{whole} -3: {limit}")),
        (with_key("max_tokens", json!("4")).into(), format!("{whole} \"4\": {limit}")),
        (with_key("max_tokens", json!(1.5)).into(), format!("{whole} 1.5: {limit}")),
        (with_key("temperature", json!(0)).into(), "temperature is 0: expected a number".into()),
        (with_key("top_p", json!(1.5)).into(), "top_p is 1.5: expected a number up to 1".into()),
        (with_key("top_k", json!(-1)).into(), "top_k is -1: expected a whole number".into()),
        (with_key("seed", json!(-1)).into(), "seed is -1: expected a whole number".into()),
        (with_key("end_id", json!(49152)).into(), "end_id is 49152: expected a token".into()),
        (with_key("stop_words", json!(3)).into(), "stop_words is 3: expected strings".into()),
        (with_key("beam_width", json!(4)).into(), "beam_width is 4: this server only".into()),
        (with_key("mine", json!({})).into(), "mine is an array, an object or null".into()),
        (with_key("parameters", json!(3)).into(), "Expected JSON object for keyword".into()),
        (
            prompt(&long, 4).to_string().into(),
            format!(
                "the prompt has {} tokens and max_tokens is 4: together {} more than the context \
                  of {MAX_SEQ_LEN} tokens",
                MAX_SEQ_LEN + 1,
                5
            ),
        ),
        (
            prompt(&very_long, 4).to_string().into(),
            "the first 32768 bytes of text_input alone".into(),
        ),
        (
            with_key("max_tokens", json!(MAX_SEQ_LEN)).into(),
            format!("the prompt has 1 tokens and max_tokens is {MAX_SEQ_LEN}: together 1 more"),
        ),
        (
            with_key("max_tokens", json!(2_147_483_647)).into(),
            "the prompt has 1 tokens and max_tokens is 2147483647: together".into(),
        ),
    ];
    for name in ["ensemble/generate", "tensorrt_llm_bls/generate_stream"] {
        for (body, sentence) in &cases {
            let reply = client.post(&format!("/v2/models/{name}"), body)?;
            let shown = String::from_utf8_lossy(&body[..body.len().min(120)]);
            assert_eq!(reply.status, 400, "{name}, {shown}: {reply:?}");
            assert_eq!(reply.content_type, "application/json", "{name}, {shown}");
            let error = reply.error()?;
            assert!(error.starts_with(sentence), "{name}, {shown}: {error}");
            assert!(!error.contains('\n'), "one sentence: {error}");
        }
    }
    let streamed = with_key("stream", json!(true));
    let reply = client.post("/v2/models/ensemble/generate", streamed)?;
    assert_eq!(reply.status, 400);
    assert!(reply.error()?.starts_with("generate expects model to produce exactly 1 response"));

    let body = good.to_string();
    for (path, sentence) in [
        ("/v2/models/gpt/generate", "Request for unknown model: 'gpt' is not found"),
        (
            "/v2/models/tensorrt_llm/generate",
            "Request for unknown model: 'tensorrt_llm' is not found",
        ),
        (
            "/v2/models/ensemble/versions/2/generate",
            "Request for unknown model: 'ensemble' version 2 is not found",
        ),
        ("/v3", "/v3 is not a path of this server"),
    ] {
        let reply = client.post(path, &body)?;
        assert_eq!((reply.status, &*reply.error()?), (404, sentence), "{path}");
    }
    let reply = client.get("/v2/models/ensemble/generate")?;
    assert_eq!((reply.status, &*reply.error()?), (405, "Method Not Allowed"));
    assert_eq!(client.get("/v2/models/gpt/ready")?.status, 400);

    let large = prompt(&"x".repeat(MAX_BODY), 1).to_string();
    let reply = client.post("/v2/models/ensemble/generate", large)?;
    let sentence =
        format!("the request body has more than {MAX_BODY} bytes (server.max_body_bytes)");
    assert_eq!((reply.status, reply.error()?), (413, sentence));

    assert!(client.generate(&good)?.len() > 2, "and the server goes on");
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

fn blocks(scrape: &Exposition, kind: &str) -> anyhow::Result<f64> {
    scrape.value("nv_trt_llm_kv_cache_block_metrics", &[("kv_cache_block_type", kind)])
}

fn all_blocks_free(client: &Client) -> anyhow::Result<bool> {
    let scrape = client.metrics()?;
    Ok(blocks(&scrape, "used")? == 0.0 && blocks(&scrape, "free")? == blocks(&scrape, "max")?)
}

/// Its own deployment: what others ask for would be counted, too.
#[test]
fn metrics_count_what_clients_received() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let deployment = Setup::new(&model)?.serve()?;
    let client = deployment.client()?;
    let fresh = client.metrics()?;
    assert_eq!(fresh.value("shardrun_generation_tokens_total", &[])?, 0.0);
    for rank in ["0", "1"] {
        let load = fresh.value("shardrun_rank_load_seconds", &[("rank", rank)])?;
        assert!((0.01..60.0).contains(&load), "rank {rank} loaded in {load} s");
        assert!(fresh.value("shardrun_rank_weight_bytes", &[("rank", rank)])? > 2e7);
    }

    // 16 + 24 + 29 tokens: the last one ends by its end token, after 29.
    let whole = client.generate(&endless("Hello world!", 16))?;
    assert!(!whole.is_empty());
    let streamed = client.stream(&endless("Hello world!", 24))?.rest()?.len();
    let ended = client.stream(&prompt("The capital of France is", 64))?.rest()?.len();
    assert_eq!((streamed, ended), (24, 30));
    let bad =
        client.post("/v2/models/tensorrt_llm_bls/generate", prompt("a", 1_000_000).to_string())?;
    assert_eq!(bad.status, 400);
    until("all blocks to be free", SOON, || all_blocks_free(&client))?;

    let scrape = client.metrics()?;
    let value = |name: &str, labels: &[(&str, &str)]| scrape.value(name, labels);
    assert_eq!(value("shardrun_generation_tokens_total", &[])?, 16.0 + 24.0 + 29.0);
    // "Hello world!" has 3 tokens, "The capital of France is" 5.
    assert_eq!(value("shardrun_prompt_tokens_total", &[])?, 3.0 + 3.0 + 5.0);
    assert_eq!(value("nv_llm_input_token_len_sum", &[])?, 11.0);
    assert_eq!(value("nv_llm_output_token_len_sum", &[])?, 69.0);
    assert_eq!(value("nv_llm_output_token_len_count", &[])?, 3.0);
    for (model, succeeded, refused) in
        [("ensemble", 3.0, 0.0), ("tensorrt_llm_bls", 0.0, 1.0), ("tensorrt_llm", 3.0, 1.0)]
    {
        assert_eq!(
            value("nv_inference_request_success", &[("model", model)])?,
            succeeded,
            "{model}"
        );
        let other = [("model", model), ("reason", "OTHER")];
        assert_eq!(value("nv_inference_request_failure", &other)?, refused, "{model}");
        let cancelled = [("model", model), ("reason", "CANCELED")];
        assert_eq!(value("nv_inference_request_failure", &cancelled)?, 0.0, "{model}");
    }
    assert_eq!(value("nv_inference_pending_request_count", &[])?, 0.0);
    assert_eq!(value("nv_trt_llm_request_metrics", &[("request_type", "active")])?, 0.0);
    assert_eq!(blocks(&scrape, "max")? * blocks(&scrape, "tokens_per")?, 4096.0);
    // Every rank has executed every iteration.
    let iterations = value("nv_trt_llm_general_metrics", &[("general_type", "iteration_counter")])?;
    assert!(iterations >= 16.0 + 24.0 + 30.0, "{iterations}");
    for rank in ["0", "1"] {
        assert_eq!(value("shardrun_rank_iterations_total", &[("rank", rank)])?, iterations);
    }
    let path = raw_request(
        client.metrics_address(),
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    )?;
    let content_type = path.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    Ok(())
}

/// Its own deployment, for its blocks to be counted.
#[test]
fn a_client_that_leaves_frees_its_blocks() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let deployment = Setup::new(&model)?.serve()?;
    let client = deployment.client()?;
    // Far more tokens than there is time for.
    let body = with(endless("Once upon a time", 3000), &[("stream", json!(true))]).to_string();
    for path in ["generate_stream", "generate"] {
        let body =
            if path == "generate" { endless("Once", 3000).to_string() } else { body.clone() };
        let mut stream = TcpStream::connect(client.http())?;
        stream.set_read_timeout(Some(SOON))?;
        let request = format!(
            "POST /v2/models/ensemble/{path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        if path == "generate_stream" {
            let mut some = [0; 600];
            stream.read_exact(&mut some)?;
            assert!(some.windows(6).any(|six| six == b"data: "), "a stream has begun");
        }
        until("blocks to be in use", SOON, || Ok(blocks(&client.metrics()?, "used")? > 0.0))?;
        drop(stream);
        let took = until("blocks to be free", SOON, || all_blocks_free(&client))?;
        println!("{path}: blocks were free {took:.1?} after the client had left");
    }
    let scrape = client.metrics()?;
    let cancelled = [("model", "ensemble"), ("reason", "CANCELED")];
    assert_eq!(scrape.value("nv_inference_request_failure", &cancelled)?, 2.0);
    assert!(scrape.value("shardrun_generation_tokens_total", &[])? < 3000.0);
    assert!(!client.generate(&prompt("Hello", 4))?.is_empty(), "and the server goes on");
    Ok(())
}

#[test]
fn sixteen_clients_at_once_are_all_answered() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let texts = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let client = client.clone();
            scope.spawn(move || -> anyhow::Result<(String, String)> {
                let request = endless(&format!("{number}, {}, ", number + 1), 12);
                let streamed = client.stream(&request)?.rest()?;
                assert_eq!(streamed.len(), 12);
                Ok((streamed.concat(), client.generate(&request)?))
            })
        };
        let asked: Vec<_> = (0..16).map(ask).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    assert!(texts.iter().all(|(streamed, whole)| streamed == whole));
    Ok(())
}

/// From the first moment that it can be reached: alive, and not ready while it loads.
#[test]
fn it_is_not_ready_while_it_loads() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let [http, metrics] = free_ports()?;
    let deployment = Setup::new(&model)?
        .set("server.http_port", http)
        .set("server.metrics_port", metrics)
        .serve()?;
    let ready =
        Ready { http: format!("127.0.0.1:{http}"), metrics: format!("127.0.0.1:{metrics}") };
    let client = Client::new(ready.clone());
    let loading = Duration::from_secs(60);
    until_some("the port to be open", loading, || Ok(TcpStream::connect(&ready.http).ok()))?;
    // The follower is loading: as long as it stands still, nothing is ready.
    deployment.signal(Role::Rank(1), Signal::SIGSTOP)?;
    assert_eq!(client.get("/v2/health/live")?.status, 200);
    assert_eq!(client.get("/v2/health/ready")?.status, 400);
    assert_eq!(client.get("/v2/models/ensemble/ready")?.status, 400);
    assert_eq!(client.get("/v2/models/ensemble")?.status, 200);
    let reply = client.post("/v2/models/ensemble/generate", prompt("Hello", 4).to_string())?;
    let sentence = "the model is loading, please try again later";
    assert_eq!((reply.status, &*reply.error()?), (503, sentence));
    client.metrics()?;
    assert_eq!(deployment.stdout(), "", "ready is not said too early");
    deployment.signal(Role::Rank(1), Signal::SIGCONT)?;
    assert_eq!(deployment.ready()?, ready);
    assert_eq!(client.get("/v2/health/ready")?.status, 200);
    assert!(!client.generate(&prompt("Hello", 4))?.is_empty());
    Ok(())
}

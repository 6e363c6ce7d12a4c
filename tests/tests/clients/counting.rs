//! The metrics, and the blocks of clients that leave. Each test has a deployment of its own: what others
//! ask for would be counted, too.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;
use shardrun_tests::{Client, Exposition, Setup, model, raw_request, until};

use super::{SOON, endless, prompt, with};

fn blocks(scrape: &Exposition, kind: &str) -> anyhow::Result<f64> {
    scrape.value("nv_trt_llm_kv_cache_block_metrics", &[("kv_cache_block_type", kind)])
}

/// Requests in some state.
pub(super) fn requests(scrape: &Exposition, state: &str) -> anyhow::Result<f64> {
    scrape.value("nv_trt_llm_request_metrics", &[("request_type", state)])
}

/// Whether no request is there, and none has left anything.
pub(super) fn nothing_is_left(client: &Client) -> anyhow::Result<bool> {
    let idle = requests(&client.metrics()?, "active")? == 0.0;
    Ok(idle && all_blocks_free(client)?)
}

fn all_blocks_free(client: &Client) -> anyhow::Result<bool> {
    let scrape = client.metrics()?;
    Ok(blocks(&scrape, "used")? == 0.0 && blocks(&scrape, "free")? == blocks(&scrape, "max")?)
}

#[test]
fn metrics_count_what_clients_received() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    // Where an answer ends by itself depends on every bit.
    let deployment = Setup::new(&model)?.exact().serve()?;
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
    assert_eq!(requests(&scrape, "active")?, 0.0);
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

//! What a request cost.

use anyhow::Context as _;
use serde_json::{Value, json};
use shardrun_tests::golden;

use super::tokens::ask;
use super::{shared, with};

#[test]
fn the_second_time_a_prompt_s_blocks_are_reused() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let prompt = &golden()?.prompts[17].ids[..100];
    // A salt, so that nobody else has asked for this before.
    let salted = [("return_perf_metrics", json!(true)), ("cache_salt", json!("costs"))];
    let request = with(ask(prompt, 5), &salted);
    let first = client.answer("tensorrt_llm", &request)?;
    let second = client.answer("tensorrt_llm", &request)?;
    assert_eq!(first["output_ids"], second["output_ids"]);
    let number = |answer: &Value, name: &str| {
        answer[name].as_u64().with_context(|| format!("{name} of {answer}"))
    };
    assert_eq!(number(&first, "kv_cache_reused_blocks")?, 0);
    assert_eq!(number(&second, "kv_cache_reused_blocks")?, 100 / 32, "its whole blocks");
    let mut before = 0;
    for answer in [&first, &second] {
        let blocks = |name: &str| number(answer, &format!("kv_cache_{name}_blocks"));
        assert_eq!(blocks("alloc_total")?, blocks("alloc_new")? + blocks("reused")?, "{answer}");
        for name in ["arrival", "first_scheduled", "first_token", "last_token"] {
            let time = number(answer, &format!("{name}_time_ns"))?;
            assert!(time >= before, "{name}: {answer}");
            before = time;
        }
        assert!(number(answer, "last_token_time_ns")? > number(answer, "first_token_time_ns")?);
        assert_eq!(answer["acceptance_rate"].as_f64(), Some(0.0));
    }
    // A prompt of another tenant, though the same.
    let other = with(request, &[("cache_salt", json!("of another"))]);
    let other = client.answer("tensorrt_llm", &other)?;
    assert_eq!(number(&other, "kv_cache_reused_blocks")?, 0);
    Ok(())
}

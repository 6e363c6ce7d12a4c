//! The logits behind the tokens.

use serde_json::json;
use shardrun_tests::{LOGIT_ERROR, golden};

use super::tokens::{VOCAB, argmax, ask, floats, integers};
use super::{endless, shared, with};

#[test]
fn logits_of_prompt_and_output_are_those_that_tokens_come_from() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let golden = &golden()?.prompts[1];
    let more = [("return_context_logits", json!(true)), ("return_generation_logits", json!(true))];
    let request = with(ask(&golden.ids, 4), &more);
    // The second time the prompt is in the cache; it is computed all the same.
    for time in 0..2 {
        let answer = client.answer("tensorrt_llm", &request)?;
        let context = floats(&answer["context_logits"])?;
        assert_eq!(context.len(), golden.ids.len() * VOCAB);
        let last = &context[context.len() - VOCAB..];
        assert_eq!(argmax(last), golden.greedy[0]);
        for (&id, &value) in golden.logits_last.ids.iter().zip(&golden.logits_last.values) {
            let error = (last[id as usize] - value).abs();
            assert!(error <= LOGIT_ERROR, "time {time}: logit of {id} differs by {error}");
        }
        let generated = floats(&answer["generation_logits"])?;
        assert_eq!(generated.len(), 4 * VOCAB);
        let best: Vec<u32> = generated.chunks(VOCAB).map(argmax).collect();
        assert_eq!(best, golden.greedy[..4]);
        assert_eq!(
            integers(&answer["output_ids"])?,
            golden.greedy[..4].iter().map(|&t| i64::from(t)).collect::<Vec<_>>()
        );
        assert_eq!(
            generated[..VOCAB],
            *last,
            "the first token is chosen from the prompt's last row"
        );
    }
    // What is wanted is more than is kept for one request.
    let many = with(endless("The capital of France is", 600), &more[1..]);
    let reply = client.post("/v2/models/ensemble/generate", many.to_string())?;
    assert_eq!(reply.status, 400);
    assert!(reply.error()?.contains("512"), "{reply:?}");
    Ok(())
}

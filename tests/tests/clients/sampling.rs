//! How tokens are chosen.

use serde_json::{Value, json};

use super::{endless, shared, with};

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

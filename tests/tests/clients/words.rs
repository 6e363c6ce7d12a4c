//! Words that end a text, that never come, and that come more or less often.

use serde_json::{Value, json};

use super::{endless, shared, with};

#[test]
fn a_stop_word_ends_whole_and_streamed_texts_alike() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let request = endless("The capital of France is", 40);
    let whole = client.generate(&request)?;
    // It begins anywhere and spans tokens; of several, the one that ends first counts.
    let middle = whole.char_indices().nth(30).map_or(0, |(at, _)| at);
    let piece = &whole[middle..middle + 9];
    let end = whole.find(piece).map_or(0, |at| at + piece.len());
    let stopped =
        with(request, &[("stop_words", json!(["never there", piece, &whole[end - 2..]]))]);
    assert_eq!(client.generate(&stopped)?, whole[..end], "at {piece:?}");
    assert_eq!(client.stream(&stopped)?.rest()?.concat(), whole[..end], "at {piece:?}");
    Ok(())
}

#[test]
fn a_bad_word_never_comes() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let request = endless("The capital of France is", 24);
    let free = client.generate(&request)?;
    assert!(free.starts_with(" Paris"), "{free:?}");
    let without = |words: Value| client.generate(&with(request.clone(), &[("bad_words", words)]));
    let other = without(json!([" Paris"]))?;
    assert!(!other.contains(" Paris"), "{other:?}");
    // Only the first word is another token without its space.
    assert_eq!(without(json!(["Paris"]))?, free);
    // A word of two tokens: one alone may come.
    let pair = without(json!([" Paris."]))?;
    assert!(pair.starts_with(" Paris") && !pair.contains(" Paris."), "{pair:?}");
    Ok(())
}

#[test]
fn a_bias_forces_or_forbids_a_word() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let request = endless("The capital of France is", 6);
    let biased = |words: Value, weights: Value| {
        let bias = [("embedding_bias_words", words), ("embedding_bias_weights", weights)];
        client.generate(&with(request.clone(), &bias))
    };
    assert_eq!(biased(json!([" London"]), json!([1000.0]))?, " London".repeat(6));
    let forbidden = biased(json!([" Paris"]), json!([-1000.0]))?;
    assert!(!forbidden.contains(" Paris"), "{forbidden:?}");
    // Weights of a token that comes twice add up.
    let none = biased(json!([" London", " London"]), json!([1000.0, -1000.0]))?;
    assert_eq!(none, client.generate(&request)?);
    Ok(())
}

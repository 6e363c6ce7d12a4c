//! Several texts for one prompt.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{endless, shared, with};

fn texts(answer: &Value) -> anyhow::Result<Vec<String>> {
    Ok(serde_json::from_value(answer["text_output"].clone())?)
}

#[test]
fn three_sequences_are_three_texts_of_one_seed() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let one = with(
        endless("Write a story about a lighthouse", 20),
        &[("top_k", json!(0)), ("seed", json!(11))],
    );
    let three = with(one.clone(), &[("num_return_sequences", json!(3))]);
    let whole = texts(&client.answer("ensemble", &three)?)?;
    let [first, second, third] = &*whole else { panic!("three texts: {whole:?}") };
    assert!(first != second && second != third && third != first, "{whole:?}");
    assert_eq!(texts(&client.answer("ensemble", &three)?)?, whole, "repeatable");
    assert_eq!(*first, client.generate(&one)?, "the first is the one that comes alone");

    let mut streamed = vec![String::new(); 3];
    let mut events = client.stream(&three)?;
    while let Some(event) = events.next_event()? {
        let index = event["sequence_index"].as_u64().context("whose event it is")?;
        streamed[index as usize] += event["text_output"].as_str().context("text")?;
    }
    assert_eq!(streamed, whole, "in pieces");

    let greedy = with(three, &[("top_k", json!(1))]);
    let alike = texts(&client.answer("ensemble", &greedy)?)?;
    assert!(alike.windows(2).all(|pair| pair[0] == pair[1]), "{alike:?}");
    Ok(())
}

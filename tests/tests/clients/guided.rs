//! Texts that must be like something, however hot they are sampled.

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use shardrun_tests::{Client, Setup, model, until};

use super::counting::nothing_is_left;
use super::{SOON, prompt, shared, with};

const MAX_TOKENS: usize = 56;
/// Of each of three guides.
const SAMPLES: u64 = 10;

/// What a text is like.
struct Guide {
    kind: &'static str,
    text: String,
    parses: fn(&str) -> anyhow::Result<()>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    name: String,
    age: u64,
    mood: String,
}

fn is_person(text: &str) -> anyhow::Result<()> {
    let person: Person = serde_json::from_str(text)?;
    ensure!((1..=12).contains(&person.name.chars().count()), "a name of 1 to 12 characters");
    ensure!(person.age <= 120, "an age up to 120");
    ensure!(["calm", "glad", "sad"].contains(&&*person.mood), "a mood that is allowed");
    Ok(())
}

/// `[A-Z][a-z]{2,8}-[0-9]{4}`.
fn is_label(text: &str) -> anyhow::Result<()> {
    let (word, number) = text.split_once('-').context("two parts")?;
    let lower = word.strip_prefix(|c: char| c.is_ascii_uppercase()).context("a capital")?;
    ensure!((2..=8).contains(&lower.len()) && lower.bytes().all(|b| b.is_ascii_lowercase()));
    ensure!(number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()));
    Ok(())
}

/// One to four numbers of one or two digits, with `+` or `*` between them, and an end.
fn is_sum(text: &str) -> anyhow::Result<()> {
    let sum = text.strip_suffix(" = ?").context("an end")?;
    let numbers: Vec<&str> = sum.split([' ']).collect();
    ensure!(numbers.len() % 2 == 1 && numbers.len() <= 7, "numbers and signs by turns");
    for (at, word) in numbers.iter().enumerate() {
        let digits = word.bytes().all(|b| b.is_ascii_digit()) && (1..=2).contains(&word.len());
        ensure!(if at % 2 == 0 { digits } else { ["+", "*"].contains(word) }, "{word:?}");
    }
    Ok(())
}

fn guides() -> [Guide; 3] {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "mood": {"enum": ["calm", "glad", "sad"]},
        },
        "required": ["name", "age", "mood"],
        "additionalProperties": false,
    });
    let sum = "root ::= number (\" \" sign \" \" number){0,3} \" = ?\"\n\
               number ::= [0-9] [0-9]?\nsign ::= \"+\" | \"*\"\n";
    [
        Guide { kind: "json_schema", text: person.to_string(), parses: is_person },
        Guide { kind: "regex", text: "[A-Z][a-z]{2,8}-[0-9]{4}".to_owned(), parses: is_label },
        Guide { kind: "ebnf_grammar", text: sum.to_owned(), parses: is_sum },
    ]
}

/// The text, and whether it ended before it had all the tokens that it may have.
fn sample(client: &Client, guide: &Guide, seed: u64) -> anyhow::Result<(String, bool)> {
    let hot = [
        ("temperature", json!(1.5)),
        ("top_k", json!(0)),
        ("seed", json!(seed)),
        ("return_log_probs", json!(true)),
        ("guided_decoding_guide_type", json!(guide.kind)),
        ("guided_decoding_guide", json!(guide.text)),
    ];
    let answer = client.answer("ensemble", &with(prompt("An example:\n", MAX_TOKENS), &hot))?;
    let text = answer["text_output"].as_str().context("text")?;
    let tokens = answer["output_log_probs"].as_array().context("log probabilities")?.len();
    Ok((text.to_owned(), tokens < MAX_TOKENS))
}

#[test]
fn every_hot_sample_that_ended_parses() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let deployment = Setup::new(&model)?.serve()?;
    let client = deployment.client()?;
    let guides = guides();
    let sampled = std::thread::scope(|scope| {
        let each = guides.iter().flat_map(|guide| (0..SAMPLES).map(move |seed| (guide, seed)));
        let start = |(guide, seed)| {
            let client = client.clone();
            (guide, seed, scope.spawn(move || sample(&client, guide, seed)))
        };
        let started: Vec<_> = each.map(start).collect();
        let end = |(guide, seed, thread): (_, _, std::thread::ScopedJoinHandle<'_, _>)| {
            anyhow::Ok((guide, seed, thread.join().expect("no panic")?))
        };
        started.into_iter().map(end).collect::<Result<Vec<(&Guide, u64, _)>, _>>()
    })?;
    for guide in &guides {
        let mut texts = Vec::new();
        for (_, seed, (text, ended)) in sampled.iter().filter(|(of, ..)| of.kind == guide.kind) {
            if *ended {
                (guide.parses)(text).with_context(|| format!("{}: {text:?}", guide.kind))?;
                texts.push(text);
            } else {
                println!("{}, seed {seed}: ended by length: {text:?}", guide.kind);
            }
        }
        assert!(texts.len() >= 8, "{}: {} of {SAMPLES} ended", guide.kind, texts.len());
        texts.sort();
        texts.dedup();
        assert!(texts.len() >= 5, "{}: hot samples differ: {texts:?}", guide.kind);
    }
    // What came in a crowd comes alone, too.
    for (guide, seed, crowded) in sampled.iter().filter(|(_, seed, _)| *seed == 3) {
        assert_eq!(sample(&client, guide, *seed)?, *crowded, "{}, seed {seed}", guide.kind);
    }
    until("everything to be free", SOON, || nothing_is_left(&client))?;
    Ok(())
}

#[test]
fn a_json_object_needs_no_schema() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let guided = [("guided_decoding_guide_type", json!("json"))];
    let text = client.generate(&with(prompt("A point as JSON: ", 64), &guided))?;
    assert!(text.trim_start().starts_with('{'), "{text:?}");
    // Greedy, this model may go on for long; what there is could still become JSON.
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => assert!(value.is_object(), "{text:?}"),
        Err(error) => assert!(error.is_eof(), "{error}: {text:?}"),
    }
    Ok(())
}

#[test]
fn guides_that_cannot_be_followed_are_refused() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    for (kind, guide, sentence) in [
        ("xml", "<a/>", "guided_decoding_guide_type is \"xml\": expected json, json_schema, regex"),
        ("json_schema", "{\"type\": 5}", "guided_decoding_guide"),
        ("regex", "(", "guided_decoding_guide"),
        ("ebnf_grammar", "root ::= missing", "guided_decoding_guide"),
    ] {
        let guided =
            [("guided_decoding_guide_type", json!(kind)), ("guided_decoding_guide", json!(guide))];
        let body = with(prompt("An example:", 8), &guided).to_string();
        let reply = client.post("/v2/models/ensemble/generate", body)?;
        assert_eq!(reply.status, 400, "{kind} {guide}: {reply:?}");
        assert!(reply.error()?.contains(sentence), "{kind} {guide}: {reply:?}");
    }
    Ok(())
}

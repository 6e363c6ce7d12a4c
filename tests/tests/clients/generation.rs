//! Tokens in, tokens out: what an independent reference generates from the same model.

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use shardrun_tests::{GenerationCase, LOGIT_ERROR, generation, golden};

use super::shared;
use super::tokens::{VOCAB, ask, floats, integers, rows};

/// Closer choices could go either way. Penalties stretch logits, so there is room.
const TIE: f32 = 4.0 * LOGIT_ERROR;
/// What log probabilities and scores may differ by.
const ERROR: f32 = 1e-3;

/// A case's inputs by the names and in the forms of `tensorrt_llm`.
fn inputs(case: &GenerationCase) -> anyhow::Result<Map<String, Value>> {
    let named = |(name, value): (&String, &Value)| {
        Ok(match name.as_str() {
            "length_penalty" => ("len_penalty".to_owned(), value.clone()),
            "bad_words" => ("bad_words_list".to_owned(), word_list(value)?),
            "embedding_bias" => (name.clone(), dense(value)?),
            _ => (name.clone(), value.clone()),
        })
    };
    case.inputs.iter().map(named).collect()
}

/// Tokens of all words, then where each word ends.
fn word_list(words: &Value) -> anyhow::Result<Value> {
    let words: Vec<Vec<i32>> = serde_json::from_value(words.clone())?;
    let tokens = words.concat();
    let mut ends: Vec<i32> = words
        .iter()
        .scan(0, |end, word| {
            *end += word.len() as i32;
            Some(*end)
        })
        .collect();
    ends.resize(tokens.len(), -1);
    Ok(json!([tokens, ends]))
}

/// A weight for each token of the vocabulary.
fn dense(pairs: &Value) -> anyhow::Result<Value> {
    let pairs: Vec<(usize, f32)> = serde_json::from_value(pairs.clone())?;
    let mut weights = vec![json!(0); VOCAB];
    for (token, weight) in pairs {
        weights[token] = json!(weight);
    }
    Ok(weights.into())
}

fn near(ours: f32, theirs: f32, what: &str) {
    assert!((ours - theirs).abs() <= ERROR, "{what}: {ours} and not {theirs}");
}

#[test]
fn what_the_reference_generates_is_generated() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let (golden, generation) = (golden()?, generation()?);
    assert_eq!(golden.model_sha256, generation.model_sha256);
    assert!(generation.cases.len() >= 24);
    for case in &generation.cases {
        let name = format!("prompt {}, {:?}", case.prompt, case.inputs);
        let closest = case.gap.iter().copied().fold(f32::INFINITY, f32::min);
        assert!(closest > TIE, "{name}: a difference of {closest} would prove nothing");
        let prompt = &golden.prompts[case.prompt].ids;
        let mut request = ask(prompt, generation.new_tokens);
        request["return_log_probs"] = json!(true);
        for (key, value) in inputs(case)? {
            request[key] = value;
        }
        let answer = client.answer("tensorrt_llm", &request)?;
        let lengths = integers(&answer["sequence_length"])?;
        let expected: Vec<i64> =
            case.sequences.iter().map(|sequence| sequence.tokens.len() as i64).collect();
        let tokens = rows(&answer["output_ids"], &lengths)?;
        for (ours, theirs) in tokens.iter().zip(&case.sequences) {
            assert_eq!(*ours, theirs.tokens, "{name}");
        }
        assert_eq!(lengths, expected, "{name}");

        let sums = floats(&answer["cum_log_probs"])?;
        for (sequence, &sum) in case.sequences.iter().zip(&sums) {
            if let Some(score) = sequence.score {
                // The end token counts, and is not among the tokens.
                let length = sequence.tokens.len() + usize::from(sequence.ended);
                near(sum / length as f32, score, &format!("{name}: score of a beam"));
            }
        }
        let [sequence] = &*case.sequences else { continue };
        let theirs = sequence.log_probs.as_ref().with_context(|| name.clone())?;
        let ours = floats(&answer["output_log_probs"])?;
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (step, (&ours, &theirs)) in ours.iter().zip(theirs).enumerate() {
            near(ours, theirs, &format!("{name}: log probability of token {step}"));
        }
        near(sums[0], ours.iter().sum(), &format!("{name}: sum of log probabilities"));
    }
    Ok(())
}

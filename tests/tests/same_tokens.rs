//! The tokens of the real model: against the reference, and the same however they come about.
//!
//! Tokens are compared by their numbers. Where two runs may differ by
//! rounding, as across `tp_size` or instruction sets, a prompt's first difference must be a near-tie:
//! the reference's two best logits there are closer than both errors together.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use shardrun_files::Gguf;
use shardrun_tests::{Client, Golden, LOGIT_ERROR, Setup, cpu_has, golden, model};
use shardrun_text::Tokenizer;

/// Tokens of each prompt.
const TOKENS: usize = 64;
/// Requests that run at a time.
const BATCH: usize = 17;
/// Requests that come and go between those that are compared.
const STRANGERS: u64 = 12;
/// How far arrivals are spread.
const ARRIVALS_MS: u64 = 1500;

/// The tokens after each prompt.
type Answers = Vec<Vec<u32>>;

fn request(prompt: &[u32]) -> Value {
    json!({"input_ids": prompt, "input_lengths": prompt.len(), "request_output_len": TOKENS,
           "exclude_input_in_output": true})
}

fn ask(client: &Client, prompt: &[u32]) -> anyhow::Result<Vec<u32>> {
    let answer = client.answer("tensorrt_llm", &request(prompt))?;
    let tokens: Vec<u32> = serde_json::from_value(answer["output_ids"].clone())
        .with_context(|| format!("no tokens in {answer}"))?;
    ensure!(tokens.len() == TOKENS, "{} tokens after {prompt:?}", tokens.len());
    Ok(tokens)
}

/// One prompt after the other, nothing beside it.
fn alone(client: &Client, golden: &Golden) -> anyhow::Result<Answers> {
    golden.prompts.iter().map(|prompt| ask(client, &prompt.ids)).collect()
}

/// The random numbers of Marsaglia, 2003: each run has the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// All prompts at random times, with strangers of other lengths that sample: they share every iteration
/// with up to 16 others, which join and leave.
fn among_others(client: &Client, golden: &Golden) -> anyhow::Result<Answers> {
    among(STRANGERS, client, golden)
}

fn among(strangers: u64, client: &Client, golden: &Golden) -> anyhow::Result<Answers> {
    let mut random = Random(0x5EED);
    std::thread::scope(|scope| {
        let strangers: Vec<_> = (0..strangers)
            .map(|stranger| {
                let delay = Duration::from_millis(random.below(ARRIVALS_MS));
                let length = 1 + random.below(60) as usize;
                let request = json!({
                    "text_input": "word ".repeat(length), "max_tokens": 4 + random.below(40),
                    "top_k": 0, "temperature": 1.5, "seed": stranger, "end_id": -1,
                });
                scope.spawn(move || {
                    std::thread::sleep(delay);
                    client.generate(&request)
                })
            })
            .collect();
        let prompts: Vec<_> = golden
            .prompts
            .iter()
            .map(|prompt| {
                let delay = Duration::from_millis(random.below(ARRIVALS_MS));
                scope.spawn(move || {
                    std::thread::sleep(delay);
                    ask(client, &prompt.ids)
                })
            })
            .collect();
        for stranger in strangers {
            stranger.join().expect("a client does not panic")?;
        }
        prompts.into_iter().map(|prompt| prompt.join().expect("a client does not panic")).collect()
    })
}

/// The reference's tokens, after the tokens that we make of each prompt.
fn reference(model: &Path, golden: &Golden) -> anyhow::Result<Answers> {
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(model)?)?;
    let tokens = golden.prompts.iter().map(|prompt| {
        let encoded = tokenizer.encode(&prompt.text, true)?;
        ensure!(encoded == prompt.ids, "{:?} has other tokens", prompt.text);
        Ok(prompt.greedy.clone())
    });
    tokens.collect()
}

/// Where the tokens after a prompt first differ.
fn first_difference(ours: &[u32], theirs: &[u32]) -> Option<usize> {
    ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs)
}

fn expect_same(what: &str, ours: &Answers, theirs: &Answers, golden: &Golden) {
    assert_eq!(ours.len(), theirs.len());
    for ((ours, theirs), prompt) in ours.iter().zip(theirs).zip(&golden.prompts) {
        let at = first_difference(ours, theirs);
        assert_eq!(at, None, "{what}, {:?}:\n{:?}\n{:?}", prompt.text, ours, theirs);
    }
}

fn expect_near_ties(what: &str, ours: &Answers, theirs: &Answers, golden: &Golden) {
    let mut different = 0;
    for ((ours, theirs), prompt) in ours.iter().zip(theirs).zip(&golden.prompts) {
        let Some(at) = first_difference(ours, theirs) else { continue };
        let gap = prompt.gap[at];
        assert!(
            gap < 2.0 * LOGIT_ERROR,
            "{what}: token {at} after {:?} is {}, not {}, and the gap there is {gap}",
            prompt.text,
            ours[at],
            theirs[at]
        );
        different += 1;
    }
    println!("{what}: {} prompts, {different} with a near-tie", ours.len());
}

fn setup(model: &Path, tp_size: usize) -> anyhow::Result<Setup> {
    Ok(Setup::new(model)?.exact().set("model.tp_size", tp_size).set("model.max_batch_size", BATCH))
}

#[test]
fn one_rank_gives_the_same_alone_and_among_others_and_with_any_threads() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let golden = golden()?;
    let reference = reference(&model, &golden)?;
    let deployment = setup(&model, 1)?.serve()?;
    let client = deployment.client()?;
    let one_thread = alone(&client, &golden)?;
    expect_near_ties("tp 1, one thread", &one_thread, &reference, &golden);
    let crowded = among_others(&client, &golden)?;
    expect_same("one thread, among others", &crowded, &one_thread, &golden);
    drop((client, deployment));

    let deployment = setup(&model, 1)?.set("model.threads", 2).serve()?;
    let client = deployment.client()?;
    expect_same("two threads", &alone(&client, &golden)?, &one_thread, &golden);
    let crowded = among_others(&client, &golden)?;
    expect_same("two threads, among others", &crowded, &one_thread, &golden);
    drop((client, deployment));

    // A prompt of 121 tokens comes in pieces of what others leave of 17 tokens.
    let deployment = setup(&model, 1)?.set("model.max_num_tokens", BATCH).serve()?;
    let client = deployment.client()?;
    let chunked = among_others(&client, &golden)?;
    expect_same("in chunks, among others", &chunked, &one_thread, &golden);
    Ok(())
}

#[test]
fn quantised_activations_give_the_same_alone_and_among_others() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let golden = golden()?;
    // As deployments are by default.
    let setup = |tp_size: usize, threads: usize| -> anyhow::Result<Setup> {
        let setup = Setup::new(&model)?.set("model.max_batch_size", BATCH);
        Ok(setup.set("model.tp_size", tp_size).set("model.threads", threads))
    };
    for tp_size in [1, 2] {
        let deployment = setup(tp_size, 1)?.serve()?;
        let client = deployment.client()?;
        let one_thread = alone(&client, &golden)?;
        let crowded = among_others(&client, &golden)?;
        expect_same(&format!("tp {tp_size}, among others"), &crowded, &one_thread, &golden);
        drop((client, deployment));
        let deployment = setup(tp_size, 2)?.set("model.max_num_tokens", BATCH).serve()?;
        let crowded = among_others(&deployment.client()?, &golden)?;
        expect_same("two threads, in chunks, among others", &crowded, &one_thread, &golden);
    }
    Ok(())
}

/// The tokens of some ranks, alone and among others, against the reference.
fn some_ranks(tp_size: usize, collectives: &str) -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let golden = golden()?;
    let reference = reference(&model, &golden)?;
    let deployment = setup(&model, tp_size)?.set("model.collectives", collectives).serve()?;
    let client = deployment.client()?;
    let crowded = among_others(&client, &golden)?;
    let what = format!("tp {tp_size}, collectives {collectives}");
    expect_near_ties(&what, &crowded, &reference, &golden);
    // With the longest prompt, for its several chunks among the others.
    for at in [0, 8, 17] {
        let alone = ask(&client, &golden.prompts[at].ids)?;
        assert_eq!(first_difference(&alone, &crowded[at]), None, "{what}, prompt {at} alone");
    }
    Ok(())
}

#[test]
fn two_ranks_give_the_reference_s_tokens() -> anyhow::Result<()> {
    some_ranks(2, "auto")
}

#[test]
fn two_ranks_over_mpi_give_the_reference_s_tokens() -> anyhow::Result<()> {
    some_ranks(2, "mpi")
}

#[test]
fn three_ranks_give_the_reference_s_tokens() -> anyhow::Result<()> {
    some_ranks(3, "auto")
}

#[test]
fn four_ranks_give_the_reference_s_tokens() -> anyhow::Result<()> {
    some_ranks(4, "auto")
}

#[test]
fn every_instruction_set_gives_the_reference_s_tokens() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    // The scalar kernels are slow: a few prompts are enough for them.
    for (isa, prompts, strangers) in
        [("scalar", 3, 0), ("avx2", 20, STRANGERS), ("avx512", 20, STRANGERS)]
    {
        if !cpu_has(isa) {
            println!("skipped: this machine has no {isa}");
            continue;
        }
        let mut golden = golden()?;
        golden.prompts.truncate(prompts);
        let deployment = setup(&model, 1)?.set("model.isa", isa).set("model.threads", 2).serve()?;
        let client = deployment.client()?;
        let said = format!("{isa} kernels");
        ensure!(deployment.stderr().contains(&said), "the log says which kernels compute");
        let ours = among(strangers, &client, &golden)?;
        expect_near_ties(isa, &ours, &reference(&model, &golden)?, &golden);
    }
    Ok(())
}

//! The same tokens, whatever the scheduler does: policies, chunks, pauses, and what the cache has.

use std::path::Path;

use anyhow::ensure;
use shardrun_tests::{Client, Golden, Setup, golden, model};
use shardrun_wire::{BeamSearch, Request, RequestId, Sampling, Search, SocketEngine};

use super::{Answer, ask, connect, run, setup};

/// Requests of every kind, some of which begin alike.
fn requests(golden: &Golden) -> Vec<Request> {
    let prompts = golden.prompts.iter().map(|prompt| prompt.ids.clone());
    let long = golden.prompts.iter().flat_map(|prompt| &prompt.ids).copied();
    let shared: Vec<u32> = long.take(90).collect();
    let prompts = prompts.take(6).flat_map(|prompt| {
        let after = [&shared[..], &prompt].concat();
        [prompt, after]
    });
    let sampled = Sampling { top_k: 0, top_p: 0.9, temperature: 1.3, ..Sampling::GREEDY };
    let with = |id: u64, prompt: Vec<u32>| {
        let mut request = Request::new(RequestId(id), prompt, 24 + 3 * (id as u32 % 5));
        request.sampling = match id % 6 {
            0 | 3 => Sampling::GREEDY,
            1 => Sampling { seed: id, ..sampled },
            2 => Sampling { seed: id, repetition_penalty: 1.2, min_p: 0.02, ..sampled },
            4 => Sampling { no_repeat_ngram_size: 2, presence_penalty: 0.5, ..Sampling::GREEDY },
            _ => Sampling { seed: id, frequency_penalty: 0.7, top_p_decay: 0.95, ..sampled },
        };
        request.search = match id {
            4 | 7 => Search::Sample { sequences: 3 },
            9 => Search::Beam(BeamSearch {
                width: 3,
                sequences: 3,
                length_penalty: 1.0,
                diversity_rate: 0.0,
                early_stopping: 0,
            }),
            _ => Search::ONE,
        };
        request.wanted.log_probs = id.is_multiple_of(2);
        request
    };
    (0..).zip(prompts).map(|(id, prompt)| with(id, prompt)).collect()
}

async fn one_by_one(engine: &SocketEngine, all: &[Request]) -> anyhow::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for request in all {
        answers.push(ask(engine, request.clone()).await?);
    }
    Ok(answers)
}

async fn together(engine: &SocketEngine, all: &[Request]) -> anyhow::Result<Vec<Answer>> {
    futures_util::future::try_join_all(all.iter().map(|request| ask(engine, request.clone()))).await
}

/// Answers to all requests at once, of another deployment; and what its metrics say.
fn answers(setup: Setup, all: &[Request]) -> anyhow::Result<(Vec<Answer>, Counts)> {
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    let answers = run(async {
        let engine = connect(&deployment).await?;
        // The second time the cache has what the first has left.
        let first = together(&engine, all).await?;
        let mut again = all.to_vec();
        again.iter_mut().for_each(|request| request.id.0 += 1000);
        let second = together(&engine, &again).await?;
        ensure!(first == second, "a second time they come otherwise");
        Ok(first)
    })?;
    Ok((answers, Counts::read(&client)?))
}

/// What a deployment has counted.
#[derive(Debug)]
struct Counts {
    paused: f64,
    reused: f64,
}

impl Counts {
    fn read(client: &Client) -> anyhow::Result<Self> {
        let metrics = client.metrics()?;
        let value = |name: &str| metrics.value(name, &[("model", "tensorrt_llm")]);
        Ok(Self {
            paused: value("shardrun_paused_requests_total")?,
            reused: value("shardrun_kv_cache_reused_blocks_total")?,
        })
    }
}

fn base(model: &Path) -> anyhow::Result<Setup> {
    Ok(setup(model)?.set("kv_cache.tokens_per_block", 16))
}

#[test]
fn policies_pauses_and_reuse_change_no_token() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let golden = golden()?;
    let all = requests(&golden);
    let expected = {
        let deployment = base(&model)?.set("kv_cache.enable_block_reuse", false).serve()?;
        run(async { one_by_one(&connect(&deployment).await?, &all).await })?
    };
    for (answer, request) in expected.iter().zip(&all) {
        let full = answer.tokens.values().all(|tokens| tokens.len() == request.max_tokens as usize);
        assert!(full, "{:?}", request.id);
        assert_eq!(answer.tokens.len(), request.search.sequences() as usize);
    }
    assert!(expected[4].tokens[&0] == expected[4].tokens[&1], "greedy ones are alike");
    assert_ne!(expected[7].tokens[&0], expected[7].tokens[&1]);

    for (what, change, holds) in changes() {
        let (answers, counts) = answers(change(base(&model)?), &all)?;
        for ((answer, expected), request) in answers.iter().zip(&expected).zip(&all) {
            assert_eq!(answer, expected, "{what}: {:?}", request.id);
        }
        assert!(holds(&counts), "{what}: {counts:?}");
        println!("{what}: the same tokens; {counts:?}");
    }
    Ok(())
}

/// A way to run the requests, and what must show in the counts if it had an effect.
type Change = (&'static str, fn(Setup) -> Setup, fn(&Counts) -> bool);

fn changes() -> [Change; 5] {
    [
        ("reuse", |setup| setup, |counts| counts.reused > 20.0),
        (
            "small chunks, equal progress, no partial reuse",
            |setup| {
                setup
                    .set("model.max_num_tokens", 33)
                    .set("model.context_chunking_policy", "equal_progress")
                    .set("kv_cache.enable_partial_reuse", false)
            },
            |counts| counts.reused > 20.0,
        ),
        (
            "max_utilization in a small cache",
            |setup| {
                setup
                    .set("model.batch_scheduler_policy", "max_utilization")
                    .set("kv_cache.max_tokens", 320)
                    .set("model.max_seq_len", 320)
            },
            |counts| counts.paused > 0.0,
        ),
        (
            "max_utilization in a small cache that forgets",
            |setup| {
                setup
                    .set("model.batch_scheduler_policy", "max_utilization")
                    .set("kv_cache.max_tokens", 320)
                    .set("model.max_seq_len", 320)
                    .set("kv_cache.enable_block_reuse", false)
            },
            |counts| counts.paused > 0.0 && counts.reused == 0.0,
        ),
        (
            "static_batch",
            |setup| {
                setup
                    .set("model.batch_scheduler_policy", "static_batch")
                    .set("model.max_batch_size", 5)
            },
            |counts| counts.paused == 0.0,
        ),
    ]
}

#[test]
fn every_type_of_cache_gives_the_same_tokens_alone_and_in_a_crowd() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let golden = golden()?;
    let all = requests(&golden);
    for dtype in ["bf16", "f16", "int8"] {
        let setup = || Ok::<_, anyhow::Error>(base(&model)?.set("kv_cache.dtype", dtype));
        let alone = {
            let deployment = setup()?.set("kv_cache.enable_block_reuse", false).serve()?;
            run(async { one_by_one(&connect(&deployment).await?, &all).await })?
        };
        let (crowd, _) = answers(setup()?.set("model.max_num_tokens", 40), &all)?;
        for ((crowd, alone), request) in crowd.iter().zip(&alone).zip(&all) {
            assert_eq!(crowd, alone, "{dtype}: {:?}", request.id);
        }
    }
    Ok(())
}

//! The socket itself: who may use it, what it refuses, and what happens when a client leaves.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use shardrun_tests::{Role, model, until};
use shardrun_wire::{
    EngineClient as _, EngineState, FinishReason, Output, Refused, Request, RequestId, Sampling,
};

use super::{ask, connect, run, setup};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_client_s_requests_end_with_it_and_the_engine_says_what_it_did() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let deployment = setup(&model)?
        .set("kv_cache.event_buffer_max_size", 1000)
        .set("metrics.request_stats_max_iterations", 100)
        .serve()?;
    let client = deployment.client()?;
    let socket = deployment.run_dir()?.join("engine");
    assert_eq!(socket.metadata()?.permissions().mode() & 0o777, 0o600);
    let used = || {
        let label = [("model", "tensorrt_llm"), ("kv_cache_block_type", "used")];
        client.metrics()?.value("nv_trt_llm_kv_cache_block_metrics", &label)
    };
    run(async {
        let leaving = connect(&deployment).await?;
        let endless = |id| Request::new(RequestId(id), vec![5; 40], 900);
        let mut streams = Vec::new();
        for id in 1..=3 {
            streams.push(leaving.submit(endless(id)).await?);
        }
        for stream in &mut streams {
            let output = stream.next().await.context("a first output")?;
            assert!(matches!(output, Output::Tokens(_)), "{output:?}");
        }
        assert!(used()? > 0.0);
        drop((streams, leaving));
        tokio::task::spawn_blocking(|| ()).await?;
        Ok(())
    })?;
    until("the blocks of a client that left to be free", SOON, || Ok(used()? == 0.0))?;

    run(async {
        let engine = connect(&deployment).await?;
        let limits = engine.limits().context("limits")?;
        assert_eq!((limits.max_seq_len, limits.vocab_size), (1024, 49152));
        let answer = ask(&engine, Request::new(RequestId(1), vec![9; 70], 5)).await?;
        assert_eq!(answer.reasons[&0], FinishReason::Length);

        let iterations = engine.take_iterations().await;
        let last = iterations.last().context("iterations")?;
        assert_eq!(last.kv_cache_stats.context("kv")?.tokens_per_block, 32);
        assert!(iterations.iter().any(|stats| stats.num_new_active_requests == 1));
        let requests = iterations.iter().filter_map(|stats| stats.request_stats.as_ref());
        assert!(requests.flatten().any(|request| request.scheduled));
        assert!(engine.take_iterations().await.is_empty(), "each is given once");
        let events = engine.take_kv_events().await;
        let ids: Vec<u64> = events.iter().map(|event| event.event_id).collect();
        assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>());
        assert!(ids.len() >= 2, "{events:?}");
        Ok(())
    })
}

#[test]
fn what_can_t_be_run_is_refused_with_its_name_value_and_limit() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let deployment = setup(&model)?
        .set("kv_cache.max_tokens", 512)
        .set("model.max_seq_len", 500)
        .set("model.max_batch_size", 4)
        .serve()?;
    run(async {
        let engine = connect(&deployment).await?;
        let request = || Request::new(RequestId(1), vec![5; 40], 10);
        let sampled = |sampling| Request { sampling, ..request() };
        let greedy = Sampling::GREEDY;
        let refusals = [
            (
                sampled(Sampling { temperature: 0.0, ..greedy }),
                "temperature is 0: it must be above 0",
            ),
            (sampled(Sampling { min_p: 1.5, ..greedy }), "min_p is 1.5: it must be from 0 to 1"),
            (
                Request { prompt: vec![49152], ..request() },
                "prompt is token 49152: token ids are below 49152",
            ),
            (Request { max_tokens: 0, ..request() }, "max_tokens is 0: at least 1 is needed"),
            (Request { priority: 2.0, ..request() }, "priority is 2: it must be from 0 to 1"),
            (
                Request { search: shardrun_wire::Search::Sample { sequences: 5 }, ..request() },
                "num_return_sequences is 5: 1 to 4 are allowed (model.max_batch_size)",
            ),
            (
                Request { max_tokens: 470, ..request() },
                "the prompt has 40 tokens and max_tokens is 470: together 10 more than the \
                 context of 500 tokens",
            ),
            (
                Request {
                    search: shardrun_wire::Search::Sample { sequences: 4 },
                    max_tokens: 200,
                    ..request()
                },
                "a prompt of 40 tokens and 4 sequence(s) of max_tokens 200 need 928 tokens of KV \
                 cache: 416 more than the whole cache of 512 tokens (kv_cache.max_tokens)",
            ),
        ];
        for (request, message) in refusals {
            let refused = engine.submit(request).await.err().context(message)?;
            assert_eq!(refused.to_string(), message);
        }
        // A request that never starts before its time is over, and one that takes too long.
        let mut slow = Request::new(RequestId(2), vec![5; 40], 400);
        slow.timeout = Some(Duration::from_millis(300));
        let answer = ask(&engine, slow).await?;
        assert_eq!(answer.reasons[&0], FinishReason::TimedOut);
        assert!(answer.tokens[&0].len() < 400);

        deployment.signal(Role::Launcher, Signal::SIGTERM)?;
        until("the engine to be gone", SOON, || {
            Ok(matches!(engine.state(), EngineState::Draining | EngineState::Stopped))
        })?;
        let refused = engine.submit(request()).await.err().context("refused")?;
        assert!(matches!(refused, Refused::Draining | Refused::Unreachable { .. }), "{refused}");
        Ok(())
    })
}

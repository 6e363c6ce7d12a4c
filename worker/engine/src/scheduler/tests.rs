//! Each test drives the scheduler with a model of an engine: what is sampled is a function of the sequence's
//! tokens, so whatever happens on the way, the same requests must give the same tokens.

mod model;
mod pace;
mod properties;

use shardrun_wire::{Resumed, RetainedRange, RetentionPriority, Search, Wanted};

use super::*;
use crate::plan::Rows;
use crate::sampling::Sampled;
use model::{Engine, config, ids, request};

#[test]
fn generating_sequences_come_before_prompts_and_prompts_go_in_chunks() {
    let mut engine = Engine::new(SchedulerConfig { max_num_tokens: 20, ..config() });
    engine.add(request(1, 4, 10));
    engine.step();
    engine.add(request(2, 50, 2));
    let mut chunks = Vec::new();
    while !engine.scheduler.is_idle() {
        let plan = engine.step().unwrap();
        chunks.push(plan.sequences.iter().map(|s| (s.position, s.tokens)).collect::<Vec<_>>());
    }
    // 19 tokens are left beside the first one's.
    assert_eq!(chunks[0], [(4, 1), (0, 19)]);
    assert_eq!(chunks[1], [(5, 1), (19, 19)]);
    assert_eq!(chunks[2], [(6, 1), (38, 12)]);
    assert_eq!(chunks[3], [(7, 1), (50, 1)]);
    assert_eq!(engine.tokens(1).len(), 10);
    assert_eq!(engine.tokens(2).len(), 2);
}

/// How far each of four prompts has come after 20 iterations of so many tokens.
fn four_prompts(chunking: ChunkingPolicy, budget: usize) -> Vec<u64> {
    let config = SchedulerConfig { max_num_tokens: budget, chunking, ..config().with_blocks(512) };
    let mut engine = Engine::new(config.with_reuse(false));
    for id in 0..4 {
        engine.add(request(id, 960, 1));
    }
    for _ in 0..20 {
        assert_eq!(engine.step().unwrap().tokens.len(), budget, "no token is left out");
    }
    let mut stats = engine.scheduler.request_stats();
    stats.sort_by_key(|stats| stats.id);
    stats.iter().map(|stats| stats.context_prefill_position).collect()
}

#[test]
fn equal_progress_gives_each_prompt_as_much_as_the_others_however_little_that_is() {
    use ChunkingPolicy::{EqualProgress, FirstComeFirstServed};
    // Blocks have 8.
    for (budget, each) in [(3, 15), (7, 35), (16, 80), (30, 150)] {
        assert_eq!(four_prompts(EqualProgress, budget), [each; 4], "{budget} tokens");
    }
    assert_eq!(four_prompts(FirstComeFirstServed, 30), [600, 0, 0, 0]);
}

#[test]
fn equal_progress_gives_what_one_prompt_leaves_to_the_others() {
    let chunking = ChunkingPolicy::EqualProgress;
    let mut engine = Engine::new(SchedulerConfig { max_num_tokens: 40, chunking, ..config() });
    for (id, prompt) in [(1, 30), (2, 6), (3, 30)] {
        engine.add(request(id, prompt, 1));
    }
    let tokens = |plan: &IterationPlan| -> Vec<u32> {
        plan.sequences.iter().map(|sequence| sequence.tokens).collect()
    };
    assert_eq!(tokens(&engine.step().unwrap()), [17, 6, 17]);
    assert_eq!(tokens(&engine.step().unwrap()), [13, 13]);
}

#[test]
fn a_lone_prompt_takes_all_that_a_budget_gives() {
    for budget in [8, 24, 31, 63] {
        let prefill = PrefillBudget::Tokens(budget);
        let mut large = config().with_blocks(256);
        large.kv_cache.tokens_per_block = 32;
        let mut engine = Scheduler::new(SchedulerConfig { prefill, max_num_tokens: 512, ..large });
        let mut events = Vec::new();
        let mut step = |engine: &mut Scheduler, token: Option<u32>| {
            let plan = engine.schedule(Duration::ZERO, &mut events).unwrap();
            let chunk = plan.sequences.last().unwrap().tokens as usize;
            let mut drawn = Drawn::default();
            drawn.samples.extend(token.map(|token| Some(Sampled { token, log_prob: 0.0 })));
            engine.complete(&drawn, &mut events);
            chunk
        };
        engine.add(request(1, 9, 40), Duration::ZERO);
        step(&mut engine, Some(7));
        engine.add(request(2, 600, 1), Duration::ZERO);
        for _ in 0..9 {
            assert_eq!(step(&mut engine, Some(7)), budget);
        }
    }
}

#[test]
fn chunks_shorter_than_a_block_still_get_on() {
    let mut engine =
        Engine::new(SchedulerConfig { max_batch_size: 3, max_num_tokens: 3, ..config() });
    engine.add(request(1, 20, 3));
    engine.add(request(2, 20, 3));
    engine.run();
    assert_eq!((engine.tokens(1).len(), engine.tokens(2).len()), (3, 3));
}

#[test]
fn guaranteed_no_evict_starts_what_can_end_and_keeps_the_order() {
    // Each takes 4 of 8 blocks: 25 + 8 - 1 = 32 tokens.
    let mut engine = Engine::new(SchedulerConfig { ..config().with_blocks(8) });
    for id in 1..=3 {
        engine.add(request(id, 25, 8));
    }
    engine.add(request(4, 1, 1));
    engine.step();
    assert_eq!((engine.scheduler.stats().running, engine.scheduler.stats().waiting), (2, 2));
    engine.run();
    assert_eq!(engine.scheduler.stats().pauses, 0);
    assert_eq!(engine.started, ids([1, 2, 3, 4]));
}

#[test]
fn max_utilization_pauses_the_one_that_started_last_and_it_gets_the_same_tokens() {
    let alone = model::alone(&[request(1, 20, 30), request(2, 21, 30), request(3, 22, 30)]);
    let capacity = CapacityPolicy::MaxUtilization;
    for reuse in [true, false] {
        let config = SchedulerConfig { capacity, ..config().with_blocks(9).with_reuse(reuse) };
        let mut engine = Engine::new(config);
        for id in 1..=3 {
            engine.add(request(id, 19 + id as usize, 30));
        }
        engine.run();
        assert!(engine.scheduler.stats().pauses > 0);
        assert_eq!(engine.ended[0].0, RequestId(1), "the first is never paused");
        for id in 1..=3 {
            assert_eq!(engine.tokens(id), alone[&RequestId(id)], "request {id}");
        }
    }
}

#[test]
fn a_static_batch_starts_when_the_last_one_has_ended() {
    let capacity = CapacityPolicy::StaticBatch;
    let mut engine = Engine::new(SchedulerConfig { capacity, max_batch_size: 2, ..config() });
    for (id, tokens) in [(1, 2), (2, 6), (3, 1)] {
        engine.add(request(id, 3, tokens));
    }
    while engine.scheduler.stats().running != 1 || engine.ended.is_empty() {
        engine.step();
    }
    assert_eq!(engine.scheduler.stats().waiting, 1, "a place is free and stays so");
    engine.run();
    assert_eq!(engine.started, ids([1, 2, 3]));
}

#[test]
fn higher_priorities_start_first() {
    let mut engine = Engine::new(SchedulerConfig { max_batch_size: 1, ..config() });
    for (id, priority) in [(1, 0.5), (2, 0.1), (3, 0.9), (4, 0.5)] {
        engine.add(Request { priority, ..request(id, 3, 1) });
    }
    engine.run();
    assert_eq!(engine.started, ids([3, 1, 4, 2]));
}

#[test]
fn times_run_out_in_the_queue_and_on_the_way() {
    let second = Duration::from_secs(1);
    let queue_timeout = Some(2 * second);
    let mut engine = Engine::new(SchedulerConfig { max_batch_size: 1, queue_timeout, ..config() });
    engine.add(Request { timeout: Some(5 * second), ..request(1, 9, 100) });
    engine.add(request(2, 3, 1));
    engine.step();
    engine.now = 3 * second;
    engine.add(Request { timeout: Some(second), ..request(3, 3, 1) });
    engine.step();
    assert_eq!(engine.reason(2), Some(FinishReason::Expired));
    engine.now = 4 * second;
    engine.step();
    assert_eq!(engine.reason(3), Some(FinishReason::TimedOut));
    assert_eq!(engine.reason(1), None);
    engine.now = 5 * second;
    assert!(engine.step().is_none());
    assert_eq!(engine.reason(1), Some(FinishReason::TimedOut));
    engine.expect_all_free();
}

#[test]
fn a_shared_prefix_is_computed_once_even_by_requests_that_come_together() {
    let mut engine = Engine::new(config());
    for id in 1..=3 {
        let mut request = request(id, 0, 4);
        request.prompt = (0..20).chain([100 + id as u32; 5]).collect();
        engine.add(request);
    }
    let plan = engine.step().unwrap();
    assert_eq!(plan.sequences.len(), 1, "the others wait for the first one's blocks");
    let plan = engine.step().unwrap();
    let positions: Vec<u32> = plan.sequences.iter().map(|sequence| sequence.position).collect();
    // Two blocks of 8 in whole, and 4 tokens of the third, which are copied.
    assert_eq!(positions, [25, 20, 20]);
    assert_eq!(plan.copies.len(), 2);
    engine.run();
    let stats = engine.scheduler.stats();
    assert_eq!((stats.counts.reused, stats.reused_tokens), (4, 40));
    assert_eq!(stats.counts.missed, 3 + 1 + 1);
    assert_eq!(stats.counts.alloc_total, stats.counts.alloc_new + stats.counts.reused);
}

#[test]
fn salts_keep_tenants_apart() {
    let mut engine = Engine::new(config());
    for (id, salt) in [(1, None), (2, Some("a")), (3, Some("a")), (4, Some("b"))] {
        let cache_salt = salt.map(str::to_owned);
        engine.add(Request { cache_salt, prompt: (0..20).collect(), ..request(id, 0, 1) });
        engine.run();
    }
    assert_eq!(engine.scheduler.stats().counts.reused, 2, "the third finds the second's");
}

#[test]
fn return_sequences_share_the_prompt_and_copy_on_write() {
    let mut engine = Engine::new(config());
    let mut request = request(1, 20, 6);
    request.search = Search::Sample { sequences: 3 };
    engine.add(request);
    engine.step();
    // Three blocks of the prompt, and nothing else yet.
    assert_eq!(engine.used(), 3);
    let plan = engine.step().unwrap();
    assert_eq!(plan.sequences.len(), 3);
    assert_eq!(plan.copies.len(), 2, "the last one has the block for itself");
    assert_eq!(engine.used(), 3 + 2);
    engine.run();
    let all: Vec<_> = (0..3).map(|sequence| engine.sequence(1, sequence)).collect();
    assert!(all.iter().all(|tokens| tokens.len() == 6));
    assert!(all[0] != all[1] && all[1] != all[2]);
    engine.expect_all_free();
}

#[test]
fn stop_words_end_a_sequence_and_stay_in_it() {
    let mut alone = Engine::new(config());
    alone.add(request(1, 5, 10));
    alone.run();
    let tokens = alone.tokens(1);
    let mut engine = Engine::new(config());
    engine.add(Request { stop_words: vec![vec![999], tokens[3..5].to_vec()], ..request(1, 5, 10) });
    engine.run();
    assert_eq!(engine.tokens(1), tokens[..5]);
    assert_eq!(engine.reason(1), Some(FinishReason::StopWords));
    let mut engine = Engine::new(config());
    engine.add(Request { end_id: Some(tokens[3]), ..request(1, 5, 10) });
    engine.run();
    assert_eq!(engine.tokens(1), tokens[..3]);
    assert_eq!(engine.reason(1), Some(FinishReason::EndId));
}

#[test]
fn a_request_goes_on_where_another_engine_has_ended() {
    for sequences in [1, 3] {
        let mut request = request(1, 13, 9);
        request.search = Search::Sample { sequences };
        let mut whole = Engine::new(config());
        whole.add(request.clone());
        whole.run();
        let tokens = |engine: &Engine, n: u32| engine.sequence(1, n);
        // The first has ended, another has none yet.
        let had = |n: u32| [9, 0, 4][n as usize];
        let mut resumed = request.clone();
        let part = |n| tokens(&whole, n)[..if sequences == 1 { 5 } else { had(n) }].to_vec();
        resumed.resume = (0..sequences)
            .map(|n| Resumed { tokens: part(n), finished: part(n).len() == 9 })
            .collect();
        for reuse in [true, false] {
            let mut engine = Engine::new(config().with_reuse(reuse));
            engine.add(resumed.clone());
            engine.run();
            for n in 0..sequences {
                let all = [part(n), tokens(&engine, n)].concat();
                assert_eq!(all, tokens(&whole, n), "sequence {n} of {sequences}");
            }
            engine.expect_all_free();
        }
    }
}

#[test]
fn context_logits_come_for_every_prompt_token_once() {
    let capacity = CapacityPolicy::MaxUtilization;
    let config = SchedulerConfig { capacity, max_num_tokens: 16, ..config().with_blocks(9) };
    let mut engine = Engine::new(config);
    engine.add(request(1, 20, 40));
    engine.add(Request {
        wanted: Wanted { context_logits: true, ..Wanted::default() },
        ..request(2, 20, 30)
    });
    let mut rows = Vec::new();
    while !engine.scheduler.is_idle() {
        let plan = engine.step().unwrap();
        let all = plan.sequences.iter().filter(|sequence| sequence.logits == Rows::All).count();
        assert!(all <= 1);
        for draw in &engine.drew {
            if let Draw::Context { rows: count, position, .. } = *draw {
                rows.extend(position..position + count);
            }
        }
    }
    assert!(engine.scheduler.stats().pauses > 0);
    assert_eq!(rows, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_window_lets_blocks_go_and_the_request_ends_in_a_small_cache() {
    let attention_window = Some(16);
    let config = SchedulerConfig { attention_window, max_num_tokens: 8, ..config().with_blocks(5) };
    let mut engine = Engine::new(config);
    engine.add(request(1, 60, 60));
    let mut most = 0;
    while !engine.scheduler.is_idle() {
        engine.step();
        most = most.max(engine.used());
    }
    assert_eq!(engine.tokens(1).len(), 60);
    assert!(most <= 5, "{most}");
    engine.expect_all_free();
}

#[test]
fn retained_blocks_outlive_others() {
    let mut engine = Engine::new(config().with_blocks(8));
    let mut dear = request(1, 0, 1);
    dear.prompt = (0..17).collect();
    dear.retention.ranges = vec![RetainedRange {
        start: 0,
        end: None,
        priority: RetentionPriority(90),
        duration: Some(Duration::from_secs(10)),
    }];
    engine.add(dear.clone());
    engine.run();
    let others = |engine: &mut Engine, first: u64| {
        for id in first..first + 3 {
            engine.add(request(id, 47, 1));
            engine.run();
        }
    };
    others(&mut engine, 10);
    let before = engine.scheduler.stats().counts.reused;
    engine.add(Request { id: RequestId(3), ..dear.clone() });
    engine.run();
    assert!(engine.scheduler.stats().counts.reused > before, "they were kept");
    // When the time is over they are as cheap as any, and were used least recently.
    engine.now = Duration::from_secs(20);
    others(&mut engine, 20);
    let before = engine.scheduler.stats().counts.reused;
    engine.add(Request { id: RequestId(5), ..dear });
    engine.run();
    assert_eq!(engine.scheduler.stats().counts.reused, before);
}

#[test]
fn a_cancelled_request_leaves_its_blocks_to_the_next_plan() {
    let mut engine = Engine::new(config().with_blocks(4));
    engine.add(request(1, 25, 8));
    engine.add(request(2, 25, 8));
    engine.step();
    assert_eq!(engine.scheduler.stats().waiting, 1);
    engine.cancel(1);
    assert_eq!(engine.reason(1), Some(FinishReason::Cancelled));
    let plan = engine.step().unwrap();
    assert_eq!((plan.sequences[0].position, plan.sequences[0].kept_blocks), (0, 0));
    engine.cancel(7);
    engine.cancel(2);
    engine.expect_all_free();
}

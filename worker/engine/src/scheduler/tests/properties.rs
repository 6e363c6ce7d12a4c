//! Thousands of random arrivals, cancels and sizes: after each step the books balance, and at the end
//! every request that was left alone has the tokens that it gets alone.

use proptest::prelude::*;
use shardrun_wire::{BeamSearch, RequestId, Search};

use super::model::{Engine, config, request};
use super::*;

/// A request that arrives, and what becomes of it.
#[derive(Clone, Debug)]
struct Arrival {
    at: usize,
    request: Request,
    cancelled_at: Option<usize>,
}

fn search() -> impl Strategy<Value = Search> {
    prop_oneof![
        4 => Just(Search::ONE),
        1 => (2u32..4).prop_map(|sequences| Search::Sample { sequences }),
        1 => (2u32..4, -1f32..1.5, 0i32..3).prop_map(|(width, length_penalty, early_stopping)| {
            let diversity_rate = 0.0;
            Search::Beam(BeamSearch {
                width, sequences: width, length_penalty, diversity_rate, early_stopping,
            })
        }),
    ]
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let one = (
        0usize..60,
        prop_oneof![3 => Just(None), 1 => (0usize..40).prop_map(Some)],
        (1usize..40, 1u32..30, 0u32..3, prop::option::of(0u8..2)),
        search(),
        (0f32..=1.0, prop::bool::weighted(0.1), prop::option::weighted(0.3, 0u32..500)),
    );
    let one = one.prop_map(|(at, cancelled_at, sizes, search, (priority, logits, end_id))| {
        let (prompt, max_tokens, shared, salt) = sizes;
        let mut request = request(0, prompt, max_tokens);
        // Prompts of a few kinds, so that many begin alike.
        request.prompt = (0..prompt as u32).map(|at| at * 7 + shared * (at / 11)).collect();
        request.search = search;
        request.priority = priority;
        request.end_id = end_id;
        request.cache_salt = salt.map(|salt| salt.to_string());
        request.wanted.context_logits = logits;
        Arrival { at, request, cancelled_at: cancelled_at.map(|after| at + after) }
    });
    prop::collection::vec(one, 1..40).prop_map(|mut arrivals| {
        for (id, arrival) in arrivals.iter_mut().enumerate() {
            arrival.request.id = RequestId(id as u64);
        }
        arrivals
    })
}

fn configs() -> impl Strategy<Value = SchedulerConfig> {
    use CapacityPolicy::{GuaranteedNoEvict, MaxUtilization, StaticBatch};
    use ChunkingPolicy::{EqualProgress, FirstComeFirstServed};
    (
        prop_oneof![Just(GuaranteedNoEvict), Just(MaxUtilization), Just(StaticBatch)],
        prop_oneof![Just(EqualProgress), Just(FirstComeFirstServed)],
        prop_oneof![Just(PrefillBudget::Auto), (1usize..60).prop_map(PrefillBudget::Tokens)],
        // The largest request takes 5 blocks of prompt, and 3 times as much beyond it.
        (30u32..60, 4usize..9, 9usize..50),
        (prop::bool::ANY, prop::bool::ANY, prop::option::weighted(0.3, 1usize..30)),
    )
        .prop_map(
            |(capacity, chunking, prefill, sizes, (reuse, partial_reuse, attention_window))| {
                let (blocks, max_batch_size, max_num_tokens) = sizes;
                let mut config = config().with_blocks(blocks).with_reuse(reuse);
                config.kv_cache.partial_reuse = partial_reuse;
                SchedulerConfig {
                    capacity,
                    chunking,
                    prefill,
                    max_batch_size,
                    max_num_tokens,
                    attention_window,
                    ..config
                }
            },
        )
}

/// What every sequence of a request gets when nothing else is there, in an engine with the same window.
fn alone(request: &Request, window: Option<usize>) -> Vec<Vec<u32>> {
    let mut engine =
        Engine::new(SchedulerConfig { attention_window: window, ..config().with_reuse(false) });
    engine.add(request.clone());
    engine.run();
    let sequences = 0..request.search.sequences();
    sequences.map(|sequence| engine.sequence(request.id.0, sequence)).collect()
}

fn check_books(engine: &Engine) {
    let scheduler = &engine.scheduler;
    let mut holders = vec![0u32; scheduler.cache.kv.total()];
    let mut slots: Vec<u32> = scheduler.free_slots.iter().map(|slot| slot.index).collect();
    for group in &scheduler.running {
        for sequence in &group.sequences {
            for block in &sequence.blocks[sequence.left..] {
                holders[block.0 as usize] += 1;
            }
            slots.extend(sequence.slot.iter().map(|slot| slot.index));
            assert!(sequence.computed <= sequence.tokens.len());
        }
    }
    // No block is lost, owned by nobody who knows, or referenced by nobody.
    for (block, &count) in holders.iter().enumerate() {
        assert_eq!(scheduler.cache.kv.holders(crate::kv::BlockId(block as u32)), count);
    }
    let held = holders.iter().filter(|&&count| count > 0).count();
    assert_eq!(held, engine.used());
    slots.sort_unstable();
    assert_eq!(slots, (0..scheduler.config.max_batch_size as u32).collect::<Vec<_>>());
    let promised: usize = scheduler.running.iter().map(|group| group.promised).sum();
    assert_eq!(scheduler.cache.kv.available() + promised, scheduler.cache.kv.free());
}

/// From nothing to seconds, whatever the iteration does.
fn any_time(step: u64, _: SchedulerStats) -> Duration {
    let mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Duration::from_nanos(mixed >> (30 + mixed % 34))
}

fn drive(config: SchedulerConfig, arrivals: Vec<Arrival>) {
    let mut engine = Engine::new(config);
    engine.time = any_time;
    let fits = |request: &Request| {
        most_blocks(request, &config) <= config.kv_cache.blocks as usize
            && request.search.width() as usize <= config.max_batch_size
    };
    let arrivals: Vec<Arrival> = arrivals.into_iter().filter(|a| fits(&a.request)).collect();
    let last = arrivals.iter().map(|arrival| arrival.at).max().unwrap_or(0);
    let mut step = 0;
    while step <= last || !engine.scheduler.is_idle() {
        assert!(step < 20_000, "no end: {:?}", engine.scheduler.stats());
        for arrival in &arrivals {
            if arrival.at == step {
                engine.add(arrival.request.clone());
            }
            if arrival.cancelled_at == Some(step) {
                engine.cancel(arrival.request.id.0);
                check_books(&engine);
            }
        }
        let planned = engine.step().is_some();
        assert!(planned || engine.scheduler.is_idle(), "nobody gets on");
        check_books(&engine);
        step += 1;
    }
    engine.expect_all_free();
    for Arrival { request, .. } in &arrivals {
        let alone = alone(request, config.attention_window);
        for (sequence, alone) in (0..).zip(&alone) {
            let tokens = engine.sequence(request.id.0, sequence);
            match &engine.reasons[&(request.id, sequence)] {
                FinishReason::Cancelled => assert!(alone.starts_with(&tokens)),
                _ => assert_eq!(&tokens, alone, "{:?} {sequence}", request.id),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::soak::cases(200), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_comes_every_block_is_accounted_for_and_every_token_the_same(
        config in configs(),
        arrivals in arrivals(),
    ) {
        drive(config, arrivals);
    }
}

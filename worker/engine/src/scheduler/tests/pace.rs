//! Clients that come again and again, on a machine whose iterations take a known time: what they see of
//! prompts beside them.

use super::model::{Engine, config, request};
use super::*;

const CLIENTS: usize = 32;

/// A time, a fifth more or less.
fn about(step: u64, microseconds: usize) -> Duration {
    let mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Duration::from_micros(microseconds as u64 * (800 + mixed % 401) / 1000)
}

/// Two cores with a small model: 3 ms and what the rows take.
fn two_cores(step: u64, planned: SchedulerStats) -> Duration {
    about(step, 3000 + 375 * planned.generation_tokens + 500 * planned.context_tokens)
}

fn engine(prefill: PrefillBudget) -> Engine {
    engine_with(prefill, false)
}

fn engine_with(prefill: PrefillBudget, reuse: bool) -> Engine {
    let config = SchedulerConfig {
        max_batch_size: CLIENTS,
        max_num_tokens: 512,
        prefill,
        ..config().with_blocks(4096).with_reuse(reuse)
    };
    let mut engine = Engine::new(config);
    engine.time = two_cores;
    engine
}

/// What clients see.
#[derive(Debug)]
struct Seen {
    tokens_a_second: f64,
    /// The longest wait for a first token.
    first: Duration,
    /// Times between tokens, the shortest first.
    gaps: Vec<Duration>,
}

impl Seen {
    fn percentile(&self, percent: usize) -> Duration {
        self.gaps[self.gaps.len() * percent / 100]
    }

    fn stalls(&self) -> bool {
        self.percentile(99) > 3 * self.percentile(50)
    }
}

/// Every client asks so many times, the next time when it has its answer.
fn serve(prefill: PrefillBudget, times: usize, prompt: usize, tokens: u32) -> Seen {
    let mut engine = engine(prefill);
    let most = (CLIENTS * times) as u64;
    // When each request came, or had its last token, and how many it has.
    let mut last: Vec<(Duration, usize)> = Vec::new();
    let mut seen = Seen { tokens_a_second: 0.0, first: Duration::ZERO, gaps: Vec::new() };
    loop {
        let ended = engine.ended.len();
        while last.len() < most as usize && last.len() < ended + CLIENTS {
            engine.add(request(last.len() as u64, prompt, tokens));
            last.push((engine.now, 0));
        }
        if engine.step().is_none() {
            break;
        }
        for (id, (at, had)) in last.iter_mut().enumerate() {
            let has = engine.tokens(id as u64).len();
            if has > *had {
                let gap = engine.now - *at;
                match *had {
                    0 => seen.first = seen.first.max(gap),
                    _ => seen.gaps.push(gap),
                }
                (*at, *had) = (engine.now, has);
            }
        }
    }
    engine.expect_all_free();
    seen.gaps.sort_unstable();
    seen.tokens_a_second = most as f64 * f64::from(tokens) / engine.now.as_secs_f64();
    seen
}

#[test]
fn prompts_do_not_stall_those_who_generate_and_cost_little_of_the_rate() {
    for (prompt, tokens) in [(128, 64), (300, 40), (40, 100)] {
        let free = serve(PrefillBudget::Tokens(usize::MAX), 4, prompt, tokens);
        assert!(free.stalls(), "the test would show nothing: {prompt} {:?}", free.percentile(50));
        let paced = serve(PrefillBudget::Auto, 4, prompt, tokens);
        let (half, most) = (paced.percentile(50), paced.percentile(99));
        assert!(!paced.stalls(), "prompts of {prompt}: {half:?}, {most:?}");
        let rates = (paced.tokens_a_second, free.tokens_a_second);
        assert!(rates.0 > 0.9 * rates.1, "prompts of {prompt}: {rates:?}");
        let firsts = (paced.first, free.first);
        assert!(firsts.0 < 2 * firsts.1, "prompts of {prompt}: {firsts:?}");
    }
}

#[test]
fn a_long_prompt_beside_one_who_generates_gets_on() {
    let mut engine = engine(PrefillBudget::Auto);
    engine.add(request(1, 16, 400));
    for _ in 0..20 {
        engine.step();
    }
    engine.add(request(2, 1500, 2));
    let before = engine.now;
    while engine.tokens(2).is_empty() {
        let plan = engine.step().unwrap();
        assert!(plan.tokens.len() <= 1 + 24, "{} tokens", plan.tokens.len());
    }
    let alone = Duration::from_millis(1500 / 2);
    assert!(engine.now - before < 3 * alone, "{:?}", engine.now - before);
}

#[test]
fn a_budget_of_tokens_holds_beside_those_who_generate_only() {
    let mut engine = engine(PrefillBudget::Tokens(24));
    engine.add(request(1, 100, 50));
    assert_eq!(engine.step().unwrap().tokens.len(), 100);
    engine.add(request(2, 60, 2));
    let chunks: Vec<usize> = (0..3).map(|_| engine.step().unwrap().tokens.len() - 1).collect();
    assert_eq!(chunks, [24, 24, 12]);
}

#[test]
fn the_last_token_of_a_prompt_is_a_prompts() {
    let mut engine = engine(PrefillBudget::Tokens(24));
    engine.add(request(1, 16, 50));
    engine.step();
    engine.add(request(2, 25, 2));
    let mut planned = || {
        engine.step();
        let stats = engine.scheduler.stats();
        (stats.generation_tokens, stats.context_tokens)
    };
    assert_eq!([planned(), planned(), planned()], [(1, 24), (1, 1), (2, 0)]);
}

#[test]
fn those_who_wait_for_a_prefix_are_counted_with_those_who_run() {
    let chunk = |followers: u64| {
        let mut engine = engine_with(PrefillBudget::Auto, true);
        engine.add(request(0, 16, 400));
        for _ in 0..20 {
            engine.step();
        }
        for id in 1..=1 + followers {
            engine.add(Request { prompt: (0..400).collect(), ..request(id, 0, 20) });
        }
        let chunk = engine.step().unwrap().tokens.len() - 1;
        assert_eq!(engine.scheduler.stats().waiting, followers as usize);
        chunk
    };
    let (lone, followed) = (chunk(0), chunk(24));
    assert!(followed > lone + 24, "{lone} tokens, {followed} if others wait for them");
}

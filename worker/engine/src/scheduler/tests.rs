use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use shardrun_wire::Sampling;

use super::*;

fn limits(max_batch_size: usize, max_num_tokens: usize, kv_blocks: u32) -> SchedulerLimits {
    SchedulerLimits { max_batch_size, max_num_tokens, tokens_per_block: 8, kv_blocks }
}

fn request(id: u64, prompt: usize, max_tokens: u32) -> Request {
    Request {
        id: RequestId(id),
        prompt: (0..prompt as u32).collect(),
        max_tokens,
        end_id: Some(99),
        sampling: Sampling::GREEDY,
    }
}

/// Plans and completes one iteration in which every sampled row gives `token`.
fn step(scheduler: &mut Scheduler, token: u32) -> Vec<Output> {
    let mut outputs = Vec::new();
    if scheduler.schedule().is_some() {
        let sampled = vec![token; scheduler.sample_rows().len()];
        scheduler.complete(&sampled, &mut outputs);
    }
    outputs
}

#[test]
fn a_request_computes_its_prompt_then_a_token_a_step() {
    let mut scheduler = Scheduler::new(limits(4, 64, 16));
    scheduler.add(request(1, 10, 3));
    let outputs = step(&mut scheduler, 5);
    assert_eq!(scheduler.plan().tokens, (0..10).collect::<Vec<_>>());
    assert_eq!(scheduler.plan().blocks.len(), 2, "10 tokens in blocks of 8");
    assert_eq!((outputs[0].index, &outputs[0].tokens[..]), (0, &[5][..]));
    step(&mut scheduler, 6);
    assert_eq!(scheduler.plan().tokens, [5]);
    assert_eq!(scheduler.plan().sequences[0].position, 10);
    let outputs = step(&mut scheduler, 7);
    assert_eq!(outputs[0].finish, Some(FinishReason::Length));
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.stats().free_blocks, 16);
}

#[test]
fn the_end_token_ends_a_request_and_is_not_part_of_it() {
    let mut scheduler = Scheduler::new(limits(4, 64, 16));
    scheduler.add(request(1, 3, 10));
    step(&mut scheduler, 5);
    let outputs = step(&mut scheduler, 99);
    assert_eq!(outputs, [last_output(RequestId(1), 1, FinishReason::EndId)]);
    assert!(scheduler.is_idle());
}

#[test]
fn requests_join_and_leave_between_iterations() {
    let mut scheduler = Scheduler::new(limits(4, 64, 32));
    scheduler.add(request(1, 4, 2));
    step(&mut scheduler, 5);
    scheduler.add(request(2, 6, 5));
    let outputs = step(&mut scheduler, 5);
    assert_eq!(outputs.len(), 2, "one generates while the other computes its prompt");
    assert_eq!(outputs[0].finish, Some(FinishReason::Length));
    assert_eq!(step(&mut scheduler, 5).len(), 1);
}

#[test]
fn a_long_prompt_is_cut_and_does_not_stall_those_who_generate() {
    let mut scheduler = Scheduler::new(limits(4, 10, 64));
    scheduler.add(request(1, 2, 20));
    step(&mut scheduler, 5);
    scheduler.add(request(2, 25, 2));
    for chunk in [9, 9, 7] {
        let outputs = step(&mut scheduler, 5);
        assert_eq!(scheduler.plan().sequences[1].tokens, chunk);
        assert!(outputs.iter().any(|output| output.id == RequestId(1)));
    }
    assert!(scheduler.plan().sequences[1].sample, "the last chunk gives the first token");
}

#[test]
fn a_request_waits_until_the_cache_has_room_for_all_it_may_become() {
    let mut scheduler = Scheduler::new(limits(4, 64, 4));
    scheduler.add(request(1, 8, 9)); // 16 positions are stored: two blocks
    scheduler.add(request(2, 8, 10)); // 17: three
    scheduler.add(request(3, 1, 1)); // would fit, but is not first
    step(&mut scheduler, 5);
    assert_eq!(scheduler.stats().running, 1);
    for _ in 0..8 {
        step(&mut scheduler, 5);
    }
    step(&mut scheduler, 5);
    assert_eq!(scheduler.stats().waiting, 0);
}

#[test]
fn cancelling_frees_the_blocks_for_the_next_plan() {
    let mut scheduler = Scheduler::new(limits(4, 64, 3));
    scheduler.add(request(1, 20, 4));
    scheduler.add(request(2, 20, 4));
    step(&mut scheduler, 5);
    let last = scheduler.cancel(RequestId(1)).unwrap();
    assert_eq!((last.index, last.finish), (1, Some(FinishReason::Cancelled)));
    assert!(scheduler.cancel(RequestId(1)).is_none());
    let outputs = step(&mut scheduler, 5);
    assert_eq!(outputs[0].id, RequestId(2));
    assert_eq!(scheduler.plan().sequences[0].slot, 0, "the slot is used again");
    assert_eq!(scheduler.plan().sequences[0].generation, 2);
}

#[test]
fn failing_ends_everyone() {
    let mut scheduler = Scheduler::new(limits(1, 64, 8));
    scheduler.add(request(1, 4, 4));
    scheduler.add(request(2, 4, 4));
    step(&mut scheduler, 5);
    let mut outputs = Vec::new();
    scheduler.fail_all("gone", &mut outputs);
    assert_eq!(outputs.len(), 2);
    assert!(scheduler.is_idle() && scheduler.stats().free_blocks == 8);
}

/// What ranks know: the block tables that plans have built up.
#[derive(Default)]
struct Tables(HashMap<u32, (u32, Vec<u32>)>);

impl Tables {
    fn apply(&mut self, plan: &IterationPlan, tokens_per_block: usize) {
        let mut blocks = plan.blocks.iter().copied();
        for sequence in &plan.sequences {
            let table = self.0.entry(sequence.slot).or_default();
            if table.0 != sequence.generation {
                *table = (sequence.generation, Vec::new());
            }
            table.1.extend(blocks.by_ref().take(sequence.blocks as usize));
            let end = (sequence.position + sequence.tokens) as usize;
            assert!(end <= table.1.len() * tokens_per_block, "every token has its block");
        }
        assert!(blocks.next().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Random arrivals, sizes, cancels and early ends: after each step no block is lost or owned
    /// twice, no bound is broken, and everyone who is not cancelled gets what was asked for.
    #[test]
    fn blocks_are_kept_together(
        arrivals in prop::collection::vec((1usize..40, 1u32..20, 0u8..10), 1..40),
        max_batch_size in 1usize..6,
        max_num_tokens in 1usize..24,
    ) {
        let limits = limits(max_batch_size, max_num_tokens, 8);
        let mut scheduler = Scheduler::new(limits);
        let mut tables = Tables::default();
        let mut got: HashMap<RequestId, u32> = HashMap::new();
        let mut ended = HashSet::new();
        let mut arrivals = arrivals.into_iter().zip(1u64..);
        let mut wanted = HashMap::new();
        let mut steps = 0;
        loop {
            if let Some(((prompt, max_tokens, chance), id)) = arrivals.next() {
                scheduler.add(request(id, prompt, max_tokens));
                wanted.insert(RequestId(id), max_tokens);
                if chance == 0 && id > 2 {
                    ended.extend(scheduler.cancel(RequestId(id - 2)).map(|output| output.id));
                }
            } else if scheduler.is_idle() {
                break;
            }
            let Some(plan) = scheduler.schedule() else { continue };
            prop_assert!(plan.tokens.len() <= max_num_tokens);
            prop_assert!(plan.sequences.len() <= max_batch_size);
            prop_assert!(!plan.tokens.is_empty(), "every step does something");
            tables.apply(plan, limits.tokens_per_block);
            let sampled = vec![7; scheduler.sample_rows().len()];
            let mut outputs = Vec::new();
            scheduler.complete(&sampled, &mut outputs);
            for output in outputs {
                let tokens = got.entry(output.id).or_default();
                prop_assert_eq!(output.index, *tokens, "tokens come in order");
                *tokens += output.tokens.len() as u32;
                if output.finish.is_some() {
                    prop_assert_eq!(*tokens, wanted[&output.id]);
                    prop_assert!(ended.insert(output.id), "one end each");
                }
            }
            let mut held: Vec<_> = scheduler.running.iter().flat_map(|s| &s.blocks).collect();
            let count = held.len();
            held.sort();
            held.dedup();
            prop_assert_eq!(held.len(), count, "no block has two owners");
            prop_assert_eq!(count + scheduler.stats().free_blocks, 8);
            steps += 1;
            prop_assert!(steps < 10_000, "it comes to an end");
        }
        prop_assert_eq!(ended.len(), wanted.len());
        prop_assert_eq!(scheduler.stats().free_blocks, 8);
    }
}

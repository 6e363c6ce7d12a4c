use proptest::prelude::*;
use shardrun_wire::RequestId;

use super::*;

fn candidates(loads: &[(u32, u64)]) -> Vec<Candidate> {
    loads.iter().map(|&(instance, load)| Candidate { instance, load }).collect()
}

fn request(prompt: Vec<u32>, salt: Option<&str>) -> Request {
    let cache_salt = salt.map(str::to_owned);
    Request { cache_salt, ..Request::new(RequestId(1), prompt, 1) }
}

fn first(router: &mut Router, loads: &[(u32, u64)], blocks: &[BlockHash]) -> u32 {
    router.order(candidates(loads), blocks)[0]
}

#[test]
fn each_in_turn_whoever_comes_and_goes() {
    let mut router = Router::new(Routing::RoundRobin, 4);
    let three = [(0, 9), (1, 0), (5, 3)];
    let turns: Vec<u32> = (0..5).map(|_| first(&mut router, &three, &[])).collect();
    assert_eq!(turns, [0, 1, 5, 0, 1]);
    assert_eq!(first(&mut router, &[(0, 0), (1, 0)], &[]), 0, "5 is gone");
    assert_eq!(router.order(candidates(&three), &[]), [1, 5, 0]);
    assert_eq!(router.order(Vec::new(), &[]), [0; 0]);
    assert_eq!(first(&mut router, &three, &[]), 5);
}

#[test]
fn the_least_loaded_and_of_several_each_in_turn() {
    let mut router = Router::new(Routing::LeastLoaded, 4);
    let loads = [(0, 7), (1, 2), (2, 2)];
    let turns: Vec<u32> = (0..3).map(|_| first(&mut router, &loads, &[])).collect();
    assert_eq!(turns, [1, 2, 1]);
    assert_eq!(router.order(candidates(&[(0, 7), (1, 9), (2, 2)]), &[]), [2, 0, 1]);
}

#[test]
fn the_longest_known_prefix_unless_it_is_much_busier() {
    let mut router = Router::new(Routing::PrefixAware, 4);
    for instance in 0..3 {
        router.fresh(instance);
    }
    let whole = router.blocks(&request((0..16).collect(), None));
    assert_eq!(whole.len(), 4);
    router.given(1, &whole, 400);
    router.given(2, &whole[..2], 400);
    assert_eq!(router.order(candidates(&[(0, 0), (1, 900), (2, 800)]), &whole), [1, 2, 0]);
    let margin = PREFIX_MARGIN_TOKENS + 16;
    assert_eq!(first(&mut router, &[(0, 10), (1, 10 + margin), (2, 900)], &whole), 1);
    assert_eq!(first(&mut router, &[(0, 10), (1, 11 + margin), (2, 900)], &whole), 2);
    assert_eq!(first(&mut router, &[(0, 10), (1, 9_000), (2, 9_000)], &whole), 0);
    router.fresh(1);
    router.forget(2);
    assert_eq!(first(&mut router, &[(0, 10), (1, 9), (2, 9)], &whole), 1, "by load alone");
}

#[test]
fn only_what_follows_the_same_beginning_is_known() {
    let mut router = Router::new(Routing::PrefixAware, 4);
    let blocks =
        |prompt: std::ops::Range<u32>, salt| router.blocks(&request(prompt.collect(), salt));
    let whole = blocks(0..11, None);
    assert_eq!(whole, blocks(0..8, Some("")), "the last three tokens are no block");
    assert_ne!(whole[0], blocks(0..8, Some("salt"))[0]);
    assert_ne!(whole[1], router.blocks(&request(vec![9, 9, 9, 9, 4, 5, 6, 7], None))[1]);
    let plain = Router::new(Routing::LeastLoaded, 4).blocks(&request((0..8).collect(), None));
    assert_eq!(plain, [], "not worth the time");
    router.fresh(0);
    router.given(0, &whole, 400);
    let other = router.blocks(&request(vec![9, 9, 9, 9, 4, 5, 6, 7], None));
    assert_eq!(router.recent[&0].matched(&other), 0);
}

proptest! {
    #[test]
    fn everyone_is_in_the_order_once_and_the_best_is_no_worse_than_another(
        loads in prop::collection::btree_map(0_u32..20, 0_u64..6_000, 1..8),
        policy in prop::sample::select(
            vec![Routing::RoundRobin, Routing::LeastLoaded, Routing::PrefixAware],
        ),
        given in prop::collection::vec((0_u32..20, 0_usize..8), 0..20),
        last in prop::option::of(0_u32..20),
    ) {
        let mut router = Router::new(policy, 4);
        let prompt = request((0..32).collect(), None);
        let blocks = router.blocks(&prompt);
        for &instance in loads.keys() {
            router.fresh(instance);
        }
        for (instance, known) in given {
            router.given(instance, &blocks[..known.min(blocks.len())], 32);
        }
        router.last = last;
        let all: Vec<(u32, u64)> = loads.iter().map(|(&instance, &load)| (instance, load)).collect();
        let order = router.order(candidates(&all), &blocks);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, loads.keys().copied().collect::<Vec<_>>());
        prop_assert_eq!(router.last, Some(order[0]));
        let least = *loads.values().min().unwrap();
        let best = loads[&order[0]];
        let known = |instance: &u32| router.recent[instance].matched(&blocks) as u64 * 4;
        match policy {
            Routing::RoundRobin => {
                let next = loads.keys().find(|&&instance| last.is_none_or(|last| instance > last));
                prop_assert_eq!(Some(&order[0]), next.or(loads.keys().next()));
            }
            Routing::LeastLoaded => prop_assert_eq!(best, least),
            Routing::PrefixAware => {
                let margin = least + PREFIX_MARGIN_TOKENS + known(&order[0]);
                prop_assert!(best == least || best <= margin);
                for (instance, &load) in &loads {
                    let may = load <= least + PREFIX_MARGIN_TOKENS + known(instance);
                    prop_assert!(!may || known(instance) <= known(&order[0]) );
                }
            }
        }
    }
}

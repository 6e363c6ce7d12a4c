//! Sequences that do at random what sequences do, while everything is checked.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shardrun_wire::{BlockHash, KvEventData, RetentionPriority};

use super::audit::audit;
use super::*;

const BLOCKS: u32 = 20;

/// What happens next. Numbers that choose among what is there are taken modulo how much there is.
#[derive(Clone, Debug)]
enum Op {
    Start(Start),
    Grow { which: usize, tokens: Vec<u32> },
    Fork { which: usize },
    End { which: usize, backwards: bool },
    Retain { which: usize, place: usize, retention: BlockRetention },
    Advance { millis: u64 },
    TakeAll,
}

#[derive(Clone, Debug)]
struct Start {
    root: usize,
    prompt: Vec<u32>,
    /// Tokens beyond the prompt that blocks are promised for.
    promised: usize,
    window: Option<usize>,
    retention: BlockRetention,
}

fn retentions() -> impl Strategy<Value = BlockRetention> {
    let priorities = prop::sample::select(vec![0, 20, 35, 35, 90, 100]);
    (priorities, prop::option::of(0_u64..50)).prop_map(|(priority, millis)| BlockRetention {
        priority: RetentionPriority(priority),
        duration: millis.map(Duration::from_millis),
    })
}

/// Two words make prompts that share much.
fn tokens(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop::sample::select(vec![1_u32, 1, 1, 2]), len)
}

fn ops() -> impl Strategy<Value = Op> {
    let windows = prop::option::of(1_usize..10);
    let start = (0_usize..4, tokens(1..30), 0_usize..12, windows, retentions());
    let start = start.prop_map(|(root, prompt, promised, window, retention)| {
        Op::Start(Start { root, prompt, promised, window, retention })
    });
    let which = || 0_usize..64;
    prop_oneof![
        6 => start,
        10 => (which(), tokens(1..9)).prop_map(|(which, tokens)| Op::Grow { which, tokens }),
        2 => which().prop_map(|which| Op::Fork { which }),
        5 => (which(), any::<bool>()).prop_map(|(which, backwards)| Op::End { which, backwards }),
        2 => (which(), which(), retentions())
            .prop_map(|(which, place, retention)| Op::Retain { which, place, retention }),
        3 => (0_u64..40).prop_map(|millis| Op::Advance { millis }),
        1 => Just(Op::TakeAll),
    ]
}

#[derive(Clone)]
struct Sequence {
    start: Start,
    /// Tokens whose keys and values are computed.
    tokens: Vec<u32>,
    /// `None` for blocks that have left the window.
    table: Vec<Option<BlockId>>,
    /// Where the last committed block is.
    node: Option<Node>,
    /// Whether all whole blocks so far are in the tree.
    commits: bool,
    promised: usize,
}

/// What a block contains: whose tokens, and those from the sequence's first to the block's last.
type Content = (usize, Vec<u32>);

struct World {
    cache: KvCache,
    roots: Vec<Root>,
    sequences: Vec<Sequence>,
    contents: Vec<Content>,
    prefix: Prefix,
    now: Duration,
    /// What a reader of events believes: cached blocks and their priorities.
    told: HashMap<BlockHash, u8>,
    events: u64,
}

impl World {
    fn new() -> Self {
        // The first two have one hash.
        let other = Root { adapter: 3, salt: None };
        Self {
            cache: KvCache::new(KvCacheConfig { event_buffer: 1000, ..config(BLOCKS) }),
            roots: vec![Root::default(), tenant(""), tenant("one"), other],
            sequences: Vec::new(),
            contents: vec![Content::default(); BLOCKS as usize],
            prefix: Prefix::default(),
            now: Duration::ZERO,
            told: HashMap::new(),
            events: 0,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Start(start) => self.start(start),
            Op::Grow { which, tokens } => {
                if let Some(mut sequence) = self.pick(which) {
                    let _ = tokens.iter().all(|&token| self.grow(&mut sequence, token));
                    self.sequences.push(sequence);
                }
            }
            Op::Fork { which } => {
                if let Some(sequence) = self.pick(which) {
                    sequence.table.iter().flatten().for_each(|&block| self.cache.hold(block));
                    self.sequences.push(Sequence { promised: 0, ..sequence.clone() });
                    self.sequences.push(sequence);
                }
            }
            Op::End { which, backwards } => {
                if let Some(mut sequence) = self.pick(which) {
                    self.cache.unreserve(sequence.promised);
                    if backwards {
                        sequence.table.reverse();
                    }
                    sequence.table.iter().flatten().for_each(|&block| self.cache.release(block));
                }
            }
            Op::Retain { which, place, retention } => {
                if let Some(sequence) = self.pick(which) {
                    if let Some(&Some(block)) = sequence.table.get(place % 8) {
                        self.cache.set_retention(block, retention);
                    }
                    self.sequences.push(sequence);
                }
            }
            Op::Advance { millis } => {
                self.now += Duration::from_millis(millis);
                self.cache.advance(self.now);
            }
            Op::TakeAll => {
                let free = self.cache.free();
                let all: Vec<_> = (0..free).map(|_| self.take()).collect();
                assert_eq!(self.cache.take(), None);
                all.into_iter().for_each(|block| self.cache.release(block));
            }
        }
    }

    /// Takes a sequence out.
    fn pick(&mut self, which: usize) -> Option<Sequence> {
        let which = which.checked_rem(self.sequences.len())?;
        Some(self.sequences.swap_remove(which))
    }

    /// Lets a sequence in if all its blocks can be promised, and computes its prompt.
    fn start(&mut self, start: Start) {
        let Start { root, ref prompt, promised, .. } = start;
        self.find(root, &prompt[..prompt.len() - 1]);
        let prefix = &self.prefix;
        let whole = prefix.tokens / SIZE;
        let fresh = (prompt.len() + promised).div_ceil(SIZE) - whole;
        let idle = prefix.idle;
        if !self.cache.reserve(fresh + idle) {
            assert!(fresh + idle > self.cache.available());
            return;
        }
        prefix.blocks.iter().for_each(|&block| self.cache.hold(block));
        self.cache.unreserve(idle);
        let mut sequence = Sequence {
            tokens: prompt[..prefix.tokens].to_vec(),
            table: prefix.blocks[..whole].iter().copied().map(Some).collect(),
            node: prefix.node,
            commits: true,
            promised: fresh,
            start: start.clone(),
        };
        if let Some(&from) = self.prefix.blocks.get(whole) {
            let copy = self.obtain(&mut sequence).unwrap();
            self.contents[copy.index()] = (root, sequence.tokens.clone());
            sequence.table.push(Some(copy));
            self.cache.release(from);
        }
        for &token in &prompt[sequence.tokens.len()..] {
            assert!(self.grow(&mut sequence, token), "its blocks were promised");
        }
        self.sequences.push(sequence);
    }

    /// Finds, and checks against all that is cached.
    fn find(&mut self, root: usize, tokens: &[u32]) {
        let Self { cache, contents, prefix, .. } = self;
        cache.find(&self.roots[root], tokens, prefix);
        let cached = || {
            let blocks = (0..BLOCKS).map(BlockId).filter(|&block| cache.tree.contains(block));
            blocks.map(|block| &contents[block.index()]).filter(|content| content.0 == root)
        };
        let common = |content: &Content| {
            content.1.iter().zip(tokens).take_while(|(own, token)| own == token).count()
        };
        // All that comes before a cached block is cached, so the most in common is what is to be found.
        assert_eq!(prefix.tokens, cached().map(common).max().unwrap_or(0));
        assert_eq!(prefix.blocks.len(), prefix.tokens.div_ceil(SIZE));
        for (place, block) in prefix.blocks.iter().enumerate() {
            let (owner, own) = &contents[block.index()];
            assert!(*owner == root && cache.tree.contains(*block));
            let end = prefix.tokens.min((place + 1) * SIZE);
            assert_eq!(own.len(), (place + 1) * SIZE);
            assert_eq!(own[..end], tokens[..end]);
        }
        let last = prefix.tokens / SIZE;
        assert_eq!(prefix.node.map(Node::block), prefix.blocks[..last].last().copied());
        let idle = prefix.blocks.iter().filter(|block| cache.idle.key(**block).is_some()).count();
        assert_eq!(prefix.idle, idle);
    }

    /// Computes one more token, if there is a block for it.
    fn grow(&mut self, sequence: &mut Sequence, token: u32) -> bool {
        let place = sequence.tokens.len() / SIZE;
        let block = match sequence.table.get(place).copied().flatten() {
            Some(block) if self.cache.writable(block) => block,
            shared => {
                let Some(own) = self.obtain(sequence) else { return false };
                shared.into_iter().for_each(|block| self.cache.release(block));
                sequence.table.truncate(place);
                sequence.table.push(Some(own));
                own
            }
        };
        sequence.tokens.push(token);
        self.contents[block.index()] = (sequence.start.root, sequence.tokens.clone());
        if sequence.tokens.len().is_multiple_of(SIZE) && sequence.commits {
            self.commit(sequence, block);
        }
        if let Some(window) = sequence.start.window {
            let gone = sequence.tokens.len().saturating_sub(window) / SIZE;
            for block in sequence.table[..gone].iter_mut().filter_map(Option::take) {
                self.cache.release(block);
            }
        }
        true
    }

    fn commit(&mut self, sequence: &mut Sequence, block: BlockId) {
        let Start { root, retention, .. } = sequence.start;
        let start = sequence.tokens.len() - SIZE;
        let tokens = &sequence.tokens[start..];
        let is_current = sequence.node.is_none_or(|node| self.cache.tree.is_current(node));
        let node = self.cache.commit(&self.roots[root], sequence.node, block, tokens, retention);
        match node {
            Some(node) => {
                assert!(is_current);
                let content = (root, sequence.tokens.clone());
                assert_eq!(self.contents[node.block().index()], content);
            }
            None => assert!(!is_current || root < 2, "only those roots collide"),
        }
        sequence.commits = node.is_some();
        sequence.node = node;
    }

    /// A block that the sequence was promised, else one that nobody was.
    fn obtain(&mut self, sequence: &mut Sequence) -> Option<BlockId> {
        if sequence.promised > 0 {
            sequence.promised -= 1;
            self.cache.unreserve(1);
        } else if self.cache.available() == 0 {
            return None;
        }
        Some(self.take())
    }

    fn take(&mut self) -> BlockId {
        let expected = self.cache.free.last().copied().or(self.cache.idle.cheapest());
        let block = self.cache.take();
        assert_eq!(block, expected);
        let block = block.expect("a block is free");
        assert!(self.cache.writable(block));
        block
    }

    fn check(&mut self) {
        let mut holders = vec![0; BLOCKS as usize];
        for sequence in &self.sequences {
            for block in sequence.table.iter().flatten() {
                holders[block.index()] += 1;
            }
            for (place, block) in sequence.table.iter().enumerate() {
                let Some(block) = block else { continue };
                let end = sequence.tokens.len().min((place + 1) * SIZE);
                let (root, own) = &self.contents[block.index()];
                assert_eq!((*root, &own[..end]), (sequence.start.root, &sequence.tokens[..end]));
            }
        }
        audit(&self.cache, &holders);
        let promised: usize = self.sequences.iter().map(|sequence| sequence.promised).sum();
        assert_eq!(self.cache.reserved, promised);
        self.read_events();
    }

    /// Follows the cache by its events alone.
    fn read_events(&mut self) {
        let mut events = Vec::new();
        self.cache.take_events(&mut events);
        for event in events {
            assert_eq!(event.event_id, self.events);
            self.events += 1;
            match event.data {
                KvEventData::Created { .. } => assert_eq!(event.event_id, 0),
                KvEventData::Stored { parent_hash, blocks } => {
                    assert!(parent_hash.is_none_or(|parent| self.told.contains_key(&parent)));
                    for block in blocks {
                        assert_eq!(self.told.insert(block.block_hash, block.priority), None);
                    }
                }
                KvEventData::Removed { block_hashes } => {
                    for hash in block_hashes {
                        assert!(self.told.remove(&hash).is_some());
                    }
                }
                KvEventData::Updated { block_hash, priority_old, priority_new } => {
                    assert_eq!(self.told.insert(block_hash, priority_new), Some(priority_old));
                }
            }
        }
        let tree = &self.cache.tree;
        let cached = (0..BLOCKS).map(BlockId).filter(|&block| tree.contains(block));
        let told: HashMap<_, _> = cached
            .map(|block| (tree.hash(block), self.cache.idle.retention(block).priority.0))
            .collect();
        assert_eq!(self.told, told);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::soak::cases(200),
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_block_is_lost_or_given_twice_or_found_by_another(ops in prop::collection::vec(ops(), 1..400)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
            world.check();
        }
        while let Some(sequence) = world.sequences.len().checked_sub(1) {
            world.apply(Op::End { which: sequence, backwards: false });
            world.check();
        }
        world.apply(Op::TakeAll);
        world.check();
        prop_assert_eq!(world.cache.free.len(), BLOCKS as usize);
    }
}

//! What the leader says about its latest iteration, kept whole.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

const FIELDS: usize = 18;
/// The sequence word and the fields.
pub(crate) const RECORD_WORDS: usize = 1 + FIELDS;
/// How long a reader tries before it takes a torn record as it is: its writer died inside it.
const PATIENCE: Duration = Duration::from_millis(200);

/// Numbers of one iteration; a reader sees all of one iteration or all of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Iteration {
    /// When it ended, in microseconds since 1970.
    pub timestamp_us: u64,
    /// Requests in the engine, waiting ones included.
    pub active_requests: u64,
    /// Requests that may run at once.
    pub max_requests: u64,
    /// Requests in this iteration.
    pub scheduled_requests: u64,
    /// Of those, requests whose prompt is being computed.
    pub context_requests: u64,
    /// Of those, requests that generate.
    pub generation_requests: u64,
    /// Requests that wait to start.
    pub waiting_requests: u64,
    /// Requests that had started and lost their blocks.
    pub paused_requests: u64,
    /// Prompt tokens in this iteration.
    pub context_tokens: u64,
    /// Tokens generated in this iteration, of all sequences.
    pub generation_tokens: u64,
    /// Places of a static batch that nobody uses.
    pub empty_slots: u64,
    /// Blocks of the KV cache.
    pub kv_blocks_max: u64,
    /// Blocks that nobody holds.
    pub kv_blocks_free: u64,
    /// Blocks that requests hold.
    pub kv_blocks_used: u64,
    /// Whole blocks of prompts found in the cache instead of computed, since the start.
    pub kv_blocks_reused: u64,
    /// Whole blocks of prompts looked for in the cache in vain, since the start.
    pub kv_blocks_missed: u64,
    /// Tokens in one block.
    pub tokens_per_kv_block: u64,
    /// Whether requests run in static batches instead of joining whenever there is room.
    pub static_batching: bool,
}

impl Iteration {
    fn to_words(self) -> [u64; FIELDS] {
        [
            self.timestamp_us,
            self.active_requests,
            self.max_requests,
            self.scheduled_requests,
            self.context_requests,
            self.generation_requests,
            self.waiting_requests,
            self.paused_requests,
            self.context_tokens,
            self.generation_tokens,
            self.empty_slots,
            self.kv_blocks_max,
            self.kv_blocks_free,
            self.kv_blocks_used,
            self.kv_blocks_reused,
            self.kv_blocks_missed,
            self.tokens_per_kv_block,
            self.static_batching.into(),
        ]
    }

    fn from_words(words: [u64; FIELDS]) -> Self {
        let [
            timestamp_us,
            active_requests,
            max_requests,
            scheduled_requests,
            context_requests,
            generation_requests,
            waiting_requests,
            paused_requests,
            context_tokens,
            generation_tokens,
            empty_slots,
            kv_blocks_max,
            kv_blocks_free,
            kv_blocks_used,
            kv_blocks_reused,
            kv_blocks_missed,
            tokens_per_kv_block,
            static_batching,
        ] = words;
        Self {
            timestamp_us,
            active_requests,
            max_requests,
            scheduled_requests,
            context_requests,
            generation_requests,
            waiting_requests,
            paused_requests,
            context_tokens,
            generation_tokens,
            empty_slots,
            kv_blocks_max,
            kv_blocks_free,
            kv_blocks_used,
            kv_blocks_reused,
            kv_blocks_missed,
            tokens_per_kv_block,
            static_batching: static_batching != 0,
        }
    }
}

/// Writes a record: the sequence word is odd while its fields change (a seqlock; Boehm, "Can
/// seqlocks get along with programming language memory models?", 2012).
pub(crate) fn write(words: &[AtomicU64], iteration: &Iteration) {
    let (sequence, fields) = (&words[0], &words[1..]);
    let before = sequence.load(Ordering::Relaxed);
    sequence.store(before.wrapping_add(1), Ordering::Relaxed);
    fence(Ordering::Release);
    for (word, value) in fields.iter().zip(iteration.to_words()) {
        word.store(value, Ordering::Relaxed);
    }
    sequence.store(before.wrapping_add(2), Ordering::Release);
}

/// The words of a record, whole: its sequence word first, which is 0 if there is none.
pub(crate) fn read_words(words: &[AtomicU64]) -> Vec<u64> {
    let fields = read(words).map(Iteration::to_words);
    let sequence = u64::from(fields.is_some()) * 2;
    std::iter::once(sequence).chain(fields.unwrap_or_default()).collect()
}

/// Writes what [`read_words`] has read; gives how many words those are.
pub(crate) fn write_words(words: &[AtomicU64], read: &[u64]) -> usize {
    if let Some((sequence, rest)) = read.split_first()
        && let Some(&fields) = rest.first_chunk::<FIELDS>()
        && *sequence != 0
    {
        write(words, &Iteration::from_words(fields));
    }
    RECORD_WORDS
}

/// Reads a record; `None` if none was written yet. Sleeps for moments if its writer was interrupted
/// in the middle.
pub(crate) fn read(words: &[AtomicU64]) -> Option<Iteration> {
    let (sequence, fields) = (&words[0], &words[1..]);
    let mut values = [0; FIELDS];
    let mut deadline = None;
    loop {
        let before = sequence.load(Ordering::Acquire);
        if before == 0 {
            return None;
        }
        for (value, word) in values.iter_mut().zip(fields) {
            *value = word.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        if before.is_multiple_of(2) && sequence.load(Ordering::Relaxed) == before {
            return Some(Iteration::from_words(values));
        }
        let now = Instant::now();
        if now >= *deadline.get_or_insert(now + PATIENCE) {
            return Some(Iteration::from_words(values));
        }
        std::thread::sleep(Duration::from_micros(10));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record() -> Vec<AtomicU64> {
        (0..RECORD_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn fields_come_back_where_they_went() {
        let words = record();
        assert_eq!(read(&words), None);
        let mut numbers = [0; FIELDS];
        for (i, number) in numbers.iter_mut().enumerate() {
            *number = 100 + i as u64;
        }
        for static_batching in [false, true] {
            numbers[FIELDS - 1] = static_batching.into();
            let iteration = Iteration::from_words(numbers);
            assert_eq!((iteration.timestamp_us, iteration.tokens_per_kv_block), (100, 116));
            assert_eq!(iteration.static_batching, static_batching);
            write(&words, &iteration);
            assert_eq!(read(&words), Some(iteration));
        }
    }

    #[test]
    fn readers_never_see_half_of_one() {
        let words = record();
        let rounds = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=rounds {
                    write(&words, &Iteration::from_words([n; FIELDS]));
                    if n.is_multiple_of(500) {
                        // Gives way here rather than inside a record.
                        std::thread::yield_now();
                    }
                }
            });
            let mut last = 0;
            while last < rounds {
                let Some(iteration) = read(&words) else { continue };
                let numbers = iteration.to_words();
                // All but the last, which is only ever 0 or 1.
                let numbers = &numbers[..FIELDS - 1];
                assert!(numbers.iter().all(|&number| number == numbers[0]), "{numbers:?}");
                assert!(numbers[0] >= last);
                last = numbers[0];
            }
        });
    }

    #[test]
    fn a_writer_that_died_in_the_middle_does_not_hang_readers() {
        let words = record();
        write(&words, &Iteration { active_requests: 3, ..Iteration::default() });
        words[0].fetch_add(1, Ordering::Relaxed);
        assert_eq!(read(&words).unwrap().active_requests, 3);
    }
}

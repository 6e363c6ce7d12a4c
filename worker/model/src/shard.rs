//! Which part of every layer a rank holds under tensor parallelism (Shoeybi et al., 2019): heads of
//! the attention, columns of the MLP, rows of the vocabulary. One sum over ranks follows
//! each half of a layer.

use std::ops::Range;

use thiserror::Error;

use crate::{HeadShard, ModelConfig};

/// MLP columns are cut in units of this many: activations are quantised by as many, and no type of
/// weights has scales for more.
const FFN_UNIT: usize = 32;

/// One rank's share of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// This rank among those that share every layer.
    pub tp_rank: usize,
    /// Attention heads.
    pub heads: HeadShard,
    /// Columns of the MLP, as in the whole model.
    pub ffn: Range<usize>,
    /// Rows of the vocabulary of every rank, this one's at `tp_rank`; they tile the vocabulary.
    pub vocab: Vec<Range<usize>>,
}

/// A number of ranks that the model can't be spread over.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ShardError {
    /// More ranks than there is to share.
    #[error(
        "model.tp_size is {tp_size}; the model has {limit} {what}, so 1 to {limit} ranks can share it"
    )]
    TooManyRanks {
        /// Ranks asked for.
        tp_size: usize,
        /// What there is too little of.
        what: &'static str,
        /// How many of it there are.
        limit: usize,
    },
}

impl Shard {
    /// The share of `tp_rank` among `tp_size` ranks.
    ///
    /// Ranks get whole KV heads with the query heads that read them, some one more than others; or query
    /// heads, some one more than others, and a KV head is held by every rank that has one of its
    /// readers. Taken is what leaves the fullest rank the fewest KV heads, then the fewest query heads.
    ///
    /// # Errors
    /// [`ShardError`] if there are more ranks than query heads, units of MLP columns or tokens.
    ///
    /// # Panics
    /// If `tp_rank` is not below `tp_size`.
    pub fn new(config: &ModelConfig, tp_rank: usize, tp_size: usize) -> Result<Self, ShardError> {
        assert!(tp_rank < tp_size, "a rank of the group");
        let mlp_units = config.ffn.div_ceil(FFN_UNIT);
        for (limit, what) in [
            (config.query_heads, "query heads"),
            (mlp_units, "blocks of 32 MLP columns"),
            (config.vocab, "tokens in its vocabulary"),
        ] {
            if tp_size > limit {
                return Err(ShardError::TooManyRanks { tp_size, what, limit });
            }
        }
        let queries_per_kv = config.query_heads / config.kv_heads;
        let whole = |rank| {
            let kv = part(config.kv_heads, tp_size, rank);
            kv.start * queries_per_kv..kv.end * queries_per_kv
        };
        let spread = |rank| part(config.query_heads, tp_size, rank);
        let kv_heads_of = |query_heads: &Range<usize>| {
            query_heads.start / queries_per_kv..query_heads.end.div_ceil(queries_per_kv)
        };
        let fullest = |cut: &dyn Fn(usize) -> Range<usize>| {
            let ranks = (0..tp_size).map(cut);
            ranks.map(|queries| (kv_heads_of(&queries).len(), queries.len())).max()
        };
        let all_have_some = tp_size <= config.kv_heads;
        let query_heads = if all_have_some && fullest(&whole) <= fullest(&spread) {
            whole(tp_rank)
        } else {
            spread(tp_rank)
        };
        let kv_heads = kv_heads_of(&query_heads);
        let units = part(mlp_units, tp_size, tp_rank);
        Ok(Self {
            tp_rank,
            heads: HeadShard { query_heads, kv_heads, queries_per_kv, head_dim: config.head_dim },
            ffn: units.start * FFN_UNIT..(units.end * FFN_UNIT).min(config.ffn),
            vocab: (0..tp_size).map(|rank| part(config.vocab, tp_size, rank)).collect(),
        })
    }

    /// This rank's rows of the vocabulary.
    #[must_use]
    pub fn own_vocab(&self) -> Range<usize> {
        self.vocab[self.tp_rank].clone()
    }
}

/// Part `index` of `0..len` cut into `parts`, the first ones longer by one where it doesn't divide.
fn part(len: usize, parts: usize, index: usize) -> Range<usize> {
    let start = |i: usize| len / parts * i + i.min(len % parts);
    start(index)..start(index + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Rope, RopePairs};

    fn smollm2() -> ModelConfig {
        ModelConfig {
            layers: 30,
            hidden: 576,
            ffn: 1536,
            query_heads: 9,
            kv_heads: 3,
            head_dim: 64,
            context_len: 8192,
            vocab: 49152,
            norm_epsilon: 1e-5,
            qkv_bias: false,
            rope: Rope { theta: 1e5, dims: 64, pairs: RopePairs::Neighbours },
            attention_windows: Vec::new(),
        }
    }

    fn shards(tp_size: usize) -> Vec<Shard> {
        (0..tp_size).map(|rank| Shard::new(&smollm2(), rank, tp_size).unwrap()).collect()
    }

    #[test]
    fn every_size_tiles_the_model() {
        for tp_size in 1..=9 {
            let shards = shards(tp_size);
            let tiles = |ranges: Vec<Range<usize>>, len: usize| {
                assert_eq!(ranges[0].start, 0);
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(ranges.iter().all(|range| !range.is_empty()));
                assert_eq!(ranges.last().unwrap().end, len);
            };
            tiles(shards.iter().map(|s| s.heads.query_heads.clone()).collect(), 9);
            tiles(shards.iter().map(|s| s.ffn.clone()).collect(), 1536);
            tiles(shards[0].vocab.clone(), 49152);
            assert!(shards.iter().all(|s| s.ffn.start % 32 == 0 && s.ffn.end % 32 == 0));
        }
    }

    #[test]
    fn two_ranks_share_nine_query_heads_evenly_and_both_hold_the_kv_head_in_the_middle() {
        let [first, second] = &shards(2)[..] else { panic!() };
        assert_eq!((&first.heads.query_heads, &first.heads.kv_heads), (&(0..5), &(0..2)));
        assert_eq!((&second.heads.query_heads, &second.heads.kv_heads), (&(5..9), &(1..3)));
    }

    #[test]
    fn kv_heads_stay_whole_where_cutting_them_would_put_more_on_a_rank() {
        let config = ModelConfig { query_heads: 32, kv_heads: 8, ..smollm2() };
        let heads = |rank, tp_size| Shard::new(&config, rank, tp_size).unwrap().heads;
        let three: Vec<_> = (0..3).map(|rank| heads(rank, 3).query_heads).collect();
        assert_eq!(three, [0..12, 12..24, 24..32]);
        assert_eq!(heads(1, 4).kv_heads, 2..4);
        assert_eq!(heads(5, 8).query_heads, 20..24);
    }

    #[test]
    fn four_ranks_replicate_kv_heads() {
        let kv: Vec<_> = shards(4).iter().map(|s| s.heads.kv_heads.clone()).collect();
        assert_eq!(kv, [0..1, 1..2, 1..3, 2..3]);
        let third = &shards(4)[2].heads;
        assert_eq!(third.query_heads, 5..7);
    }

    #[test]
    fn more_ranks_than_query_heads_are_refused() {
        let error = Shard::new(&smollm2(), 0, 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "model.tp_size is 10; the model has 9 query heads, so 1 to 9 ranks can share it"
        );
    }
}

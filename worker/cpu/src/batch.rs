//! The checked copy of a batch that operations work from.

use shardrun_model::{Batch, CacheShape};
use thiserror::Error;

/// How a batch contradicts itself or the cache.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// Spans must follow each other without gaps.
    #[error("span {span} has rows {start}..{end}, but the spans before it end at row {expected}")]
    Gap {
        /// Its place in the batch.
        span: usize,
        /// Its first row.
        start: usize,
        /// One past its last row.
        end: usize,
        /// Where it should begin.
        expected: usize,
    },
    /// Spans must cover the tokens.
    #[error("the spans have {spanned} rows, the batch has {tokens} tokens")]
    Rows {
        /// Rows of all spans.
        spanned: usize,
        /// Tokens of the batch.
        tokens: usize,
    },
    /// A span names blocks that the batch doesn't list.
    #[error("span {span} has blocks {start}..{end} of a list of {listed}")]
    BlockRange {
        /// Its place in the batch.
        span: usize,
        /// Where its blocks begin.
        start: usize,
        /// Where they end.
        end: usize,
        /// Blocks that the batch lists.
        listed: usize,
    },
    /// A span has tokens without a place in the cache.
    #[error("span {span} has {blocks} cache blocks, its {positions} positions need {needed}")]
    TooFewBlocks {
        /// Its place in the batch.
        span: usize,
        /// Its blocks.
        blocks: usize,
        /// Positions up to its last row's.
        positions: usize,
        /// Blocks that those need.
        needed: usize,
    },
    /// A block id is beyond the cache.
    #[error("cache block {block} of span {span} is not below {limit}, the blocks of the cache")]
    Block {
        /// Its place in the batch.
        span: usize,
        /// The block id.
        block: u32,
        /// Blocks in the cache.
        limit: usize,
    },
    /// A row that is not there cannot be sampled.
    #[error("sampled row {row} is not below {rows}, the rows of the batch")]
    Sampled {
        /// The row.
        row: u32,
        /// Rows of the batch.
        rows: usize,
    },
}

/// Finds out whether `batch` makes sense with a cache of `shape`.
pub(crate) fn check(batch: &Batch, shape: &CacheShape) -> Result<(), BatchError> {
    check_spans(batch, shape)?;
    let rows = batch.rows();
    match batch.sampled.iter().find(|&&row| row as usize >= rows) {
        Some(&row) => Err(BatchError::Sampled { row, rows }),
        None => Ok(()),
    }
}

fn check_spans(batch: &Batch, shape: &CacheShape) -> Result<(), BatchError> {
    let mut next = 0;
    for (at, span) in batch.spans.iter().enumerate() {
        let rows = &span.rows;
        if rows.start != next || rows.end < rows.start {
            return Err(BatchError::Gap {
                span: at,
                start: rows.start,
                end: rows.end,
                expected: next,
            });
        }
        next = rows.end;
        let blocks = batch.blocks.get(span.blocks.clone()).ok_or(BatchError::BlockRange {
            span: at,
            start: span.blocks.start,
            end: span.blocks.end,
            listed: batch.blocks.len(),
        })?;
        let positions = span.position.saturating_add(rows.len());
        let needed = positions.div_ceil(shape.tokens_per_block);
        if blocks.len() < needed {
            return Err(BatchError::TooFewBlocks {
                span: at,
                blocks: blocks.len(),
                positions,
                needed,
            });
        }
        if let Some(&block) = blocks.iter().find(|&&block| block as usize >= shape.blocks) {
            return Err(BatchError::Block { span: at, block, limit: shape.blocks });
        }
    }
    if next != batch.rows() {
        return Err(BatchError::Rows { spanned: next, tokens: batch.rows() });
    }
    Ok(())
}

/// Copies `from` over `to` and keeps the memory of `to`.
pub(crate) fn copy(from: &Batch, to: &mut Batch) {
    to.tokens.clone_from(&from.tokens);
    to.spans.clone_from(&from.spans);
    // As much room as the other has made, so that sequences grow without growing this.
    to.blocks.clear();
    to.blocks.reserve(from.blocks.capacity());
    to.blocks.extend_from_slice(&from.blocks);
    to.sampled.clone_from(&from.sampled);
}

#[cfg(test)]
mod tests {
    use shardrun_model::{CacheType, Span};

    use super::*;

    const SHAPE: CacheShape = CacheShape {
        layers: 1,
        kv_heads: 1,
        head_dim: 8,
        blocks: 4,
        tokens_per_block: 16,
        dtype: CacheType::F32,
    };

    fn two_spans() -> Batch {
        Batch {
            tokens: vec![5; 7],
            spans: vec![
                Span { rows: 0..4, position: 30, blocks: 0..3 },
                Span { rows: 4..7, position: 0, blocks: 3..4 },
            ],
            blocks: vec![3, 1, 0, 2],
            sampled: vec![3, 6],
        }
    }

    fn refusal(change: impl FnOnce(&mut Batch)) -> String {
        let mut batch = two_spans();
        change(&mut batch);
        check(&batch, &SHAPE).expect_err("the batch is wrong").to_string()
    }

    #[test]
    fn a_right_batch_passes() {
        assert_eq!(check(&two_spans(), &SHAPE), Ok(()));
        assert_eq!(check(&Batch::default(), &SHAPE), Ok(()));
    }

    #[test]
    fn a_wrong_batch_is_refused_with_what_is_wrong() {
        assert_eq!(
            refusal(|batch| batch.spans[1].rows = 5..7),
            "span 1 has rows 5..7, but the spans before it end at row 4"
        );
        assert_eq!(
            refusal(|batch| batch.tokens.push(1)),
            "the spans have 7 rows, the batch has 8 tokens"
        );
        assert_eq!(
            refusal(|batch| batch.spans[1].blocks = 3..5),
            "span 1 has blocks 3..5 of a list of 4"
        );
        assert_eq!(
            refusal(|batch| batch.spans[0].position = 45),
            "span 0 has 3 cache blocks, its 49 positions need 4"
        );
        assert_eq!(
            refusal(|batch| batch.spans[0].position = usize::MAX),
            format!(
                "span 0 has 3 cache blocks, its {} positions need {}",
                usize::MAX,
                1usize << 60
            )
        );
        assert_eq!(
            refusal(|batch| batch.blocks[2] = 4),
            "cache block 4 of span 0 is not below 4, the blocks of the cache"
        );
        assert_eq!(
            refusal(|batch| batch.sampled[1] = 7),
            "sampled row 7 is not below 7, the rows of the batch"
        );
    }
}

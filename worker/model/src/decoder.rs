//! The decoder that llama (Touvron et al., 2023) and its relatives are: what differs between them is in
//! [`ModelConfig`].

mod load;
#[cfg(test)]
mod tests;

pub use load::LoadError;

use crate::{Backend, Batch, ModelConfig, Shard};

/// One rank's share of a model on the device of `B`.
pub struct Decoder<B: Backend> {
    config: ModelConfig,
    shard: Shard,
    embedding: B::Matrix,
    layers: Vec<Layer<B>>,
    norm: B::Vector,
    /// `None` if the embedding serves as head too.
    head: Option<B::Matrix>,
}

struct Layer<B: Backend> {
    attention_norm: B::Vector,
    /// Queries, keys and values of this rank's heads, stacked.
    qkv: B::Matrix,
    /// Stacked likewise; `None` in architectures without.
    qkv_bias: Option<B::Vector>,
    attention_output: B::Matrix,
    mlp_norm: B::Vector,
    /// Gate and up of this rank's columns, stacked.
    gate_up: B::Matrix,
    down: B::Matrix,
}

impl<B: Backend> Decoder<B> {
    /// The dimensions of the whole model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// This rank's share of it.
    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Runs one iteration: stores the keys and values of the batch's tokens in the cache and gives,
    /// on rank 0, the logits `[sampled rows, vocabulary]`; `None` on other ranks or if no row is
    /// sampled. Collective: every rank runs the same batches in the same order.
    ///
    /// # Errors
    /// If the device or a peer failed.
    pub fn forward(&self, backend: &mut B, batch: &Batch) -> Result<Option<B::Tensor>, B::Error> {
        let Some(h) = self.hidden(backend, batch)? else { return Ok(None) };
        let logits = backend.linear(&h, self.head())?;
        backend.gather_columns(logits, &self.shard.vocab)
    }

    /// As [`Decoder::forward`], but appends to `into`, on rank 0, the likeliest token of each sampled row,
    /// the lowest of equally likely ones; 0 where no logit is a number.
    ///
    /// # Errors
    /// If the device or a peer failed.
    pub fn forward_best(
        &self,
        backend: &mut B,
        batch: &Batch,
        into: &mut Vec<u32>,
    ) -> Result<(), B::Error> {
        let Some(h) = self.hidden(backend, batch)? else { return Ok(()) };
        backend.best_columns(&h, self.head(), &self.shard.vocab, into)
    }

    fn head(&self) -> &B::Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Runs all layers. Gives what the head is multiplied with, for the sampled rows.
    fn hidden(&self, backend: &mut B, batch: &Batch) -> Result<Option<B::Operand>, B::Error> {
        let epsilon = self.config.norm_epsilon;
        backend.begin(batch)?;
        let embedded = backend.embed(&self.embedding, self.shard.own_vocab().start as u32)?;
        let mut x = backend.all_reduce(embedded)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let h = backend.rms_norm(&x, &layer.attention_norm, epsilon)?;
            let mut qkv = backend.linear(&h, &layer.qkv)?;
            if let Some(bias) = &layer.qkv_bias {
                qkv = backend.add_bias(qkv, bias)?;
            }
            let window = self.config.attention_window(index);
            let a = backend.attention(index, qkv, &self.shard.heads, &self.config.rope, window)?;
            x = backend.linear_all_reduce_add(x, &a, &layer.attention_output)?;

            let h = backend.rms_norm(&x, &layer.mlp_norm, epsilon)?;
            let m = backend.gated_linear(&h, &layer.gate_up)?;
            x = backend.linear_all_reduce_add(x, &m, &layer.down)?;
        }
        if batch.sampled.is_empty() {
            return Ok(None);
        }
        let x = backend.sampled_rows(x)?;
        Ok(Some(backend.rms_norm(&x, &self.norm, epsilon)?))
    }
}

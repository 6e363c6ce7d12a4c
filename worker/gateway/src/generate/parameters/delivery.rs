//! What comes back, and how.

use shardrun_wire::{EngineLimits, Search, Wanted};

use crate::error::ApiError;
use crate::generate::fields::Fields;
use crate::generate::inputs::Key;
use crate::generate::value::Field;

#[derive(Clone, Copy)]
pub(in crate::generate) struct Delivery {
    /// What the engine gives beside tokens.
    pub(in crate::generate) wanted: Wanted,
    /// Whether times and blocks come back.
    pub(in crate::generate) perf_metrics: bool,
    /// Whether the whole answer begins with the prompt.
    pub(in crate::generate) include_prompt: bool,
    /// Whether pieces come as they are generated.
    pub(in crate::generate) stream: bool,
    /// Whether each piece has all before it, too.
    pub(in crate::generate) all_so_far: bool,
}

impl Delivery {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let flag = |key| fields.field(key).flag();
        Ok(Self {
            wanted: Wanted {
                log_probs: flag(Key::ReturnLogProbs)?,
                context_logits: flag(Key::ReturnContextLogits)?,
                generation_logits: flag(Key::ReturnGenerationLogits)?,
            },
            perf_metrics: flag(Key::ReturnPerfMetrics)?,
            include_prompt: !flag(Key::ExcludeInput)?,
            stream: flag(Key::Stream)?,
            all_so_far: flag(Key::ReturnAll)?,
        })
    }

    /// Checks that no more logits are asked for than an engine keeps for a request.
    ///
    /// # Errors
    /// With the number of rows, and how many there may be.
    pub(in crate::generate) fn check_rows(
        self,
        prompt_tokens: usize,
        max_tokens: u32,
        search: &Search,
        limits: &EngineLimits,
    ) -> Result<(), ApiError> {
        let context = if self.wanted.context_logits { prompt_tokens as u64 } else { 0 };
        let generation = if self.wanted.generation_logits {
            u64::from(max_tokens) * u64::from(search.sequences())
        } else {
            0
        };
        let (rows, limit) = (context + generation, u64::from(limits.max_logits_rows));
        if rows <= limit {
            return Ok(());
        }
        let name = match self.wanted.generation_logits {
            true => "return_generation_logits",
            false => "return_context_logits",
        };
        let allowed = format!(
            "at most {limit} rows of logits, and the request asks for {rows}: {context} of its \
             prompt and {generation} of what it may generate"
        );
        Err(Field { name, json: Some("true") }.refused(allowed))
    }
}

//! A request in the engine, seen as text that comes piece by piece.

use std::sync::Arc;

use shardrun_wire::{EngineClient, FinishReason, Output, OutputStream, Request, RequestId};

use crate::Detokenize;
use crate::account::Account;
use crate::error::ApiError;
use crate::stop::StopWords;

/// A request that the engine runs. Dropped before its end, as when the client leaves, it is
/// cancelled.
pub(crate) struct Completion {
    running: Running,
    /// Taken by the last output.
    detokenizer: Option<Box<dyn Detokenize>>,
    stop: StopWords,
}

impl Completion {
    /// Hands `request` to the engine.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub(crate) fn start(
        engine: &Arc<dyn EngineClient>,
        request: Request,
        detokenizer: Box<dyn Detokenize>,
        stop: StopWords,
        account: Account,
    ) -> Result<Self, ApiError> {
        let id = request.id;
        let outputs = engine.submit(request).inspect_err(|refused| account.refused(refused))?;
        let running =
            Running { engine: engine.clone(), id, outputs, seen: 0, account, ended: false };
        Ok(Self { running, detokenizer: Some(detokenizer), stop })
    }

    /// The text that the next iteration brought, possibly none of it; `None` after the last.
    ///
    /// # Errors
    /// If the engine failed; nothing comes after that.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, ApiError> {
        let Some(output) = self.running.next().await? else { return Ok(None) };
        let mut text = String::new();
        if let Some(detokenizer) = &mut self.detokenizer {
            text.extend(output.tokens.iter().map(|&token| detokenizer.push(token)));
        }
        if output.finish.is_some()
            && let Some(detokenizer) = self.detokenizer.take()
        {
            text += &detokenizer.finish();
        }
        if self.stop.cut(&mut text) || output.finish.is_some() {
            self.running.complete(output.finish.is_none());
        }
        Ok(Some(text))
    }

    /// A response goes out.
    pub(crate) fn responded(&mut self) {
        self.running.account.responded();
    }
}

/// The engine's side of it: outputs in order, and the certainty that it ends.
struct Running {
    engine: Arc<dyn EngineClient>,
    id: RequestId,
    outputs: OutputStream,
    /// Generated tokens received.
    seen: u32,
    account: Account,
    ended: bool,
}

impl Running {
    /// The next output, with only tokens that were not seen before; `None` after the end.
    async fn next(&mut self) -> Result<Option<Output>, ApiError> {
        if self.ended {
            return Ok(None);
        }
        let Some(mut output) = self.outputs.recv().await else {
            return Err(self.fail(ApiError::EngineLost));
        };
        if output.index > self.seen {
            return Err(self.fail(ApiError::EngineLost));
        }
        let repeated = ((self.seen - output.index) as usize).min(output.tokens.len());
        output.tokens.drain(..repeated);
        self.seen += output.tokens.len() as u32;
        match output.finish {
            Some(FinishReason::Cancelled) => {
                self.ended = true;
                self.account.cancelled();
                Err(ApiError::Cancelled)
            }
            Some(FinishReason::Failed(why)) => Err(self.fail(ApiError::EngineFailed(why))),
            Some(FinishReason::EndId | FinishReason::Length) | None => Ok(Some(output)),
        }
    }

    /// All that was asked for is there; the engine may still be generating.
    fn complete(&mut self, generating: bool) {
        self.ended = true;
        self.account.succeeded();
        if generating {
            self.engine.cancel(self.id);
        }
    }

    fn fail(&mut self, error: ApiError) -> ApiError {
        self.ended = true;
        self.account.failed();
        // The engine may have gone, or sends what makes no sense.
        self.engine.cancel(self.id);
        error
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.engine.cancel(self.id);
            self.account.cancelled();
        }
    }
}

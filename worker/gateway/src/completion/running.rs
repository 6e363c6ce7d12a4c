//! The engine's side of a completion: the certainty that it ends, and is counted once.

use std::sync::Arc;

use shardrun_wire::{EngineClient, FinishReason, Refused, RequestId};

use crate::account::Account;
use crate::error::{ApiError, TimeLimit};
use crate::named::Named;

/// A request that the engine may be running. Dropped before its end, it is cancelled.
pub(super) struct Running {
    engine: Arc<dyn EngineClient>,
    id: RequestId,
    limit: TimeLimit,
    account: Account,
    /// Goes when it ends.
    named: Option<Named>,
    ended: bool,
}

impl Running {
    pub(super) fn new(
        engine: Arc<dyn EngineClient>,
        id: RequestId,
        limit: TimeLimit,
        account: Account,
        named: Option<Named>,
    ) -> Self {
        Self { engine, id, limit, account, named, ended: false }
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn responded(&mut self) {
        self.account.responded();
    }

    /// The engine did not take it.
    pub(super) fn refused(&mut self, refused: Refused) -> ApiError {
        self.end();
        self.account.refused(&refused);
        refused.into()
    }

    /// Whether a sequence's end is what was asked for.
    ///
    /// # Errors
    /// If it isn't; the request has ended then.
    pub(super) fn judge(&mut self, reason: FinishReason) -> Result<(), ApiError> {
        let error = match reason {
            FinishReason::EndId | FinishReason::StopWords | FinishReason::Length => return Ok(()),
            FinishReason::Cancelled => {
                self.account.cancelled();
                ApiError::Cancelled
            }
            FinishReason::TimedOut => {
                self.account.failed();
                ApiError::TimedOut { limit: self.limit }
            }
            FinishReason::Expired => {
                self.account.rejected();
                ApiError::Expired
            }
            FinishReason::Failed(why) => return Err(self.fail(ApiError::EngineFailed(why))),
        };
        self.end();
        Err(error)
    }

    /// All that was asked for is there; the engine may still be generating.
    pub(super) fn complete(&mut self, generating: bool) {
        self.end();
        self.account.succeeded();
        if generating {
            self.engine.cancel(self.id);
        }
    }

    /// The engine is gone, or sends what makes no sense.
    pub(super) fn lost(&mut self) -> ApiError {
        self.fail(ApiError::EngineLost)
    }

    fn fail(&mut self, error: ApiError) -> ApiError {
        self.end();
        self.account.failed();
        self.engine.cancel(self.id);
        error
    }

    fn end(&mut self) {
        self.ended = true;
        self.named.take();
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

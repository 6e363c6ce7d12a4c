//! The engine on a line that its leader dials, since a supervisor on another node can't reach the
//! leader's socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::watch;

use super::server::Session;
use super::{PATIENCE, SocketEngine};
use crate::lifeline::RankId;
use crate::lifeline::opening::{self, Opening};
use crate::line::{AsyncReader, AsyncWriter, Line};
use crate::{Address, EngineClient, Secret, SocketError};

/// The leader's end: one line to the watcher of its lifeline, beside that.
#[derive(Debug)]
pub struct EngineLink {
    line: Line,
}

/// The watcher's end, as it comes with [`Event::Engine`](crate::lifeline::Event::Engine).
#[derive(Debug)]
pub struct EngineStream {
    line: Line,
}

impl EngineLink {
    /// Dials the watcher, and says whose engine this will be. Blocks until that is welcome. The engine
    /// should be served within a few seconds, since the watcher waits for it.
    ///
    /// # Errors
    /// As [`Link::connect`](crate::lifeline::Link::connect).
    pub fn dial(
        address: &Address,
        secret: Option<&Secret>,
        id: RankId,
    ) -> Result<Self, SocketError> {
        let line = opening::dial(address, secret, &Opening::Engine(id))?;
        Ok(Self { line })
    }

    /// Serves `engine` until the watcher leaves or `end` comes; then no request is taken any more, and
    /// the running ones may end. To end at once, drop the future: all requests are cancelled then, as
    /// they are when the watcher leaves, or gives no sign of life for eight seconds. A watcher that was
    /// only stopped for so long takes the engine again on a line that is dialled anew.
    ///
    /// # Errors
    /// [`SocketError::Io`] if the line can't be used with this runtime.
    pub async fn serve(
        self,
        engine: Arc<dyn EngineClient>,
        end: impl Future<Output = ()>,
    ) -> Result<(), SocketError> {
        self.serve_with(PATIENCE, engine, end).await
    }

    pub(super) async fn serve_with(
        self,
        patience: Duration,
        engine: Arc<dyn EngineClient>,
        end: impl Future<Output = ()>,
    ) -> Result<(), SocketError> {
        let (reader, writer) = self.line.into_tokio()?;
        let (ending, told) = watch::channel(false);
        let mut session = std::pin::pin!(Session::new(reader, writer, engine, told).run(patience));
        select! {
            () = &mut session => return Ok(()),
            () = end => {}
        }
        ending.send_replace(true);
        session.await;
        Ok(())
    }
}

impl EngineStream {
    pub(crate) fn new(line: Line) -> Self {
        Self { line }
    }

    /// The client of the engine. To be called within a Tokio runtime, which the connection lives in.
    ///
    /// # Errors
    /// [`SocketError::Closed`] if the leader is gone, [`SocketError::Version`], or
    /// [`SocketError::Silent`] if it says nothing for some seconds.
    pub async fn into_client(self) -> Result<SocketEngine, SocketError> {
        let (reader, writer) = self.into_halves()?;
        SocketEngine::over(reader, writer, PATIENCE).await
    }

    pub(super) fn into_halves(self) -> io::Result<(AsyncReader, AsyncWriter)> {
        self.line.into_tokio()
    }
}

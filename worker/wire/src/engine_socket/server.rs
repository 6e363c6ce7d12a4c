//! The engine's end.

mod feed;
mod session;

use std::os::unix::net as blocking;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use super::{PATIENCE, unix};
use crate::unix::{SocketFile, bind_failed, listen};
use crate::{EngineClient, SocketError};
pub(super) use session::Session;

/// After a connection could not be taken, as when there are no descriptors left.
const REST: Duration = Duration::from_millis(100);

/// Offers an engine to this user's processes on a Unix socket, which is removed with the server.
///
/// The engine sees requests under ids of the server's own, from 2^63 on, so clients may number theirs as
/// they like. A client that leaves, or gives no sign of life for eight seconds as when its process is
/// stopped, has its requests cancelled; until then it delays nobody but itself.
#[derive(Debug)]
pub struct EngineServer {
    listener: blocking::UnixListener,
    file: SocketFile,
    /// How long a client may be silent.
    pub(super) patience: Duration,
}

impl EngineServer {
    /// Listens at `path`, with mode 0600, in a folder that only this user can enter. A socket that a
    /// dead process left there is replaced. Who connects waits until [`EngineServer::serve`].
    ///
    /// # Errors
    /// [`SocketError::OpenFolder`], [`SocketError::InUse`] if a process listens there, or
    /// [`SocketError::Bind`]; a path may have about 100 bytes.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let (listener, file) = listen(path)?;
        listener.set_nonblocking(true).map_err(|source| bind_failed(path, source))?;
        Ok(Self { listener, file, patience: PATIENCE })
    }

    /// Serves `engine` until `end` comes; then no client and no request is taken any more, and each
    /// client's connection goes on until its requests have ended and it has been told. To end at once,
    /// drop the future: all clients' requests are cancelled then.
    ///
    /// # Errors
    /// [`SocketError::Io`] if the socket can't be used with this runtime.
    pub async fn serve(
        self,
        engine: Arc<dyn EngineClient>,
        end: impl Future<Output = ()>,
    ) -> Result<(), SocketError> {
        let Self { listener, file, patience } = self;
        let listener = UnixListener::from_std(listener)?;
        let (ending, told) = watch::channel(false);
        let mut sessions = JoinSet::new();
        let mut end = std::pin::pin!(end);
        loop {
            select! {
                () = &mut end => break,
                Some(_) = sessions.join_next() => {}
                accepted = listener.accept() => {
                    match accepted.map_err(SocketError::from).and_then(|(s, _)| unix::admit(s)) {
                        Ok((reader, writer)) => {
                            let session =
                                Session::new(reader, writer, engine.clone(), told.clone());
                            sessions.spawn(session.run(patience));
                        }
                        Err(error @ SocketError::Stranger { .. }) => {
                            warn!(%error, "a client was refused");
                        }
                        Err(error) => {
                            warn!(%error, "a client could not be taken");
                            tokio::time::sleep(REST).await;
                        }
                    }
                }
            }
        }
        drop((listener, file));
        ending.send_replace(true);
        while sessions.join_next().await.is_some() {}
        Ok(())
    }
}

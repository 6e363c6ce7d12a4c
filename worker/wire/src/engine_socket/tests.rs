//! An engine that does what the test says, behind real sockets.

mod bounds;
mod ends;
mod engine;
mod peers;
mod requests;
mod strange_server;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{EngineServer, PATIENCE, SocketEngine, SocketError};
use crate::{FinishReason, Finished, Output, OutputSink, OutputStream, Request, RequestId, Tokens};
use engine::{FakeEngine, Said};

/// A served engine.
struct Served {
    folder: TempDir,
    engine: Arc<FakeEngine>,
    /// What the server said to the engine.
    said: Said,
    /// Tells the server to end.
    end: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), SocketError>>,
}

impl Served {
    fn start() -> Self {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> Self {
        let folder = private_folder();
        let (engine, said) = FakeEngine::new();
        let mut server = EngineServer::bind(&folder.path().join("engine")).unwrap();
        server.patience = patience;
        let (end, told) = oneshot::channel::<()>();
        let told = async { drop(told.await) };
        let server = tokio::spawn(server.serve(engine.clone(), told));
        Self { folder, engine, said, end: Some(end), server }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("engine")
    }

    async fn client(&self) -> SocketEngine {
        soon(SocketEngine::connect(&self.path())).await.unwrap()
    }
}

/// A folder that only this user can enter.
fn private_folder() -> TempDir {
    let mode = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

/// Waits for what must come.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it came in time")
}

/// Waits for what must become true.
async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn request(id: u64, max_tokens: u32) -> Request {
    Request::new(RequestId(id), vec![1, 2, 3], max_tokens)
}

fn finished(sequence: u32) -> Finished {
    Finished { sequence, reason: FinishReason::Length, score: None, account: None }
}

fn tokens(index: u32, tokens: &[u32]) -> Output {
    Output::Tokens(Tokens { sequence: 0, index, tokens: tokens.to_vec(), log_probs: Vec::new() })
}

fn push(sink: &OutputSink, tokens: impl IntoIterator<Item = u32>) {
    for token in tokens {
        sink.push(0, token, 0.0);
    }
    sink.publish();
}

fn finish(sink: &OutputSink) {
    sink.finish(finished(0));
    sink.publish();
}

/// All that comes, tokens put together, and whether the request ended.
async fn read_all(stream: &mut OutputStream) -> (Vec<u32>, bool) {
    let mut all = Vec::new();
    while let Some(output) = soon(stream.next()).await {
        if let Output::Tokens(tokens) = output {
            assert_eq!(tokens.index as usize, all.len());
            all.extend(tokens.tokens);
        }
    }
    (all, stream.is_finished())
}

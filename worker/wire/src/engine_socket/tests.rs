//! An engine that does what the test says, behind real sockets: its own, or lines that its leader
//! dialled.

/// Makes of each story two tests, one over each.
macro_rules! both_ways {
    ($($story:ident),+ $(,)?) => {
        mod over_its_socket {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::Way::Socket).await;
            })+
        }
        mod over_links {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::Way::Link).await;
            })+
        }
    };
}

mod bounds;
mod ends;
mod engine;
mod links;
mod peers;
mod requests;
mod served;
mod strange_server;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{EngineServer, PATIENCE, SocketEngine};
use crate::{
    FinishReason, Finished, Output, OutputSink, OutputStream, Request, RequestId, SocketError,
    Tokens,
};
use engine::{FakeEngine, Said};
use served::{Served, Way};

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

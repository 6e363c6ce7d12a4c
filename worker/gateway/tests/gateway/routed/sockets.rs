//! Instances in other processes, as far as their connections can tell.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shardrun_metrics::ModelLabel;
use shardrun_wire::{EngineClient, EngineServer, Search, SocketEngine};
use tokio::task::JoinHandle;

use super::deaths::{CONFIG, SharedLog, dying, long, routed};
use super::reader::{EVERYTHING, Read};
use super::scripted::{Death, Scripted};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("shardrun_test_routed_{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    /// Serves an engine until the task is ended, and connects to it.
    async fn serve(&self, name: &str, engine: Arc<Scripted>) -> (JoinHandle<()>, SocketEngine) {
        let path = self.0.join(name);
        let server = EngineServer::bind(&path).unwrap();
        let serving = tokio::spawn(async move {
            server.serve(engine, std::future::pending()).await.unwrap();
        });
        (serving, SocketEngine::connect(&path).await.unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[tokio::test]
async fn streams_go_on_after_a_connection_has_ended() {
    let folder = Folder::new();
    let log = SharedLog::default();
    let engine = Arc::new(routed(CONFIG));
    let (serving, client) = folder.serve("0", dying(&log, Death::Silent)).await;
    engine.attach(0, Arc::new(client));
    let streams: Vec<_> = (1..=32)
        .map(|id| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut request = long(id);
                request.wanted = EVERYTHING;
                request.search = Search::Sample { sequences: 2 };
                let mut outputs = engine.submit(request.clone()).await.unwrap();
                let mut read = Read::of(&request);
                read.until(&mut outputs, 5).await;
                (read, outputs)
            })
        })
        .collect();
    let mut begun = Vec::new();
    for stream in streams {
        begun.push(stream.await.unwrap());
    }
    serving.abort();
    let (_serving, client) = folder.serve("1", Scripted::healthy(&log)).await;
    // Nobody tells that the first is dead.
    engine.attach(1, Arc::new(client));
    for (read, outputs) in begun {
        let read = tokio::time::timeout(Duration::from_secs(20), read.rest(outputs));
        read.await.unwrap().is_whole();
    }
    let counts = engine.counts(ModelLabel::plain());
    assert_eq!((counts.instance_deaths, counts.resubmitted), (1, 32));
    assert_eq!((counts.instances_ready, counts.waiting), (1, 0));
}

//! The leader's engine on its line to the supervisor. The line may end while both live: a supervisor that
//! was stopped for a while has not been heard, or the network was away. Then it is dialled again, since
//! nobody but the leader can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use shardrun_wire::lifeline::RankId;
use shardrun_wire::{EngineClient, EngineLink, EngineState, SocketError};
use tokio::select;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::life::Dial;

/// The wait before a line is dialled again; it doubles with each time in a row.
const WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A line that has served for so long ends the row.
const LASTED: Duration = Duration::from_secs(10);

/// An engine for the supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) dial: Dial,
    /// The leader.
    pub(crate) id: RankId,
    /// Its node.
    pub(crate) host: String,
    /// For how long the supervisor may be out of reach. One that is stopped is not.
    pub(crate) patience: Duration,
}

impl Offer {
    /// Opens a line. Blocks until the supervisor has answered.
    pub(crate) fn open(&self) -> anyhow::Result<EngineLink> {
        self.dial.offer_engine(self.id, &self.host)
    }

    /// Serves `engine` on `link`, and on further lines whenever one has ended, until the end is told.
    ///
    /// # Errors
    /// Why the supervisor can't be reached any more.
    pub(crate) async fn serve(
        self,
        mut link: EngineLink,
        engine: Arc<dyn EngineClient>,
        ended: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut wait = WAIT;
        loop {
            let began = Instant::now();
            let served = link.serve(engine.clone(), over(ended.clone())).await;
            // A supervisor that knows that the engine has ended may leave first.
            if *ended.borrow() || engine.state() == EngineState::Stopped {
                return Ok(());
            }
            let why = served.err().map_or_else(String::new, |error| format!(": {error}"));
            warn!("the engine's line to the supervisor has ended{why}; dialling again");
            if began.elapsed() > LASTED {
                wait = WAIT;
            }
            select! {
                () = over(ended.clone()) => return Ok(()),
                opened = self.open_again(&mut wait) => link = opened?,
            }
            info!("the engine has a line to the supervisor again");
        }
    }

    async fn open_again(&self, wait: &mut Duration) -> anyhow::Result<EngineLink> {
        let mut out_of_reach: Option<Instant> = None;
        loop {
            tokio::time::sleep(*wait).await;
            *wait = (2 * *wait).min(LONGEST_WAIT);
            let offer = self.clone();
            let opened = tokio::task::spawn_blocking(move || offer.open()).await;
            let error = match opened.context("dialling the supervisor panicked")? {
                Ok(link) => return Ok(link),
                Err(error) => error,
            };
            match error.downcast_ref::<SocketError>() {
                Some(SocketError::Refused { .. }) => return Err(error),
                // It will go on some day, and nothing is lost until then.
                Some(SocketError::Silent { .. }) => out_of_reach = None,
                _ => {
                    let since = *out_of_reach.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.patience {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Until the end is told.
pub(crate) async fn over(mut ended: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end, too.
    let _ = ended.wait_for(|&ended| ended).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::mpsc::{Receiver, channel};

    use shardrun_engine::{LocalEngine, local_engine};
    use shardrun_wire::lifeline::{Event, Watch};
    use shardrun_wire::{BindTo, EngineStream, Listener};
    use tempfile::TempDir;
    use tokio::runtime::Runtime;
    use tokio::task::JoinHandle;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A supervisor that takes engines, and a leader that has offered its own.
    struct Story {
        runtime: Runtime,
        watch: Watch,
        events: Receiver<Event>,
        end: watch::Sender<bool>,
        serving: JoinHandle<anyhow::Result<()>>,
        _engine: LocalEngine,
        _folder: TempDir,
    }

    impl Story {
        fn begin() -> Self {
            let mode = std::fs::Permissions::from_mode(0o700);
            let folder = tempfile::Builder::new().permissions(mode).tempdir().unwrap();
            let listener = Listener::bind(&BindTo::Unix(folder.path().join("lifeline"))).unwrap();
            let host = "here".to_owned();
            let addresses = vec![listener.address()];
            let dial = Dial { addresses, host: host.clone(), secret: None };
            let (sender, events) = channel();
            let watch = Watch::listen(listener, sender, |event| event).unwrap();
            watch.expect(0, 0);
            let id = RankId { instance: 0, attempt: 0, rank: 0 };
            let offer = Offer { dial, id, host, patience: Duration::from_millis(300) };
            let (engine, _) = local_engine();
            let (end, told) = watch::channel(false);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let link = offer.open().unwrap();
            let serving = runtime.spawn(offer.serve(link, Arc::new(engine.clone()), told));
            Self { runtime, watch, events, end, serving, _engine: engine, _folder: folder }
        }

        /// The next engine that is offered.
        fn offered(&self) -> EngineStream {
            match self.events.recv_timeout(LONG).unwrap() {
                Event::Engine { engine, .. } => engine,
                other => panic!("{other:?}"),
            }
        }

        fn end_of(
            runtime: &Runtime,
            serving: JoinHandle<anyhow::Result<()>>,
        ) -> anyhow::Result<()> {
            runtime.block_on(async { tokio::time::timeout(LONG, serving).await.unwrap().unwrap() })
        }
    }

    #[test]
    fn a_line_that_ends_is_dialled_again_until_nobody_is_there() {
        let story = Story::begin();
        for _ in 0..3 {
            drop(story.offered());
        }
        let last = story.offered();
        drop(story.watch);
        assert!(!story.serving.is_finished());
        drop(last);
        let error = Story::end_of(&story.runtime, story.serving).unwrap_err().to_string();
        assert!(error.starts_with("cannot reach the supervisor: can't connect to "), "{error}");
    }

    #[test]
    fn an_engine_that_is_refused_is_not_offered_any_more() {
        let story = Story::begin();
        let first = story.offered();
        story.watch.expect(0, 1);
        drop(first);
        let error = Story::end_of(&story.runtime, story.serving).unwrap_err().to_string();
        assert!(error.contains(" refused the connection: "), "{error}");
    }

    #[test]
    fn the_end_is_no_reason_to_dial() {
        let story = Story::begin();
        let offered = story.offered();
        story.end.send(true).unwrap();
        drop(offered);
        Story::end_of(&story.runtime, story.serving).unwrap();
        assert!(story.events.try_recv().is_err());
    }
}

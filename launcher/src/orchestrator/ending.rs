//! The end of a model that is unloaded or replaced.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::time::timeout;

use super::lineup::{Served, Stage};
use super::scraped::Scraped;
use crate::supervisor::Event;

/// How much longer than their drain timeout instances may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// Ends models.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) scraped: Arc<Scraped>,
    pub(super) events: Sender<Event>,
    /// What instances get to end.
    pub(super) drain_timeout: Duration,
}

impl Ending {
    /// Lets a model's requests finish, however long they take, and ends its instances. What it has counted
    /// goes to its `heir`. When the whole deployment ends, so does this.
    pub(super) async fn end(&self, served: &Arc<Served>, heir: Option<&Arc<Served>>) {
        served.engine.drain();
        served.engine.idle().await;
        served.ends();
        for &instance in &served.instances {
            // The receiver is gone when the whole deployment ends.
            let _ = self.events.send(Event::Remove { instance });
        }
        let gone = served.reaches(|stage| *stage == Stage::Gone);
        let _ = timeout(self.drain_timeout + GONE, gone).await;
        served.engine.close("the model was unloaded");
        self.scraped.leaves(served, heir);
    }
}

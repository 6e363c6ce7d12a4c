//! What a scrape of the orchestrator's metrics looks at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shardrun_metrics::{PageOf, RankPages, RouteOf};

use super::lineup::{Lineup, Served};

/// The pages of the gateway's models, and of their ranks, wherever those run.
pub(super) struct Scraped {
    lineup: Arc<Lineup>,
    /// This node's name.
    host: String,
    /// What shared-memory names of the run begin with.
    prefix: String,
    /// By instance.
    ranks: Mutex<BTreeMap<u32, RankPages>>,
}

impl Scraped {
    pub(super) fn new(lineup: Arc<Lineup>, host: String, prefix: String) -> Self {
        Self { lineup, host, prefix, ranks: Mutex::default() }
    }

    /// All in the Prometheus text format.
    pub(super) fn render(&self) -> String {
        let models = self.lineup.models();
        let gateway = models.iter().map(|served| PageOf {
            model: served.label.clone(),
            rank: None,
            page: served.page.clone(),
        });
        // Held to the end: what a page has counted must not move while it is read.
        let ranks = self.ranks();
        let pages: Vec<PageOf> = gateway.chain(ranks.values().flat_map(RankPages::pages)).collect();
        let routes = models.iter().map(|served| served.engine.counts(served.label.clone()));
        shardrun_metrics::render_routed(&pages, &routes.collect::<Vec<RouteOf>>())
    }

    /// The ranks of an instance have made their pages.
    pub(super) fn opened(&self, instance: u32, served: &Served) {
        let prefix = format!("{}i{instance}_", self.prefix);
        let mut ranks = self.ranks();
        of(&mut ranks, instance, served).open(&prefix, &self.host, served.model.tp_size);
    }

    /// A rank on another node has said what it has counted.
    pub(super) fn heard(&self, instance: u32, rank: u32, node: &str, words: &[u64]) {
        if let Some(served) = self.lineup.of(instance) {
            of(&mut self.ranks(), instance, &served).heard(rank, node, words);
        }
    }

    /// Nothing is left of an instance; what its ranks have counted stays counted.
    pub(super) fn closed(&self, instance: u32) {
        let mut ranks = self.ranks();
        let gone = ranks.remove(&instance);
        if let Some(served) = self.lineup.of(instance) {
            for of_rank in gone.iter().flat_map(RankPages::pages) {
                served.page.absorb(&of_rank.page);
            }
        }
    }

    fn ranks(&self) -> MutexGuard<'_, BTreeMap<u32, RankPages>> {
        self.ranks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of<'a>(
    ranks: &'a mut BTreeMap<u32, RankPages>,
    instance: u32,
    served: &Served,
) -> &'a RankPages {
    ranks.entry(instance).or_insert_with(|| RankPages::new(served.label.clone(), Some(instance)))
}

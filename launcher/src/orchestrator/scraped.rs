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
        // Held to the end: what a page has counted must not move while it is read.
        let ranks = self.ranks();
        let models = self.lineup.models();
        let mut pages: Vec<PageOf> = ranks.values().flat_map(RankPages::pages).collect();
        for served in &models {
            // A model and the one that takes its place have one page.
            if !pages.iter().any(|of| Arc::ptr_eq(&of.page, &served.page)) {
                let (model, page) = (served.label.clone(), served.page.clone());
                pages.push(PageOf { model, rank: None, page });
            }
        }
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

    /// A model leaves. What it has counted goes to its heir, if it has one, from one scrape to the next.
    pub(super) fn leaves(&self, served: &Arc<Served>, heir: Option<&Arc<Served>>) {
        let _no_scrape = self.ranks();
        if let Some(heir) = heir {
            heir.engine.inherit(&served.engine);
        }
        self.lineup.leave(served);
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

//! What a scrape of the orchestrator's metrics looks at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shardrun_metrics::{MetricsPage, PageOf, RankOf, RouteOf};

use super::lineup::{Lineup, Served};

/// The pages of the gateway's models, and of the ranks that run on this node.
pub(super) struct Scraped {
    lineup: Arc<Lineup>,
    /// The node's name.
    host: String,
    /// What shared-memory names of the run begin with.
    prefix: String,
    /// By instance.
    ranks: Mutex<BTreeMap<u32, Vec<PageOf>>>,
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
        let pages: Vec<PageOf> = gateway.chain(ranks.values().flatten().cloned()).collect();
        let routes = models.iter().map(|served| served.engine.counts(served.label.clone()));
        shardrun_metrics::render_routed(&pages, &routes.collect::<Vec<RouteOf>>())
    }

    /// The ranks of an instance have made their pages.
    pub(super) fn opened(&self, instance: u32, served: &Served) {
        let prefix = format!("{}i{instance}_", self.prefix);
        let pages = (0..served.model.tp_size).filter_map(|rank| {
            // A rank on another node has no page here.
            let page = Arc::new(MetricsPage::open(&prefix, rank).ok()?);
            let rank = rank as u32;
            let node = self.host.clone();
            let rank = RankOf { instance: Some(instance), rank, tp_rank: rank, node };
            Some(PageOf { model: served.label.clone(), rank: Some(rank), page })
        });
        let pages = pages.collect();
        self.ranks().insert(instance, pages);
    }

    /// Nothing is left of an instance; what its ranks have counted stays counted.
    pub(super) fn closed(&self, instance: u32) {
        let mut ranks = self.ranks();
        let gone = ranks.remove(&instance);
        if let Some(served) = self.lineup.of(instance) {
            for of_rank in gone.into_iter().flatten() {
                served.page.absorb(&of_rank.page);
            }
        }
    }

    fn ranks(&self) -> MutexGuard<'_, BTreeMap<u32, Vec<PageOf>>> {
        self.ranks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

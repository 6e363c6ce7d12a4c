//! The pages of an instance's ranks, wherever they run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{MetricsPage, ModelLabel, PageOf, RankOf};

/// What is known of the pages of one instance's ranks: those of this node as they are, of others
/// copies, as new as what was last heard.
#[derive(Debug)]
pub struct RankPages {
    model: ModelLabel,
    instance: Option<u32>,
    /// By rank.
    pages: Mutex<BTreeMap<u32, PageOf>>,
}

impl RankPages {
    /// No page yet, of an instance that serves `model`; with its number if there are several.
    #[must_use]
    pub fn new(model: ModelLabel, instance: Option<u32>) -> Self {
        Self { model, instance, pages: Mutex::default() }
    }

    /// Maps the pages that ranks below `size` have made on this node, which is called `node`.
    pub fn open(&self, prefix: &str, node: &str, size: usize) {
        let mut pages = self.lock();
        for rank in 0..size {
            // A rank on another node has no page here.
            if let Ok(page) = MetricsPage::open(prefix, rank) {
                pages.insert(rank as u32, self.page_of(rank as u32, node, page));
            }
        }
    }

    /// A rank on another node has said what is in its page. Words of another build are left out.
    pub fn heard(&self, rank: u32, node: &str, words: &[u64]) {
        let mut pages = self.lock();
        let of =
            pages.entry(rank).or_insert_with(|| self.page_of(rank, node, MetricsPage::in_memory()));
        of.page.set_words(words);
    }

    /// All of them, in order.
    #[must_use]
    pub fn pages(&self) -> Vec<PageOf> {
        self.lock().values().cloned().collect()
    }

    fn page_of(&self, rank: u32, node: &str, page: MetricsPage) -> PageOf {
        let of = RankOf { instance: self.instance, rank, tp_rank: rank, node: node.to_owned() };
        PageOf { model: self.model.clone(), rank: Some(of), page: Arc::new(page) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, PageOf>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Counter, Gauge, Histogram, Iteration, render};

    #[test]
    fn ranks_of_other_nodes_are_shown_as_they_were_last_heard() {
        let prefix = format!("shardrun_test_{}_ranks_", std::process::id());
        let (here, far) =
            (MetricsPage::create(&prefix, 0).unwrap(), MetricsPage::create(&prefix, 9).unwrap());
        let pages = RankPages::new(ModelLabel::plain(), Some(4));
        here.counter(Counter::Iterations).add(2);
        far.counter(Counter::Iterations).add(3);
        far.gauge(Gauge::LoadUs).set(1_500_000);
        far.histogram(Histogram::IterationUs).observe(1);
        far.publish(&Iteration { waiting_requests: 7, ..Iteration::default() });
        // What was heard before the others are opened stays.
        pages.heard(1, "far", &far.words_now());
        pages.open(&prefix, "here", 2);
        let text = render(&pages.pages());
        for line in [
            "shardrun_rank_iterations_total{instance=\"4\",model=\"tensorrt_llm\",node=\"here\",rank=\"0\",tp_rank=\"0\"} 2",
            "shardrun_rank_iterations_total{instance=\"4\",model=\"tensorrt_llm\",node=\"far\",rank=\"1\",tp_rank=\"1\"} 3",
            "shardrun_rank_load_seconds{instance=\"4\",model=\"tensorrt_llm\",node=\"far\",rank=\"1\",tp_rank=\"1\"} 1.5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(
            text.contains(
                "shardrun_iteration_seconds_count{model=\"tensorrt_llm\",version=\"1\"} 1"
            )
        );
        assert_eq!(pages.pages()[1].page.iteration().unwrap().waiting_requests, 7);

        far.counter(Counter::Iterations).add(1);
        pages.heard(1, "far", &far.words_now());
        pages.heard(1, "far", &[1, 2, 3]);
        let heard = pages.pages()[1].page.clone();
        assert_eq!(heard.counter(Counter::Iterations).get(), 4);
    }
}

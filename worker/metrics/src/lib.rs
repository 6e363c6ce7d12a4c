//! What a deployment counts: one page of words in shared memory per process, written without locks
//! by whoever counts, and the Prometheus text that a scrape makes of all pages of a node.
//!
//! Nothing here serves HTTP, and nothing here decides what is counted when: the engine, the ranks
//! and the gateway do.

mod exposition;
mod iteration;
mod layout;
pub mod names;
mod page;
mod ranks;
mod route;
mod text;

pub use iteration::Iteration;
pub use layout::{Counter, Gauge, Histogram, Model, ModelCounter, ModelLabel};
pub use page::{CounterCell, GaugeCell, HistogramCell, MetricsPage};
pub use ranks::RankPages;
pub use route::RouteOf;
pub use text::{CONTENT_TYPE, PageOf, RankOf, render, render_routed};

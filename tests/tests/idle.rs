//! Ranks with nothing to do sleep.

use std::time::{Duration, Instant};

use anyhow::ensure;
use shardrun_tests::{Setup, cpu_seconds, model};

/// What four idle ranks may use of a core, all together.
const LIMIT: f64 = 0.02;
/// How long they are watched.
const WATCH: Duration = Duration::from_secs(10);

fn four_idle_ranks(collectives: &str) -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let setup = Setup::new(&model)?.set("model.tp_size", 4).set("model.collectives", collectives);
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    // Ranks that have worked are idle in another way than those that never have.
    client.generate(&serde_json::json!({"text_input": "Hello", "max_tokens": 8}))?;
    let ranks = deployment.rank_pids();
    ensure!(ranks.len() == 4, "{:?}", deployment.processes());
    let used = || ranks.iter().map(|&pid| cpu_seconds(pid)).sum::<anyhow::Result<f64>>();
    let (began, before) = (Instant::now(), used()?);
    std::thread::sleep(WATCH);
    let share = (used()? - before) / began.elapsed().as_secs_f64();
    println!("four idle ranks over {collectives}: {:.2} % of a core", share * 100.0);
    ensure!(share < LIMIT, "{collectives}: {:.2} % of a core", share * 100.0);
    Ok(())
}

#[test]
fn four_idle_ranks_sleep_over_shared_memory() -> anyhow::Result<()> {
    four_idle_ranks("shm")
}

#[test]
fn four_idle_ranks_sleep_over_mpi() -> anyhow::Result<()> {
    four_idle_ranks("mpi")
}

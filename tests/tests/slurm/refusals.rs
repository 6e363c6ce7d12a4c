//! Deployments that can't be: each is refused with numbers and names, and nothing is left.

use anyhow::ensure;
use serde_json::{Value, json};
use shardrun_tests::slurm::User;

use super::site::Site;

/// What is wrong, and what is said of it.
type Case = (Vec<(&'static str, Value)>, &'static str, &'static str);

#[test]
fn what_an_allocation_has_not_is_refused() -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    let cases: [Case; 5] = [
        (
            vec![("model.tp_size", json!(3))],
            "",
            "the deployment has 3 ranks (t: 3) and the allocation has room for 2: 1 on n1, 1 on n2",
        ),
        (
            vec![("launch.interface", json!("ib9"))],
            "",
            "launch.interface is \"ib9\"; this machine (n1) has lo (127.0.0.1), eth0 (",
        ),
        // As the job's own variable would be after --mem=50M.
        (Vec::new(), "SLURM_MEM_PER_NODE=50 ", "the share of n1 (1 rank) needs"),
        (vec![("model.source", json!("/nowhere/model.gguf"))], "", "/nowhere/model.gguf"),
        (Vec::new(), "SHARDRUN_WORKER=/nowhere/shardrun-worker ", "there is no shardrun-worker"),
    ];
    for (keys, variables, sentence) in cases {
        let file = site.file(User::Ada, &keys)?;
        let script = format!("{variables}shardrun serve {}", file.display());
        let options = ["--nodes=2", "--ntasks-per-node=1"];
        let batch = site.job(User::Ada, &options, &script)?;
        let job = batch.end()?;
        let said = batch.said();
        ensure!(job.field("ExitCode") == "1:0", "{job:?}\n{said}");
        ensure!(said.matches(sentence).count() == 1, "not one {sentence:?}:\n{said}");
        ensure!(!said.contains("panicked") && !said.contains(" is ready"), "{said}");
        site.nothing_left()?;
    }
    Ok(())
}

/// The batch node has the file, the other one has not.
#[test]
fn a_model_that_one_node_lacks_is_named_with_the_node() -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    let keys = [("model.source", json!("/tmp/model.gguf")), ("model.tp_size", json!(2))];
    let file = site.file(User::Ada, &keys)?;
    let script = format!(
        "cp model.gguf /tmp\nshardrun serve {}\ncode=$?\nrm /tmp/model.gguf\nexit $code",
        file.display()
    );
    let options = ["--nodes=2", "--ntasks-per-node=1"];
    let batch = site.job(User::Ada, &options, &script)?;
    let job = batch.end()?;
    let sentence = "cannot load the model on n2: cannot open /tmp/model.gguf";
    ensure!(job.field("ExitCode") == "1:0", "{job:?}\n{}", batch.said());
    ensure!(batch.said().matches(sentence).count() == 1, "not one {sentence:?}:\n{}", batch.said());
    site.nothing_left()
}

//! What is not tried for ever: a request that its instances die with, an instance that can't start.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use shardrun_tests::{Client, Role, model, until};

use super::streams::{Asked, Playing, expect_same};
use super::{BACK, END, Spawner, endless, hit, one_of_each, until_ready};

/// Restarts in a row.
const MOST: u32 = 2;

fn requests_that_see_two_deaths(spawner: Spawner) -> anyhow::Result<()> {
    let Some(setup) = one_of_each(spawner)? else { return Ok(()) };
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    let long = |text| Asked { model: "alpha", request: endless(text, 1000) };
    let short = |model| Asked { model, request: endless("Once upon a time", 24) };
    let expected = Playing::begin(&client, &[short("alpha")]).finish()?;

    let poisonous = Playing::begin(&client, &[long("A"), long("B")]);
    let beta = Playing::begin(&client, &[Asked { model: "beta", request: endless("C", 400) }]);
    poisonous.until_come(2, "alpha", 10)?;
    hit(&deployment, 0, Role::Rank(1), SIGKILL)?;
    until("the death to be noticed", END, || {
        let metrics = client.metrics()?;
        Ok(metrics.value("shardrun_instance_deaths_total", &[super::ALPHA])? == 1.0)
    })?;
    // They go on in the instance that is started again, beside a request that has seen no death.
    let innocent = Playing::begin(&client, &[short("alpha")]);
    let resubmitted = || {
        let metrics = client.metrics()?;
        Ok(metrics.value("shardrun_requests_resubmitted_total", &[super::ALPHA])? == 2.0)
    };
    until("the streams to go on", BACK, resubmitted)?;
    innocent.until_come(1, "alpha", 2)?;
    hit(&deployment, 0, Role::Rank(0), SIGKILL)?;
    for end in poisonous.ends()? {
        let error = format!("{:#}", end.err().context("a stream goes on after two deaths")?);
        let sentence = "it was running in 2 instances of the model when they died";
        ensure!(error.contains(sentence), "{error}");
    }
    // That one has seen only one.
    expect_same(&innocent.finish()?, &expected)?;
    ensure!(beta.finish()?[0].came.len() > 300, "the other model's stream is whole");
    until_ready(&client, 1.0, 1.0)?;
    expect_same(&Playing::begin(&client, &[short("alpha")]).finish()?, &expected)
}

#[test]
fn a_request_is_failed_at_the_second_death_by_step() -> anyhow::Result<()> {
    requests_that_see_two_deaths(Spawner::Step)
}

#[test]
fn a_request_is_failed_at_the_second_death_by_comm_spawn() -> anyhow::Result<()> {
    requests_that_see_two_deaths(Spawner::CommSpawn)
}

fn expect_refused(client: &Client) -> anyhow::Result<()> {
    let reply = client.post("/v2/models/alpha/generate", endless("Hello", 4).to_string())?;
    let error = reply.error()?;
    let sentence = "the engine has ended: alpha has no instance any more: ";
    ensure!(reply.status == 503 && error.starts_with(sentence), "{reply:?}");
    Ok(())
}

/// A model whose file was broken while it was served: what runs has the old one, what is started again
/// can't load.
fn an_instance_that_dies_at_every_start(spawner: Spawner) -> anyhow::Result<()> {
    let (Some(setup), Some(model)) = (one_of_each(spawner)?, model()?) else { return Ok(()) };
    let file = setup.folder().join("alpha.gguf");
    std::os::unix::fs::symlink(model, &file)?;
    let deployment = setup
        .set("models.alpha.source", file.display().to_string())
        .set("supervision.max_restarts", MOST)
        .serve()?;
    let client = deployment.client()?;
    let beta = Playing::begin(&client, &[Asked { model: "beta", request: endless("C", 400) }]);
    let alpha = Playing::begin(&client, &[Asked { model: "alpha", request: endless("A", 1000) }]);
    alpha.until_come(1, "alpha", 5)?;
    std::fs::remove_file(&file)?;
    std::fs::write(&file, "no model")?;
    hit(&deployment, 0, Role::Rank(1), SIGKILL)?;

    // It was started, and then so many times more.
    until("the instance to be given up", BACK, || {
        let state = deployment.state()?;
        let alpha = &state["instances"][0];
        Ok(alpha["state"] == "given up" && alpha["restarts"] == MOST && state["stage"] == "serving")
    })
    .with_context(|| format!("{:?}", deployment.state()))?;
    let error = alpha.ends()?.remove(0).err().context("a stream of a model that is gone")?;
    let error = format!("{error:#}");
    ensure!(error.contains("alpha has no instance any more: alpha.0: "), "{error}");
    expect_refused(&client)?;
    ensure!(client.get("/v2/models/alpha/ready")?.status == 400);
    ensure!(client.get("/v2/models/beta/ready")?.status == 200);
    ensure!(client.get("/v2/health/live")?.status == 200);
    ensure!(beta.finish()?[0].came.len() > 300, "the other model's stream is whole");
    client.answer("beta", &endless("Hello", 4))?;
    let printed = deployment.stderr();
    ensure!(printed.matches("starting it again in ").count() == MOST as usize, "{printed}");
    ensure!(printed.contains("alpha.gguf"), "why is said: {printed}");

    deployment.signal(Role::Launcher, SIGTERM)?;
    deployment.wait_until_gone(END)?;
    // What was lost is said once more by the exit code.
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.code() == Some(1), "{status}");
    Ok(())
}

#[test]
fn an_instance_that_cannot_start_is_given_up_by_step() -> anyhow::Result<()> {
    an_instance_that_dies_at_every_start(Spawner::Step)
}

#[test]
fn an_instance_that_cannot_start_is_given_up_by_comm_spawn() -> anyhow::Result<()> {
    an_instance_that_dies_at_every_start(Spawner::CommSpawn)
}

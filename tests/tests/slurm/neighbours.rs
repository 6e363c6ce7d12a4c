//! Two users' deployments on one node.

use std::fs;

use anyhow::{Context as _, ensure};
use serde_json::json;
use shardrun_tests::slurm::User;

use super::site::{LONG, Site, answers, code_and_text};

#[test]
fn two_users_on_one_node_do_not_meet() -> anyhow::Result<()> {
    let Some(site) = Site::new(1)? else { return Ok(()) };
    let serve = |user, keys: &[(&str, serde_json::Value)]| {
        let file = site.file(user, keys)?;
        site.job(user, &["--ntasks=1"], &format!("exec shardrun serve {}", file.display()))
    };
    let ada = serve(User::Ada, &[])?;
    let ben = serve(User::Ben, &[])?;
    for batch in [&ada, &ben] {
        answers(&batch.client()?, "ensemble")?;
    }

    // Neither can look at what is the other's.
    let run = ada.run_dir()?;
    let shm = fs::read_dir(site.cluster.node(1)?.root().join("dev/shm"))?;
    let names: Vec<_> =
        shm.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let own =
        names.iter().find(|name| name.starts_with("shardrun_61001_") && name.ends_with("metrics"));
    let own = own.with_context(|| format!("Ada has a page among {names:?}"))?;
    for script in [
        format!("ls {}", run.display()),
        format!("cat {}/deployment.toml", run.display()),
        format!("cat /dev/shm/{own}"),
        format!("echo > /dev/shm/{own}"),
        format!("rm /dev/shm/{own}"),
        format!("cat < {}/lifeline", run.display()),
    ] {
        let mut look = site.cluster.node(1)?.command_as(User::Ben, "sh");
        look.args(["-c", &script]);
        let (code, text) = code_and_text(look)?;
        let refused = text.contains("ermission denied") || text.contains("not permitted");
        ensure!(code != Some(0) && refused, "Ben may {script:?}: {text}");
    }
    site.ada(&["scancel", &ada.id.to_string()])?;
    ada.end()?;
    answers(&ben.client()?, "ensemble")?;

    // The same port, which Ben's now has.
    let port = ben.client()?.http().rsplit_once(':').context("a port")?.1.parse::<u16>()?;
    let second = serve(User::Ada, &[("server.http_port", json!(port))])?;
    let sentence = format!(
        "cannot listen on 0.0.0.0:{port}: the port is already in use; choose another server.http_port"
    );
    second.says(&sentence, 1, LONG)?;
    let job = second.end()?;
    ensure!(job.field("ExitCode") == "1:0", "{job:?}");
    let mut cancel = site.cluster.command_as(User::Ben, "scancel");
    cancel.arg(ben.id.to_string());
    code_and_text(cancel)?;
    ben.end()?;
    site.nothing_left()
}

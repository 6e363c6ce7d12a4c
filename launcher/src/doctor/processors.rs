//! Processors that may be used, and GPUs.

use std::path::Path;

use super::Finding;
use super::ask::ask;
use crate::{nodes, programs};

pub(super) fn look() -> Vec<Finding> {
    vec![processors(), gpus()]
}

fn processors() -> Finding {
    const WHAT: &str = "processors";
    let here = match nodes::here() {
        Ok(here) => here.allocation,
        Err(error) => {
            return Finding::warning(WHAT, format!("{error:#}"), "see `nproc`");
        }
    };
    let cores = here.cores.len();
    match here.cpu_limit {
        Some(limit) => Finding::warning(
            WHAT,
            format!("{cores} are there, and the control group gives the time of {limit}"),
            "ranks are not bound so, and wait for each other: give the job or container whole \
             processors (a cpuset)",
        ),
        None => Finding::ok(WHAT, format!("{cores} may be used")),
    }
}

/// What NVIDIA's driver shows.
fn gpus() -> Finding {
    const WHAT: &str = "GPUs";
    let device = Path::new("/dev/nvidiactl").exists();
    if programs::on_path("nvidia-smi").is_none() {
        return match device {
            true => Finding::warning(
                WHAT,
                "there is /dev/nvidiactl and no nvidia-smi on PATH",
                "install the driver's programs, or let the container bring them in",
            ),
            false => Finding::ok(WHAT, "none; models are computed on processors"),
        };
    }
    match ask("nvidia-smi", &["-L"]) {
        Ok((true, list)) => {
            let gpus: Vec<_> = list.lines().filter(|line| line.starts_with("GPU ")).collect();
            let slices = list.lines().filter(|line| line.trim_start().starts_with("MIG ")).count();
            let name = gpus.first().and_then(|line| line.split(": ").nth(1));
            let name = name.and_then(|rest| rest.split(" (").next()).unwrap_or("of unknown kind");
            let visible = std::env::var("CUDA_VISIBLE_DEVICES");
            let visible =
                visible.map_or(String::new(), |ids| format!(", CUDA_VISIBLE_DEVICES={ids}"));
            let slices =
                if slices > 0 { format!(" in {slices} MIG slices") } else { String::new() };
            Finding::ok(WHAT, format!("{} ({name}){slices}{visible}", gpus.len()))
        }
        Ok((false, said)) => Finding::warning(
            WHAT,
            format!("nvidia-smi: {}", said.lines().next().unwrap_or_default()),
            "see that the driver is loaded (`nvidia-smi`)",
        ),
        Err(why) => Finding::warning(WHAT, why, "see that the driver is loaded (`nvidia-smi`)"),
    }
}

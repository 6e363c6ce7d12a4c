//! The models' files, beside the memory that there is.

use std::fs;

use shardrun_slurm::human;

use super::{Finding, Patient};
use crate::fetch::{self, ModelState};
use crate::memory::Footprint;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(deployment) = patient.deployment else { return Vec::new() };
    let mut findings = Vec::new();
    let mut needed = 0;
    for model in &deployment.models {
        let what = format!("model {}", model.name);
        let state = fetch::look(&model.source, model.sha256.as_ref());
        findings.push(match state {
            Ok(ModelState::Here { path, size_bytes }) => {
                let bytes = Footprint::of(model, &path).map_or(size_bytes, Footprint::bytes);
                needed += bytes.saturating_mul(model.instances as u64);
                match fs::File::open(&path) {
                    Ok(_) => {
                        Finding::ok(&what, format!("{}, {}", path.display(), human(size_bytes)))
                    }
                    Err(error) => {
                        let found = format!("{}: {error}", path.display());
                        Finding::failure(&what, found, "let its owner make it readable")
                    }
                }
            }
            Ok(ModelState::ToFetch { into }) => Finding::ok(
                &what,
                format!("not here yet; `shardrun fetch` downloads it to {}", into.display()),
            ),
            Ok(ModelState::Missing { path }) => Finding::failure(
                &what,
                format!("there is no file {}", path.display()),
                "correct model.source; on a compute node, let it name a folder that all nodes share",
            ),
            Err(error) => Finding::failure(&what, error.to_string(), "correct model.source"),
        });
    }
    if needed > 0 && patient.computes() {
        findings.extend(memory(needed));
    }
    findings
}

/// The weights and caches of all instances, were they all on this machine, beside its memory.
fn memory(needed: u64) -> Option<Finding> {
    const WHAT: &str = "memory";
    let info = Memory::parse(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limit = control_group();
    let total = limit.map_or(info.total, |limit| limit.min(info.total));
    let of = match limit.filter(|limit| *limit < info.total) {
        Some(limit) => format!("the control group allows {}", human(limit)),
        None => format!("of {}", human(info.total)),
    };
    let available = info.available.min(total);
    let found = format!(
        "{} available, {of}; weights and KV caches take {}",
        human(available),
        human(needed)
    );
    Some(if needed > total {
        let advice = "use more nodes, a smaller model, or one that is quantised further";
        Finding::failure(WHAT, found, advice)
    } else if needed > available {
        Finding::warning(WHAT, found, "other processes have the memory: see `top`")
    } else {
        Finding::ok(WHAT, found)
    })
}

struct Memory {
    total: u64,
    available: u64,
}

impl Memory {
    /// Reads /proc/meminfo.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self { total: field("MemTotal")?, available: field("MemAvailable")? })
    }
}

/// The least limit of memory of the control groups that this process is in, if there is one.
fn control_group() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let unified = own.lines().find_map(|line| line.strip_prefix("0::"));
    let memory = own.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path));
    let (root, path, file) = match (memory, unified) {
        (Some(path), _) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
        (None, Some(path)) => ("/sys/fs/cgroup", path, "memory.max"),
        (None, None) => return None,
    };
    let folder = std::path::Path::new(root).join(path.trim_start_matches('/'));
    let limits = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok());
    limits.min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[test]
    fn memory_is_read_in_kilobytes() {
        let text = "MemTotal:       24639400 kB\nMemFree: 1 kB\nMemAvailable:   12000000 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!((memory.total, memory.available), (24_639_400 << 10, 12_000_000 << 10));
        assert!(Memory::parse("MemTotal: many").is_none());
    }

    #[test]
    fn weights_that_fit_nowhere_are_a_failure() {
        assert_eq!(memory(u64::MAX).unwrap().grade, Grade::Failure);
        assert_eq!(memory(1).unwrap().grade, Grade::Ok);
    }
}

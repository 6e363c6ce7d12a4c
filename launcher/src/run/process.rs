//! Processes of this machine, as /proc has them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::programs;

/// Whether process `pid` of this machine runs `program` for user `uid`, and began before the moment
/// `known_at`, in seconds since 1970, at which its number was written down: numbers come round.
pub(crate) fn runs(pid: i64, program: &str, uid: u32, known_at: u64) -> bool {
    let proc = format!("/proc/{pid}");
    let theirs = Path::new(&proc).metadata().is_ok_and(|meta| meta.uid() == uid);
    if pid <= 0 || !theirs {
        return false;
    }
    let named = || {
        let exe = std::fs::read_link(format!("{proc}/exe")).ok()?;
        let name = exe.file_name()?.to_str()?.to_owned();
        // One that was built anew meanwhile.
        Some(name.strip_suffix(" (deleted)").map_or(name.clone(), str::to_owned) == program)
    };
    let stat = std::fs::read_to_string(format!("{proc}/stat")).unwrap_or_default();
    let Some(Stat { state, start_ticks }) = Stat::parse(&stat) else { return false };
    let dead = matches!(state, 'Z' | 'X');
    // Clocks are read by the second, and set now and then.
    const SLACK_S: u64 = 5;
    let before = began(start_ticks).is_none_or(|began| began <= known_at + SLACK_S);
    !dead && before && named().unwrap_or(false)
}

/// Whether a rank of this machine runs.
pub(crate) fn rank_runs(pid: i32, uid: u32, known_at: u64) -> bool {
    runs(pid.into(), programs::WORKER, uid, known_at)
}

/// What /proc/PID/stat says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start_ticks: u64,
}

impl Stat {
    /// The name in brackets may have anything in it, brackets too.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        // Field 22 in proc(5), of which the state is the third.
        Some(Self { state, start_ticks: fields.nth(18)?.parse().ok()? })
    }
}

/// Ticks since the machine's start as seconds since 1970. There are 100 in a second on every platform
/// that Linux gives programs.
fn began(ticks: u64) -> Option<u64> {
    const TICKS_PER_S: u64 = 100;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<u64>().ok()? + ticks / TICKS_PER_S)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::now_unix_s;

    #[test]
    fn a_process_is_known_by_program_user_and_time() {
        let pid = i64::from(std::process::id());
        let exe = std::env::current_exe().unwrap();
        let program = exe.file_name().unwrap().to_str().unwrap();
        let uid = nix::unistd::getuid().as_raw();
        assert!(runs(pid, program, uid, now_unix_s()));
        assert!(!runs(pid, "shardrun-other", uid, now_unix_s()));
        assert!(!runs(pid, program, uid + 1, now_unix_s()));
        assert!(!runs(pid, program, uid, 1_000_000), "it began later");
        assert!(!runs(0, program, uid, now_unix_s()) && !runs(-1, program, uid, now_unix_s()));
    }

    #[test]
    fn a_name_may_look_like_fields() {
        let fields = |state| format!("7 (a) S 1 (b)) {state} {}99 0", "0 ".repeat(18));
        assert_eq!(Stat::parse(&fields('R')), Some(Stat { state: 'R', start_ticks: 99 }));
        assert_eq!(Stat::parse("7 (a) R 1 2"), None);
    }
}

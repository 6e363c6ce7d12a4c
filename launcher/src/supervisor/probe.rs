//! Why a rank is silent.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::cause::Why;

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// A port that nobody listens on answers, too: it refuses.
const ANY_PORT: u16 = 1;

/// Looks at a process of this machine.
pub(super) fn process(pid: i32) -> Why {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return Why::Unknown;
    };
    // The name, in parentheses, may hold anything.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('T' | 't') => Why::Stopped,
        Some(_) => Why::Hung,
        None => Why::Unknown,
    }
}

/// Asks another node for a sign of life. Takes up to a second for each of its addresses.
pub(super) fn node(host: &str) -> Why {
    let Ok(addresses) = (host, ANY_PORT).to_socket_addrs() else { return Why::Unknown };
    let answers = |address| match TcpStream::connect_timeout(&address, ANSWER) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    };
    if addresses.into_iter().any(answers) { Why::Hung } else { Why::NodeGone }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn a_stopped_process_is_known_from_one_that_hangs() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert_eq!(process(pid), Why::Hung);
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        let stopped = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            process(pid) == Why::Stopped
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(stopped);
    }

    #[test]
    fn this_node_answers() {
        assert_eq!(node("127.0.0.1"), Why::Hung);
        assert_eq!(node("no such host."), Why::Unknown);
    }
}

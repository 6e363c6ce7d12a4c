//! `shardrun endpoint`: where a run serves, and how to get there.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use shardrun_slurm::Slurm;

use super::print_json;
use crate::cli::EndpointArgs;
use crate::nodes;
use crate::run::{Endpoint, RunState, Runs, Seen, Standing};

/// Between two looks at what a run says of itself.
const LOOK: Duration = Duration::from_millis(200);
/// Between two questions to Slurm.
const ASK: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &EndpointArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let slurm = Slurm::new();
    let run = Runs::of(args.run.folder.dir.as_deref())?.find(args.run.run.as_deref(), &slurm)?;
    let until = Instant::now() + Duration::from_secs(args.wait);
    let mut seen = Seen::look(run, &slurm)?;
    let mut asked = Instant::now();
    let mut told = false;
    let endpoint = loop {
        let endpoint = seen.state.as_ref().and_then(|state| state.endpoint.as_ref());
        if let (Some(endpoint), Standing::Serving | Standing::Unknown) = (endpoint, seen.standing) {
            break endpoint.clone();
        }
        let over = seen.standing.is_over()
            || matches!(seen.standing, Standing::Draining | Standing::Ending);
        if over || Instant::now() >= until {
            bail!("{}", not_serving(&seen, !over));
        }
        if !std::mem::replace(&mut told, true) {
            eprintln!(
                "{} is {}; waiting until it serves",
                seen.run.label(),
                seen.standing.as_str()
            );
        }
        std::thread::sleep(LOOK);
        let changed = RunState::read(&seen.run.dir).ok().flatten() != seen.state;
        if changed || asked.elapsed() >= ASK {
            asked = Instant::now();
            seen = Seen::look(seen.run, &slurm)?;
        }
    };
    if let Some(note) = seen.note() {
        eprintln!("{}: {note}", seen.run.label());
    }
    let reach = Reach::of(&endpoint, &nodes::host()?)?;
    match args.run.json {
        true => print_json(out, &reach)?,
        false => reach.print(out)?,
    }
    Ok(())
}

fn not_serving(seen: &Seen, in_time: bool) -> String {
    let (label, clause) = (seen.run.label(), seen.standing.clause());
    let note = seen.note().map_or(String::new(), |note| format!("; {note}"));
    let next = match in_time {
        true => "--wait SECONDS waits until it serves".to_owned(),
        false => format!("`shardrun why {}` says more", seen.run.dir.display()),
    };
    format!("{label} does not serve: it {clause}{note}; {next}")
}

/// How a run is reached from this machine.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Reach {
    /// Of the API, as seen from this machine once the tunnel is there, if one is needed.
    url: String,
    metrics_url: String,
    /// The node that it is on.
    host: String,
    port: u16,
    metrics_port: u16,
    models: Vec<String>,
    /// Asks the first model something.
    curl: String,
    /// Makes the node's loopback this machine's, where it listens on nothing else.
    ssh: Option<String>,
    /// Does what `curl` does, on the node.
    on_node: Option<String>,
}

impl Reach {
    /// Of `endpoint`, from the machine `here`.
    fn of(endpoint: &Endpoint, here: &str) -> anyhow::Result<Self> {
        let read = |text: &str| -> anyhow::Result<SocketAddr> {
            text.parse().with_context(|| format!("the run says that it serves at {text:?}"))
        };
        let (http, metrics) = (read(&endpoint.http)?, read(&endpoint.metrics)?);
        let far = http.ip().is_loopback() && endpoint.host != here;
        let at = |address: SocketAddr| match address.ip() {
            ip if ip.is_unspecified() && endpoint.host != here => {
                format!("{}:{}", endpoint.host, address.port())
            }
            ip if ip.is_unspecified() => format!("127.0.0.1:{}", address.port()),
            _ => address.to_string(),
        };
        let model = endpoint.models.first().context("the run says that it serves no model")?;
        let curl = format!(
            "curl -s {}/v2/models/{model}/generate -d '{{\"text_input\": \"What is machine learning?\", \
             \"max_tokens\": 40}}'",
            at(http)
        );
        let forward = |address: SocketAddr| format!("-L {}:{address}", address.port());
        let host = &endpoint.host;
        Ok(Self {
            url: format!("http://{}", at(http)),
            metrics_url: format!("http://{}/metrics", at(metrics)),
            ssh: far.then(|| format!("ssh -N {} {} {host}", forward(http), forward(metrics))),
            on_node: far.then(|| format!("ssh {host} {}", shell_quoted(&curl))),
            host: host.clone(),
            port: http.port(),
            metrics_port: metrics.port(),
            models: endpoint.models.clone(),
            curl,
        })
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "API      {}", self.url)?;
        writeln!(out, "metrics  {}", self.metrics_url)?;
        writeln!(out, "models   {}\n", self.models.join(", "))?;
        if let (Some(ssh), Some(on_node)) = (&self.ssh, &self.on_node) {
            writeln!(
                out,
                "It listens on loopback of {} alone. A tunnel from this machine:\n",
                self.host
            )?;
            writeln!(out, "  {ssh}\n\nand then, from here:\n\n  {}\n", self.curl)?;
            return writeln!(out, "Without a tunnel:\n\n  {on_node}");
        }
        writeln!(out, "  {}", self.curl)
    }
}

fn shell_quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reach(http: &str, here: &str) -> Reach {
        let endpoint = Endpoint {
            host: "n1".into(),
            http: http.into(),
            metrics: http.replace("8000", "8002"),
            models: vec!["llama".into(), "qwen".into()],
        };
        Reach::of(&endpoint, here).unwrap()
    }

    fn printed(reach: &Reach) -> String {
        let mut out = Vec::new();
        reach.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_listens_here_is_asked_here() {
        let reach = reach("127.0.0.1:8000", "n1");
        assert_eq!(
            printed(&reach),
            "API      http://127.0.0.1:8000\nmetrics  http://127.0.0.1:8002/metrics\nmodels   llama, qwen\n\n  \
             curl -s 127.0.0.1:8000/v2/models/llama/generate -d '{\"text_input\": \"What is machine learning?\", \
             \"max_tokens\": 40}'\n"
        );
    }

    #[test]
    fn the_loopback_of_another_node_needs_a_tunnel() {
        let reach = reach("127.0.0.1:8000", "login");
        assert_eq!(
            reach.ssh.as_deref(),
            Some("ssh -N -L 8000:127.0.0.1:8000 -L 8002:127.0.0.1:8002 n1")
        );
        let on_node = reach.on_node.clone().unwrap();
        let words = shlex::split(&on_node).unwrap();
        assert_eq!((&*words[1], &words[2]), ("n1", &reach.curl));
        assert!(printed(&reach).contains("on loopback of n1 alone"));
    }

    #[test]
    fn an_address_for_all_is_the_nodes_name() {
        let far = reach("0.0.0.0:8000", "login");
        assert_eq!((&*far.url, &far.ssh), ("http://n1:8000", &None));
        assert_eq!(reach("0.0.0.0:8000", "n1").url, "http://127.0.0.1:8000");
        assert_eq!(reach("10.0.0.5:8000", "login").url, "http://10.0.0.5:8000");
        assert_eq!(reach("[::]:8000", "login").metrics_url, "http://n1:8002/metrics");
    }
}

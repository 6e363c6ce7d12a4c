//! A cluster with the model on it, and what its users do there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use shardrun_files::Gguf;
use shardrun_tests::slurm::{
    Cluster, ClusterOptions, Job, Machine, User, finish, said, slurm_or_skip,
};
use shardrun_tests::{Client, Ready, golden, model, until, until_some};
use shardrun_text::Tokenizer;

/// How long a deployment may take to be ready, and a job to end: a loaded machine is slow.
pub(crate) const LONG: Duration = Duration::from_secs(90);
/// How long everything may take to be gone after a job's end.
const GONE: Duration = Duration::from_secs(30);
/// Silence after which a rank counts as lost, in milliseconds.
pub(crate) const SILENCE_MS: u64 = 2000;
/// Tokens of the known answer.
const KNOWN_TOKENS: usize = 20;

/// A cluster. There is one at a time: drills with clocks in them must not disturb each other.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    /// What every machine has when nothing runs, in the order of [`Site::machines`].
    idle: Vec<(String, Traces)>,
    _turn: MutexGuard<'static, ()>,
}

/// Whether Slurm may still be busy with steps that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slurm {
    HasLeft,
    /// Its daemon of a step tries to reach one of a lost node for a minute.
    MayStay,
}

/// Slurm's daemon of a step.
const STEP_DAEMON: &str = "slurmstepd";

/// What processes leave on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Traces {
    /// Living processes, by their names.
    processes: Vec<String>,
    /// Names in /dev/shm and /tmp.
    files: BTreeSet<String>,
    /// Addresses and paths that somebody listens at.
    listening: BTreeSet<String>,
}

impl Site {
    /// A cluster of so many nodes, or `None` where this machine can't have one.
    pub(crate) fn new(nodes: usize) -> anyhow::Result<Option<Self>> {
        Self::with(nodes, "")
    }

    /// The same, with more lines of slurm.conf.
    pub(crate) fn with(nodes: usize, conf: &str) -> anyhow::Result<Option<Self>> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(model) = model()? else { return Ok(None) };
        // That a node is gone is noticed soon.
        let conf = format!("MessageTimeout=4\nTCPTimeout=1\n{conf}");
        let options =
            ClusterOptions { nodes, slurmd_timeout_s: 5, conf, ..ClusterOptions::default() };
        let Some(cluster) = slurm_or_skip(&options)? else { return Ok(None) };
        for user in [User::Ada, User::Ben] {
            // The file itself may be one that only its owner reads.
            let copy = cluster.home(user).join("model.gguf");
            fs::copy(&model, &copy)?;
            chown(&copy, Some(user.uid()), Some(user.uid()))?;
        }
        let mut site = Self { cluster, idle: Vec::new(), _turn: turn };
        let idle = site.machines().map(|machine| Ok((machine.name().to_owned(), traces(machine)?)));
        site.idle = idle.collect::<anyhow::Result<_>>()?;
        Ok(Some(site))
    }

    /// Machines that have power.
    fn machines(&self) -> impl Iterator<Item = &Machine> {
        let nodes = (1..).map_while(|number| match self.cluster.node(number) {
            Ok(node) => Some(Some(node)),
            Err(error) if error.to_string().contains("power") => Some(None),
            Err(_) => None,
        });
        nodes.flatten().chain([self.cluster.login()])
    }

    /// Writes a deployment of `user`'s: one rank a model, which `keys` change.
    pub(crate) fn file(&self, user: User, keys: &[(&str, Value)]) -> anyhow::Result<PathBuf> {
        let home = self.cluster.home(user);
        let mut all = BTreeMap::from([
            ("name", json!("t")),
            ("model.source", json!(home.join("model.gguf"))),
            ("model.threads", json!(1)),
            ("kv_cache.max_tokens", json!(2048)),
            // The test is outside the nodes.
            ("server.host", json!("0.0.0.0")),
            ("server.allow_remote", json!(true)),
            ("server.http_port", json!(0)),
            ("server.metrics_port", json!(0)),
            ("run.dir", json!(home.join("runs"))),
            ("supervision.heartbeat_ms", json!(300)),
            ("supervision.heartbeat_timeout_ms", json!(SILENCE_MS)),
        ]);
        all.extend(keys.iter().map(|(key, value)| (*key, value.clone())));
        all.retain(|_, value| !value.is_null());
        let mut text = String::new();
        for (key, value) in all {
            // Texts, numbers and bools are written alike in JSON and TOML.
            writeln!(text, "{key} = {value}")?;
        }
        self.cluster.write(user, "d.toml", &text)
    }

    /// Submits a job that runs `script`, with these options of sbatch.
    pub(crate) fn job(
        &self,
        user: User,
        options: &[&str],
        script: &str,
    ) -> anyhow::Result<Batch<'_>> {
        let path = self.cluster.write(user, "job.sh", &format!("#!/bin/sh\n{script}\n"))?;
        let said = self.cluster.home(user).join("said");
        let _ = fs::remove_file(&said);
        let path = path.display().to_string();
        let arguments = [options, &["--output=said", "--open-mode=append", &path]].concat();
        let id = self.cluster.submit(user, &arguments)?;
        Ok(Batch { site: self, id, said })
    }

    /// Submits a job that serves a deployment.
    pub(crate) fn serve(
        &self,
        options: &[&str],
        keys: &[(&str, Value)],
    ) -> anyhow::Result<Batch<'_>> {
        let file = self.file(User::Ada, keys)?;
        self.job(User::Ada, options, &format!("exec shardrun serve {}", file.display()))
    }

    /// A command of Slurm's that Ada runs on the login machine, to its end.
    pub(crate) fn ada(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.cluster.command_as(User::Ada, words[0]);
        command.args(&words[1..]);
        said(command, LONG)
    }

    /// Sends a signal to a process of node `number`, which has this id there.
    pub(crate) fn signal(&self, number: usize, signal: &str, pid: i32) -> anyhow::Result<()> {
        let mut command = self.cluster.on_node(number, "sh")?;
        command.args(["-c", &format!("kill -{signal} {pid}")]);
        said(command, LONG)?;
        Ok(())
    }

    /// Expects that nothing of any deployment is left, on no node; says what is.
    pub(crate) fn nothing_left(&self) -> anyhow::Result<()> {
        self.nothing_left_but(Slurm::HasLeft)
    }

    /// As [`Site::nothing_left`], whatever Slurm itself still has to do.
    pub(crate) fn nothing_left_but(&self, slurm: Slurm) -> anyhow::Result<()> {
        for machine in self.machines() {
            let name = machine.name();
            let idle = self.idle.iter().find(|(of, _)| of == name).map(|(_, idle)| idle);
            let idle = idle.with_context(|| format!("{name} was seen idle"))?;
            until("nothing to be left", GONE, || Ok(traces(machine)?.within(idle, slurm)))
                .with_context(|| format!("{name} has {:?}, not {idle:?}", traces(machine)))?;
        }
        Ok(())
    }
}

impl Traces {
    fn within(&self, idle: &Self, slurm: Slurm) -> bool {
        let stays = slurm == Slurm::MayStay && self.processes.iter().any(|it| it == STEP_DAEMON);
        let known = |name: &String| idle.processes.contains(name) || (stays && name == STEP_DAEMON);
        self.processes.iter().all(known)
            && self.files.is_subset(&idle.files)
            // It listens.
            && (stays || self.listening.is_subset(&idle.listening))
    }
}

fn traces(machine: &Machine) -> anyhow::Result<Traces> {
    let mut traces = Traces::default();
    for pid in machine.everything() {
        // One that has just ended is no trace.
        let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
        traces.processes.push(name.trim_end().to_owned());
    }
    let root = machine.root();
    for folder in ["dev/shm", "tmp"] {
        for entry in fs::read_dir(root.join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // Slurm's own, of PMIx, which it removes when it likes to.
            if !name.starts_with("spmix_") {
                traces.files.insert(format!("{folder}/{name}"));
            }
        }
    }
    let network = root.parent().context("a machine's first process has a folder")?.join("net");
    for line in fs::read_to_string(network.join("tcp"))?.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if words.get(3) == Some(&"0A") {
            traces.listening.insert(words[1].to_owned());
        }
    }
    for line in fs::read_to_string(network.join("unix"))?.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        // The flag of those that listen.
        if let (Some(&"00010000"), Some(path)) = (words.get(3), words.get(7)) {
            traces.listening.insert((*path).to_owned());
        }
    }
    Ok(traces)
}

/// A batch job.
pub(crate) struct Batch<'a> {
    pub(crate) site: &'a Site,
    pub(crate) id: u32,
    said: PathBuf,
}

/// A rank as the run's state shows it.
#[derive(Clone, Debug)]
pub(crate) struct Rank {
    pub(crate) node: usize,
    pub(crate) pid: i32,
}

impl<'a> Batch<'a> {
    /// A job of Ada's by its number, where the cluster has changed since.
    pub(crate) fn again(site: &'a Site, id: u32) -> Self {
        Self { site, id, said: site.cluster.home(User::Ada).join("said") }
    }

    /// What it has printed.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Waits until it has printed `text` so many times.
    pub(crate) fn says(
        &self,
        text: &str,
        times: usize,
        within: Duration,
    ) -> anyhow::Result<Duration> {
        let what = format!("{text:?}, {times} times");
        until(&what, within, || Ok(self.said().matches(text).count() >= times))
            .with_context(|| self.said())
    }

    /// Waits until it serves, and gives a client of it.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.client_of_start(1)
    }

    /// As [`Batch::client`], of its so manieth start.
    pub(crate) fn client_of_start(&self, start: usize) -> anyhow::Result<Client> {
        let ready = until_some("a job to serve", LONG, || {
            let text = self.said();
            if let Some(about) = text
                .split("\n  curl ")
                .nth(start - 1)
                .filter(|_| text.matches("\n  curl ").count() >= start)
            {
                let port = |what: &str, end: &str| {
                    let (_, rest) = about.rsplit_once(what)?;
                    let line = rest.lines().next()?.trim().strip_suffix(end)?;
                    Some(line.rsplit_once(':')?.1.to_owned())
                };
                return Ok(port("  HTTP ", "").zip(port("  metrics ", "/metrics")));
            }
            let job = self.site.cluster.job(self.id)?;
            if ["FAILED", "CANCELLED", "COMPLETED"].contains(&job.state()) {
                bail!("the job ended before it served: {job:?}");
            }
            Ok(None)
        });
        let (http, metrics) = ready.with_context(|| self.said())?;
        let address = self.site.cluster.node(self.node()?)?.address();
        Ok(Client::new(Ready {
            http: format!("{address}:{http}"),
            metrics: format!("{address}:{metrics}"),
        }))
    }

    /// The node of its script.
    pub(crate) fn node(&self) -> anyhow::Result<usize> {
        let job = self.site.cluster.job(self.id)?;
        node_number(job.field("BatchHost"))
    }

    /// Waits for its end.
    pub(crate) fn end(&self) -> anyhow::Result<Job> {
        let over = |job: &Job| {
            ["COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT"].contains(&job.state())
        };
        self.site.cluster.wait_for_job(self.id, LONG, over).with_context(|| self.said())
    }

    /// Cancels it, and expects that nothing is left.
    pub(crate) fn cancel(&self) -> anyhow::Result<()> {
        self.cancel_but(Slurm::HasLeft)
    }

    /// As [`Batch::cancel`], whatever Slurm itself still has to do.
    pub(crate) fn cancel_but(&self, slurm: Slurm) -> anyhow::Result<()> {
        let began = Instant::now();
        self.site.ada(&["scancel", &self.id.to_string()])?;
        self.end()?;
        self.site.nothing_left_but(slurm).with_context(|| self.said())?;
        println!("cancelled: all gone after {:.2?}", began.elapsed());
        ensure!(!self.said().contains("panicked"), "nothing panics:\n{}", self.said());
        Ok(())
    }

    /// The directory of its run.
    pub(crate) fn run_dir(&self) -> anyhow::Result<PathBuf> {
        let runs = self.site.cluster.home(User::Ada).join("runs");
        let mut runs: Vec<_> =
            fs::read_dir(&runs)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        runs.sort_by_key(|path| path.metadata().and_then(|about| about.modified()).ok());
        runs.pop().context("there is no run")
    }

    /// A rank of an instance, as its state says.
    pub(crate) fn rank(&self, instance: usize, rank: usize) -> anyhow::Result<Rank> {
        let path = self.run_dir()?.join("state.json");
        until_some("a rank in the run's state", LONG, || {
            let state: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            let ranks = state["instances"][instance]["ranks"].as_array().cloned();
            let rank = ranks.unwrap_or_default().into_iter().find(|it| it["rank"] == json!(rank));
            let Some(rank) = rank else { return Ok(None) };
            let host = rank["host"].as_str().context("a rank has a host")?;
            let pid = rank["pid"].as_i64().context("a rank has a pid")?;
            Ok(Some(Rank { node: node_number(host)?, pid: pid as i32 }))
        })
    }
}

fn node_number(host: &str) -> anyhow::Result<usize> {
    let number = host.strip_prefix('n').and_then(|number| number.parse().ok());
    number.with_context(|| format!("{host:?} is no node"))
}

/// A request whose answer an independent reference knows, and that answer.
pub(crate) fn known() -> anyhow::Result<&'static (Value, String)> {
    static KNOWN: OnceLock<(Value, String)> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let file = Gguf::open(&model()?.context("there is a model")?)?;
    let tokenizer = Tokenizer::from_gguf(&Arc::new(file))?;
    let golden = golden()?;
    // The one whose choices are the clearest: shards round differently.
    let clear = |gaps: &[f32]| gaps[..KNOWN_TOKENS].iter().copied().fold(f32::INFINITY, f32::min);
    let prompts = golden.prompts.iter();
    let prompt = prompts.max_by(|a, b| clear(&a.gap).total_cmp(&clear(&b.gap)));
    let prompt = prompt.context("there are prompts")?;
    let request = json!({
        "text_input": prompt.text, "max_tokens": KNOWN_TOKENS, "end_id": -1,
        "exclude_input_in_output": true,
    });
    let text = tokenizer.decode(&prompt.greedy[..KNOWN_TOKENS], true);
    Ok(KNOWN.get_or_init(|| (request, text)))
}

/// Expects the known answer of a model.
pub(crate) fn answers(client: &Client, model: &str) -> anyhow::Result<()> {
    let (request, expected) = known()?;
    let body = client.answer(model, request)?;
    ensure!(body["text_output"] == json!(expected), "{model} says {body}, not {expected:?}");
    Ok(())
}

/// Expects one scrape to show each of these ranks, given by instance and rank, with its node and the
/// iterations that it has executed; ranks of one instance have executed as many, once it is idle.
pub(crate) fn counts(client: &Client, ranks: &[(usize, usize, usize)]) -> anyhow::Result<()> {
    let same = || {
        let scrape = client.metrics()?;
        let mut of_instance = BTreeMap::new();
        for (instance, rank, node) in ranks {
            let (instance, rank, node) =
                (instance.to_string(), rank.to_string(), format!("n{node}"));
            let mut all = scrape.all("shardrun_rank_iterations_total").filter(|sample| {
                let is = |key: &str, value: &String| sample.labels.get(key) == Some(value);
                // A deployment in leader mode has no instance to name.
                let here = !sample.labels.contains_key("instance") || is("instance", &instance);
                here && is("rank", &rank) && is("node", &node)
            });
            let (Some(sample), None) = (all.next(), all.next()) else { return Ok(false) };
            let first = *of_instance.entry(instance).or_insert(sample.value);
            if sample.value != first || first < KNOWN_TOKENS as f64 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let shown = until("a scrape to show all ranks", Duration::from_secs(5), same);
    shown.with_context(|| format!("{ranks:?}: {:?}", client.metrics()))?;
    Ok(())
}

/// Runs a command to its end: its code and all that it has printed.
pub(crate) fn code_and_text(command: Command) -> anyhow::Result<(Option<i32>, String)> {
    let output = finish(command, LONG)?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

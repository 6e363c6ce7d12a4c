//! The death of any process but the gateway's is a pause for those whose instance it was of, and nothing
//! for the others.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal::{self, SIGKILL, SIGSTOP, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use shardrun_tests::{Client, Deployment, Role, until};

use super::streams::{Played, Playing, STREAMS, TOKENS, asked, expect_same, undisturbed};
use super::{ALPHA, BACK, BETA, END, INSTANCES, Spawner, setup, until_ready};

/// How much longer than in an undisturbed run a stream of another model may wait for a token: the
/// machine's cores load a model meanwhile.
const LONGER: Duration = Duration::from_secs(1);

/// When a process dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While requests are taken.
    Prefill,
    FirstTokens,
    Middle,
    NearTheEnd,
}

impl Moment {
    const ALL: [Self; 4] = [Self::Prefill, Self::FirstTokens, Self::Middle, Self::NearTheEnd];

    /// From and to, in thousandths of all pieces of the model's streams.
    fn range(self) -> (u64, u64) {
        match self {
            Self::Prefill => (0, 0),
            Self::FirstTokens => (1, 60),
            Self::Middle => (200, 700),
            Self::NearTheEnd => (850, 960),
        }
    }
}

/// Numbers that look random: splitmix64, by Vigna.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }
}

/// Who is hit, by what, and when.
#[derive(Clone, Copy, Debug)]
struct Blow {
    instance: u32,
    role: Role,
    signal: Signal,
    moment: Moment,
    /// Streams that have been accepted, and pieces of the model's that have come.
    accepted: usize,
    pieces: usize,
}

impl Blow {
    fn draw(role: Role, signal: Signal, moment: Moment, random: &mut Random) -> Self {
        // The only instance of the other model has one rank.
        let instances = if role == Role::Rank(1) { 2 } else { INSTANCES.len() as u64 };
        let instance = random.below(instances) as u32;
        let (from, to) = moment.range();
        let thousandths = random.between(from, to) as usize;
        let accepted = match moment {
            Moment::Prefill => random.between(0, STREAMS as u64) as usize,
            // An instance that was just started takes its streams later than the other answers them.
            _ => 0,
        };
        let model = INSTANCES[instance as usize];
        let streams = asked().iter().filter(|asked| asked.model == model).count();
        let pieces = streams * TOKENS * thousandths / 1000;
        Self { instance, role, signal, moment, accepted, pieces }
    }
}

/// A deployment that takes blow after blow.
struct Drill {
    spawner: Spawner,
    deployment: Deployment,
    client: Client,
    expected: Vec<Played>,
    /// A stream of another model waits less than this for a token.
    no_pause: Duration,
    /// Blows so far.
    deaths: u32,
}

impl Drill {
    fn begin(spawner: Spawner) -> anyhow::Result<Option<Self>> {
        let Some(setup) = setup(spawner)? else { return Ok(None) };
        let deployment = setup
            .set("supervision.heartbeat_ms", 300)
            .set("supervision.heartbeat_timeout_ms", 1500)
            .set("supervision.max_restarts", 1_000_000)
            .serve()?;
        let client = deployment.client()?;
        until_ready(&client, 2.0, 1.0)?;
        let began = Instant::now();
        let expected = undisturbed(&client, &asked())?;
        let longest = expected.iter().map(|played| played.longest_pause_after(began)).max();
        let no_pause = 3 * longest.unwrap_or_default() + LONGER;
        println!("undisturbed: {:.1?}; nobody waits for {no_pause:.1?}", began.elapsed());
        Ok(Some(Self { spawner, deployment, client, expected, no_pause, deaths: 0 }))
    }

    fn take(&mut self, blow: Blow) -> anyhow::Result<()> {
        let Blow { instance, role, signal, moment, accepted, pieces } = blow;
        let model = INSTANCES[instance as usize];
        let pid = self.deployment.pid_of(instance, role)?;
        let before = Counted::now(&self.client)?;
        let generated_before = generated(&self.client, model)?;
        let playing = Playing::begin(&self.client, &asked());
        playing.until_come(accepted, model, pieces)?;
        let (at, running) = (Instant::now(), playing.running());
        kill(Pid::from_raw(pid), signal)?;
        let played = playing.finish()?;
        let whole = at.elapsed();
        expect_same(&played, &self.expected)?;

        self.deaths += 1;
        let starts = |now: &Deployment| anyhow::Ok(starts(now)?.iter().sum::<u64>());
        until("the instance to be started again", BACK, || {
            Ok(starts(&self.deployment)? == u64::from(self.deaths))
        })?;
        until_ready(&self.client, 2.0, 1.0)?;
        let back = at.elapsed();
        let after = Counted::now(&self.client)?;
        let pause = |model| {
            let pauses = of_model(&played, model).map(|played| played.longest_pause_after(at));
            pauses.max().unwrap_or_default()
        };
        let other = if model == "alpha" { "beta" } else { "alpha" };
        let died = |counted: &Counted| if model == "alpha" { counted.alpha } else { counted.beta };
        let spared =
            |counted: &Counted| if model == "alpha" { counted.beta } else { counted.alpha };
        let resubmitted = died(&after).resubmitted - died(&before).resubmitted;
        println!(
            "{:10} {signal} of {role:?} of {model} ({instance}) at {moment:?}, {accepted} streams \
             and {pieces} pieces: {running} streams ran, {resubmitted} moved, longest pause \
             {:.2?}, of the other model {:.2?}; all ended after {whole:.1?}, ready after {back:.1?}",
            self.spawner.key(),
            pause(model),
            pause(other),
        );
        ensure!(died(&after).deaths == died(&before).deaths + 1.0, "{after:?} after {before:?}");
        ensure!(spared(&after) == spared(&before), "{after:?} after {before:?}");
        ensure!(pause(other) < self.no_pause, "the other model's streams paused");
        let generated = generated(&self.client, model)? - generated_before;
        let pieces: usize = of_model(&played, model).map(|played| played.came.len() - 1).sum();
        // A killed rank may not have counted the last tokens that it gave away.
        ensure!(generated >= 0.95 * pieces as f64, "{generated} tokens of {pieces} are counted");
        self.nothing_is_left_of_the_dead()
    }

    /// All processes of an instance are of its latest start.
    fn nothing_is_left_of_the_dead(&self) -> anyhow::Result<()> {
        let starts = starts(&self.deployment)?;
        until("the dead to be gone", END, || {
            let old = |process: &shardrun_tests::Process| {
                process.of.is_some_and(|of| u64::from(of.attempt) != starts[of.instance as usize])
            };
            Ok(!self.deployment.processes().iter().any(old))
        })
        .with_context(|| format!("{:#?}", self.deployment.processes()))?;
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        self.deployment.signal(Role::Launcher, SIGTERM)?;
        self.deployment.wait_until_gone(END)?;
        let status = self.deployment.wait(Duration::from_secs(1))?;
        ensure!(status.success(), "{status}");
        ensure!(!self.deployment.stderr().contains("panicked"), "{}", self.deployment.stderr());
        let files = self.deployment.mpi_files();
        ensure!(files.is_empty(), "{files:?}");
        Ok(())
    }
}

fn of_model<'a>(played: &'a [Played], model: &'a str) -> impl Iterator<Item = &'a Played> {
    played.iter().filter(move |played| played.model == model)
}

/// How often each instance was started again.
fn starts(deployment: &Deployment) -> anyhow::Result<Vec<u64>> {
    let state = deployment.state()?;
    let instances = state["instances"].as_array().context("there are instances")?;
    instances.iter().map(|one| one["restarts"].as_u64().context("a number")).collect()
}

/// What the gateway counts of a model's instances.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OfModel {
    deaths: f64,
    resubmitted: f64,
}

/// Tokens that the instances of a model have generated, the dead included.
fn generated(client: &Client, model: &str) -> anyhow::Result<f64> {
    let label = if model == "alpha" { ALPHA } else { BETA };
    client.metrics()?.value("shardrun_generation_tokens_total", &[label])
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    alpha: OfModel,
    beta: OfModel,
}

impl Counted {
    fn now(client: &Client) -> anyhow::Result<Self> {
        let metrics = client.metrics()?;
        let of = |label| {
            anyhow::Ok(OfModel {
                deaths: metrics.value("shardrun_instance_deaths_total", &[label])?,
                resubmitted: metrics.value("shardrun_requests_resubmitted_total", &[label])?,
            })
        };
        Ok(Self { alpha: of(ALPHA)?, beta: of(BETA)? })
    }
}

/// So many rounds, times `SHARDRUN_SOAK` if that is set.
fn rounds() -> u64 {
    std::env::var("SHARDRUN_SOAK").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn drill(spawner: Spawner) -> anyhow::Result<()> {
    let Some(mut drill) = Drill::begin(spawner)? else { return Ok(()) };
    for round in 0..rounds() {
        println!("round {round}");
        let mut random = Random(round);
        for (number, &role) in spawner.roles().iter().enumerate() {
            // An early moment and a late one of each, another in each round.
            let early = Moment::ALL[(number + round as usize) % 2];
            let late = Moment::ALL[2 + (number + round as usize) % 2];
            for moment in [early, late] {
                drill.take(Blow::draw(role, SIGKILL, moment, &mut random))?;
            }
        }
        let rank = Role::Rank(random.below(2) as usize);
        drill.take(Blow::draw(rank, SIGSTOP, Moment::Middle, &mut random))?;
    }
    drill.end()
}

#[test]
fn any_process_may_die_by_step() -> anyhow::Result<()> {
    drill(Spawner::Step)
}

#[test]
fn any_process_may_die_by_comm_spawn() -> anyhow::Result<()> {
    drill(Spawner::CommSpawn)
}

//! This rank's part in the lifelines: heartbeats, and what follows from another's silence or end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::getppid;
use serde::{Deserialize, Serialize};
use shardrun_metrics::{MetricsPage, RankPages};
use shardrun_wire::lifeline::{
    Event, FromRank, Hello, Link, LinkReader, OthersOnHost, Pulse, RankId, ToRank, Watch,
};
use shardrun_wire::{Address, BindTo, EngineLink, Listener, Secret, SocketError};
use tracing::{info, warn};

use crate::environment::Starter;
use crate::exit;

/// The link of this process, for its last words.
static LINK: OnceLock<Arc<Link>> = OnceLock::new();
/// Set when this rank ends as it should: the end of a lifeline is no death then.
static ENDING: AtomicBool = AtomicBool::new(false);

/// What a rank reports with its heartbeats.
#[derive(Clone)]
pub(crate) struct Report {
    /// The number of its iteration.
    pub(crate) step: Arc<AtomicU64>,
    /// Its page of metrics, if whoever is scraped can't see it.
    pub(crate) page: Option<Arc<MetricsPage>>,
}

impl Report {
    fn counted(&self) -> Option<FromRank> {
        self.page.as_ref().map(|page| FromRank::Counted { words: page.words_now() })
    }
}

/// Times that rule the lifelines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beats {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// Who watches whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Watcher {
    /// The supervisor: it watches every rank.
    Supervisor(Dial),
    /// Rank 0: it watches the others, and they watch it.
    Leader(Dial),
}

/// How a watcher is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Dial {
    /// In the order in which to try.
    pub(crate) addresses: Vec<Address>,
    /// The node that sockets among them are on.
    pub(crate) host: String,
    /// For those of other nodes.
    pub(crate) secret: Option<Secret>,
}

impl Dial {
    /// The socket of this machine that it names first.
    pub(crate) fn bind_to(&self) -> anyhow::Result<BindTo> {
        match self.addresses.first() {
            Some(Address::Unix(path)) => Ok(BindTo::Unix(path.clone())),
            _ => bail!("the leader's watch has no socket"),
        }
    }

    /// Connects to the first that answers.
    fn connect(&self, hello: &Hello, name: &str) -> anyhow::Result<(Link, LinkReader)> {
        self.dial(&hello.host, name, |address| {
            Link::connect(address, self.secret.as_ref(), hello.clone())
        })
    }

    /// Opens another line to the first that answers, which carries this leader's engine.
    pub(crate) fn offer_engine(&self, id: RankId, host: &str) -> anyhow::Result<EngineLink> {
        self.dial(host, "the supervisor", |address| {
            EngineLink::dial(address, self.secret.as_ref(), id)
        })
    }

    fn dial<T>(
        &self,
        own_host: &str,
        name: &str,
        connect: impl Fn(&Address) -> Result<T, SocketError>,
    ) -> anyhow::Result<T> {
        let mut failures = Vec::new();
        let reachable =
            |address: &&Address| matches!(address, Address::Tcp(_)) || self.host == own_host;
        for address in self.addresses.iter().filter(reachable) {
            match connect(address) {
                Ok(connected) => return Ok(connected),
                // Who was understood and refused needs no other way.
                Err(refused @ SocketError::Refused { .. }) => return Err(refused.into()),
                // Nor who was reached and is stopped.
                Err(silent @ SocketError::Silent { .. }) => {
                    return Err(silent).context(format!("cannot reach {name}"));
                }
                Err(error) => failures.push(error.to_string()),
            }
        }
        bail!("cannot reach {name}: {}", failures.join("; "))
    }
}

impl Watcher {
    /// How it is reached.
    pub(crate) fn dial(&self) -> &Dial {
        match self {
            Self::Supervisor(dial) | Self::Leader(dial) => dial,
        }
    }
}

/// What a rank does on its lifelines.
pub(crate) struct Life {
    link: Option<Arc<Link>>,
    report: Report,
    /// The leader's, when it watches.
    watch: Option<Watch>,
}

/// Tells the watcher, if it is another process.
#[derive(Clone)]
pub(crate) struct Speaker(Option<Arc<Link>>);

impl Speaker {
    /// Says something; whether there is somebody to hear it.
    pub(crate) fn say(&self, message: &FromRank) -> bool {
        // A watcher that is gone is noticed where it is listened to.
        self.0.as_ref().map(|link| link.say(message)).is_some()
    }
}

/// A leader that watches: takes those who connect.
pub(crate) fn listen(
    listener: Listener,
    beats: Beats,
    pages: Arc<RankPages>,
) -> anyhow::Result<Watch> {
    let (sender, events) = channel();
    let watch = Watch::listen(listener, sender, |event| event)?;
    watch.expect(0, 0);
    let speaker = watch.clone();
    start("watch", move || watch_followers(&events, &speaker, beats, &pages))?;
    Ok(watch)
}

impl Life {
    /// Connects this rank; from now on it sends heartbeats with its `report`, and ends when its
    /// watcher does. `orders` is called with what the watcher says.
    pub(crate) fn begin(
        watcher: &Watcher,
        watch: Option<Watch>,
        hello: Hello,
        beats: Beats,
        report: Report,
        orders: impl Fn(ToRank) + Send + 'static,
    ) -> anyhow::Result<Self> {
        if watch.is_some() {
            return Ok(Self { link: None, report, watch });
        }
        let name = match watcher {
            Watcher::Supervisor(_) => "the supervisor",
            Watcher::Leader(_) => "rank 0",
        };
        let (link, reader) = watcher.dial().connect(&hello, name)?;
        let link = Arc::new(link);
        let _ = LINK.set(link.clone());
        let heard = Arc::new(Mutex::new(Instant::now()));
        start("lifeline", {
            let heard = heard.clone();
            move || attend(reader, &heard, name, orders)
        })?;
        // A supervisor may be stopped for a while, by Ctrl-Z for one; a leader must not be.
        let silence = matches!(watcher, Watcher::Leader(_)).then_some((heard, beats.timeout));
        start("heartbeat", {
            let (link, report) = (link.clone(), report.clone());
            move || beat(&link, beats.interval, &report, silence)
        })?;
        Ok(Self { link: Some(link), report, watch: None })
    }

    /// Tells the watcher, if it is another process.
    pub(crate) fn say(&self, message: &FromRank) {
        self.speaker().say(message);
    }

    /// Speaks for this rank from other threads.
    pub(crate) fn speaker(&self) -> Speaker {
        Speaker(self.link.clone())
    }

    /// Whether somebody else shows the progress of all ranks.
    pub(crate) fn is_supervised(&self) -> bool {
        self.watch.is_none()
    }

    /// From now on the end of another rank is no death: all of them are leaving MPI.
    pub(crate) fn begin_to_end(&self) {
        ENDING.store(true, Ordering::Release);
    }

    /// This rank has ended as it should, and left MPI.
    pub(crate) fn end(&self) {
        // Who hears goodbye may end what started this rank, and this rank with it.
        exit::remove_names();
        if let Some(link) = &self.link {
            if let Some(counted) = self.report.counted() {
                let _ = link.say(&counted);
            }
            let _ = link.end(&FromRank::Goodbye);
        }
    }
}

/// Tells the watcher why this rank can't go on, if there is one.
pub(crate) fn tell_failure(reason: &str) {
    // What the watcher does then is no news.
    ENDING.store(true, Ordering::Release);
    if let Some(link) = LINK.get() {
        let mut reason = reason.to_owned();
        reason.truncate(reason.floor_char_boundary(8 * 1024));
        let _ = link.end(&FromRank::Failed { reason });
    }
}

/// Ends this process when the one that started it does: mpirun may be killed without a word.
pub(crate) fn watch_parent(starter: Starter, interval: Duration) -> anyhow::Result<()> {
    if starter == Starter::Nobody {
        return Ok(());
    }
    let parent = getppid();
    start("parent", move || {
        while getppid() == parent {
            std::thread::sleep(interval);
        }
        if !ENDING.load(Ordering::Acquire) {
            exit::lost("the process that started this rank is gone");
        }
    })
}

/// Hears the watcher until it is gone.
fn attend(mut reader: LinkReader, heard: &Mutex<Instant>, name: &str, orders: impl Fn(ToRank)) {
    while let Some(message) = reader.hear() {
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if message != ToRank::Alive {
            orders(message);
        }
    }
    if !ENDING.load(Ordering::Acquire) {
        exit::orphaned(&format!("{name} is gone"));
    }
}

fn beat(
    link: &Link,
    interval: Duration,
    report: &Report,
    silence: Option<(Arc<Mutex<Instant>>, Duration)>,
) {
    loop {
        let asleep = Instant::now();
        std::thread::sleep(interval);
        let _ = link.say(&FromRank::Alive { step: report.step.load(Ordering::Relaxed) });
        if let Some(counted) = report.counted() {
            let _ = link.say(&counted);
        }
        let Some((heard, timeout)) = &silence else { continue };
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if asleep.elapsed() > *timeout / 2 {
            // This process was stopped itself; the leader gets a new term.
            *heard = Instant::now();
        }
        if heard.elapsed() > *timeout && !ENDING.load(Ordering::Acquire) {
            exit::lost(&format!("no heartbeat of rank 0 for {:.1?}", heard.elapsed()));
        }
    }
}

/// A rank that the leader watches.
struct Follower {
    /// In messages.
    who: String,
    host: String,
    log: String,
}

/// The leader's watch over the others.
fn watch_followers(events: &Receiver<Event>, watch: &Watch, beats: Beats, pages: &RankPages) {
    let mut pulse = Pulse::new(beats.timeout);
    let mut followers = BTreeMap::new();
    let mut next_beat = Instant::now();
    loop {
        let wait = next_beat.saturating_duration_since(Instant::now());
        match events.recv_timeout(wait) {
            Ok(Event::Hello { hello, .. }) => {
                pulse.begin(hello.id, &hello.host, Instant::now());
                let who = format!("rank {} on {} (pid {})", hello.id.rank, hello.host, hello.pid);
                followers.insert(hello.id, Follower { who, host: hello.host, log: hello.log });
            }
            Ok(Event::Said { id, message }) => {
                pulse.heard(&id, Instant::now());
                let Some(Follower { who, host, .. }) = followers.get(&id) else { continue };
                match message {
                    FromRank::Loaded { shard, load_ms, .. } => {
                        info!("{who}: loaded in {load_ms} ms: {shard}");
                    }
                    FromRank::Failed { reason } => warn!("{who}: {reason}"),
                    FromRank::Counted { words } => pages.heard(id.rank, host, &words),
                    FromRank::Goodbye => {
                        pulse.forget(&id);
                        followers.remove(&id);
                    }
                    // They wait for the leader, which got it, too, or is told by who sent it.
                    FromRank::Signalled { .. }
                    | FromRank::Alive { .. }
                    | FromRank::Loading { .. }
                    | FromRank::Serving
                    | FromRank::Ready { .. } => {}
                }
            }
            // Nobody but a supervisor is offered one.
            Ok(Event::Engine { .. }) => {}
            Ok(Event::Closed { id, fault }) => {
                pulse.forget(&id);
                if let Some(Follower { who, log, .. }) = followers.get(&id)
                    && !ENDING.load(Ordering::Acquire)
                {
                    let why = fault.map_or_else(String::new, |fault| format!(" ({fault})"));
                    exit::lost(&format!("{who} died{why}; its log is {log}"));
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                next_beat = Instant::now() + beats.interval;
                watch.say_to_all(&ToRank::Alive);
                if let Some(silence) = pulse.tick(Instant::now()).first() {
                    let who = followers.get(&silence.id).map_or("a rank", |it| it.who.as_str());
                    let others = match silence.others_on_host {
                        OthersOnHost::Heard => {
                            "; others on its node are heard: it is stopped or hung"
                        }
                        OthersOnHost::Silent => ", nor of others on its node",
                        OthersOnHost::None => "",
                    };
                    let since = silence.since.elapsed();
                    exit::lost(&format!("no heartbeat of {who} for {since:.1?}{others}"));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .with_context(|| format!("cannot start the {name} thread"))?;
    Ok(())
}

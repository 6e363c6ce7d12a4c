use std::os::unix::process::ExitStatusExt as _;

use shardrun_wire::lifeline::RankId;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

const LAST_WORDS: Duration = Duration::from_millis(500);
const DRAIN: Event = Event::Drain { grace: TIMEOUT };

struct Story {
    instance: Instance,
    now: Instant,
}

fn rules(starter_ends: bool) -> Rules {
    let (ready_timeout, last_words) = (TIMEOUT, LAST_WORDS);
    Rules { ready_timeout, last_words, starter_ends, starter_is_rank: false }
}

impl Story {
    fn starting() -> Self {
        let now = Instant::now();
        Self { instance: Instance::new(None, rules(true), now), now }
    }

    /// Two ranks of this machine that serve.
    fn serving() -> Self {
        Self::starting().serve(&[true, true])
    }

    /// Of a starter that doesn't end with its ranks.
    fn spawned() -> Self {
        let now = Instant::now();
        let instance = Instance::new(Some("m.0".into()), rules(false), now);
        Self { instance, now }.serve(&[true, true])
    }

    /// An only rank that the supervisor started itself.
    fn alone() -> Self {
        let now = Instant::now();
        let rules = Rules { starter_is_rank: true, ..rules(true) };
        Self { instance: Instance::new(None, rules, now), now }.serve(&[true])
    }

    fn serve(mut self, local: &[bool]) -> Self {
        for (rank, &local) in local.iter().enumerate() {
            self.tell(Event::Hello { hello: hello(rank as u32), local });
        }
        let ready = FromRank::Ready { http: "h:1".into(), metrics: "h:2".into() };
        let actions = self.said(0, ready);
        let addresses = Some(("h:1".to_owned(), "h:2".to_owned()));
        assert_eq!(actions, [Action::Serving { addresses }]);
        self
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.instance.handle(event, self.now)
    }

    fn said(&mut self, rank: u32, message: FromRank) -> Vec<Action> {
        self.tell(Event::Said { rank, message })
    }

    fn closed(&mut self, rank: u32) -> Vec<Action> {
        self.tell(Event::Closed { rank })
    }

    fn starter(&mut self, raw_status: i32) -> Vec<Action> {
        self.tell(Event::StarterEnded(ExitStatus::from_raw(raw_status)))
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.instance.tick(self.now)
    }

    fn message(&self) -> (String, bool) {
        let outcome = self.instance.outcome().unwrap();
        let ended = outcome.result("mpirun", "notice").unwrap_err();
        (ended.to_string(), ended.lost_a_rank)
    }
}

fn hello(rank: u32) -> Hello {
    Hello {
        id: RankId { instance: 0, attempt: 0, rank },
        world_size: 2,
        host: "n1".into(),
        pid: 100 + rank as i32,
        log: "/nowhere".into(),
    }
}

#[test]
fn a_lost_rank_is_named_with_its_signal_and_the_others_are_killed() {
    let mut story = Story::serving();
    assert!(story.closed(1).is_empty(), "the starter is asked first what it died of");
    assert_eq!(story.pass(LAST_WORDS), [Action::KillRanks(vec![100])]);
    story.closed(0);
    assert!(story.instance.outcome().is_none(), "the starter still runs");
    story.starter(137 << 8);
    let (message, lost) = story.message();
    let expected = "rank 1 on n1 (pid 101) was killed by signal 9 (SIGKILL)";
    assert_eq!(message, format!("{expected}\nits log is /nowhere"));
    assert!(lost);
}

#[test]
fn an_only_rank_s_death_is_told_whichever_end_is_seen_first() {
    let expected = "rank 0 on n1 (pid 100) was killed by signal 9 (SIGKILL)\nits log is /nowhere";
    for starter_first in [true, false] {
        let mut story = Story::alone();
        for starter in [starter_first, !starter_first] {
            let actions = if starter { story.starter(9) } else { story.closed(0) };
            assert!(actions.is_empty(), "{actions:?}");
        }
        assert_eq!(story.message(), (expected.to_owned(), true));
    }
}

#[test]
fn an_only_rank_that_says_goodbye_ends_as_told() {
    let mut story = Story::alone();
    story.tell(DRAIN);
    story.said(0, FromRank::Goodbye);
    story.starter(0);
    assert!(story.instance.outcome().is_none(), "its lifeline is open");
    story.closed(0);
    assert!(story.instance.outcome().is_some_and(|outcome| outcome.as_told()));
}

#[test]
fn ranks_of_other_nodes_are_ended_by_their_starter() {
    let mut story = Story::starting().serve(&[true, false]);
    story.closed(0);
    assert_eq!(
        story.pass(LAST_WORDS),
        [Action::StopStarter],
        "a pid of another node is not killed"
    );
    assert_eq!(story.pass(STARTER_END), [Action::KillStarter]);
    assert!(story.pass(STARTER_END).is_empty(), "once");
    story.starter(9);
    assert!(story.instance.outcome().is_some(), "a node that is gone is not waited for");
}

#[test]
fn a_starter_that_does_not_end_is_killed() {
    let mut story = Story::serving();
    story.closed(1);
    story.closed(0);
    story.pass(LAST_WORDS);
    assert_eq!(story.pass(STARTER_END), [Action::KillStarter]);
}

#[test]
fn the_death_of_the_starter_takes_the_ranks_along() {
    let mut story = Story::serving();
    assert_eq!(story.starter(9), [Action::KillRanks(vec![100, 101])]);
    story.closed(0);
    assert!(story.instance.outcome().is_none(), "rank 1 still runs");
    story.closed(1);
    assert_eq!(story.message(), ("mpirun was killed by signal 9 (SIGKILL)".into(), true));
}

#[test]
fn a_silent_rank_is_looked_at_and_killed_with_the_others() {
    let mut story = Story::serving();
    let silence = Duration::from_secs(6);
    let actions = story.tell(Event::Silent { rank: 1, silence });
    let probe = Action::Probe { rank: 1, host: "n1".into(), pid: Some(101) };
    assert_eq!(actions, [probe, Action::KillRanks(vec![100, 101])]);
    assert!(story.tell(Event::Silent { rank: 1, silence }).is_empty());
    story.tell(Event::Probed { rank: 1, why: Why::Stopped });
    story.closed(0);
    story.closed(1);
    story.starter(137 << 8);
    let (message, lost) = story.message();
    let expected = "rank 1 on n1 (pid 101) gave no heartbeat for 6.0 s: its process is stopped";
    assert!(message.starts_with(expected), "{message}");
    assert!(lost);
}

#[test]
fn a_rank_that_cannot_start_says_why_and_nothing_is_lost() {
    let mut story = Story::starting();
    story.tell(Event::Hello { hello: hello(0), local: true });
    story.said(0, FromRank::Failed { reason: "no such tensor".into() });
    story.closed(0);
    story.starter(1 << 8);
    let expected = "rank 0 on n1 (pid 100) failed: no such tensor";
    assert_eq!(story.message(), (expected.into(), false));
}

#[test]
fn a_starter_that_cannot_start_anything_explains_itself() {
    let mut story = Story::starting();
    assert!(story.starter(1 << 8).is_empty());
    let expected = "mpirun exited with code 1 before any rank was heard of\nnotice";
    assert_eq!(story.message(), (expected.into(), false));
}

#[test]
fn what_is_not_ready_in_time_is_ended() {
    let mut story = Story::starting();
    story.tell(Event::Hello { hello: hello(0), local: true });
    assert_eq!(story.pass(TIMEOUT), [Action::KillRanks(vec![100])]);
    story.closed(0);
    story.starter(9);
    let (message, lost) = story.message();
    assert!(
        message.contains("within 5s (launch.ready_timeout_ms): 1 ranks were heard of"),
        "{message}"
    );
    assert!(!lost);
}

#[test]
fn a_drain_ends_with_goodbyes_and_a_stop_kills() {
    let mut story = Story::serving();
    assert_eq!(story.tell(DRAIN), [Action::TellLeader(ToRank::Drain { grace_ms: 5000 })]);
    assert_eq!(story.tell(Event::Stop), [Action::KillRanks(vec![100, 101])]);
    let mut story = Story::serving();
    story.tell(DRAIN);
    for rank in 0..2 {
        story.said(rank, FromRank::Goodbye);
        assert!(story.closed(rank).is_empty());
    }
    story.starter(0);
    assert!(story.instance.outcome().unwrap().as_told());
}

#[test]
fn a_starter_that_outlives_its_ranks_is_stopped() {
    let mut story = Story::spawned();
    story.tell(DRAIN);
    story.said(0, FromRank::Goodbye);
    story.said(1, FromRank::Goodbye);
    assert!(story.closed(0).is_empty());
    assert_eq!(story.closed(1), [Action::StopStarter]);
    story.starter(15);
    assert!(story.instance.outcome().unwrap().as_told(), "its signal is ours");
    let mut story = Story::spawned();
    story.closed(1);
    assert_eq!(story.pass(LAST_WORDS), [Action::KillRanks(vec![100]), Action::StopStarter]);
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    let mut story = Story::serving();
    story.tell(DRAIN);
    assert!(story.pass(TIMEOUT).is_empty());
    let actions = story.pass(DRAIN_MARGIN);
    assert!(actions.contains(&Action::KillRanks(vec![100, 101])), "{actions:?}");
}

#[test]
fn a_rank_that_comes_too_late_is_killed() {
    let mut story = Story::starting();
    story.tell(Event::Hello { hello: hello(0), local: true });
    story.tell(Event::Stop);
    let late = story.tell(Event::Hello { hello: hello(1), local: true });
    assert_eq!(late, [Action::KillRanks(vec![100, 101])]);
}

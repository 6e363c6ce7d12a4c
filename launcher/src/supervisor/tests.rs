use std::os::unix::process::ExitStatusExt as _;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

struct Story {
    supervisor: Supervisor,
    now: Instant,
}

impl Story {
    /// Two ranks that serve.
    fn serving() -> Self {
        let mut story = Self::starting();
        for rank in 0..2 {
            story.life(LifeEvent::Hello { hello: hello(rank), pid: 100 + rank as i32 });
        }
        let ready = FromRank::Ready { http: "h:1".into(), metrics: "h:2".into() };
        let actions = story.life(LifeEvent::Said { rank: 0, message: ready });
        assert_eq!(actions, [Action::Ready { http: "h:1".into(), metrics: "h:2".into() }]);
        story
    }

    fn starting() -> Self {
        Self { supervisor: Supervisor::new(TIMEOUT, TIMEOUT), now: Instant::now() }
    }

    fn life(&mut self, event: LifeEvent) -> Vec<Action> {
        self.supervisor.handle(Event::Life(event), self.now)
    }

    fn closed(&mut self, rank: u32) -> Vec<Action> {
        self.life(LifeEvent::Closed { rank })
    }

    fn mpirun(&mut self, raw_status: i32) -> Vec<Action> {
        self.supervisor.handle(Event::MpirunEnded(ExitStatus::from_raw(raw_status)), self.now)
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.supervisor.tick(self.now)
    }

    fn message(&self) -> (String, bool) {
        let ended = self.supervisor.outcome().unwrap().result("notice").unwrap_err();
        (ended.to_string(), ended.lost_a_rank)
    }
}

fn hello(rank: u32) -> Hello {
    Hello { rank, world_size: 2, host: "n1".into(), log: "/nowhere".into() }
}

#[test]
fn a_lost_rank_is_named_with_its_signal_and_the_others_are_killed() {
    let mut story = Story::serving();
    assert!(story.closed(1).is_empty(), "mpirun is asked first what it died of");
    assert_eq!(story.pass(LAST_WORDS), [Action::KillRanks(vec![100])]);
    story.closed(0);
    assert!(story.supervisor.outcome().is_none(), "mpirun still runs");
    story.mpirun(137 << 8);
    let (message, lost) = story.message();
    let expected = "rank 1 on n1 (pid 101) was killed by signal 9 (SIGKILL)";
    assert_eq!(message, format!("{expected}\nits log is /nowhere"));
    assert!(lost);
}

#[test]
fn mpirun_that_does_not_end_is_killed() {
    let mut story = Story::serving();
    story.closed(1);
    story.closed(0);
    story.pass(LAST_WORDS);
    assert_eq!(story.pass(MPIRUN_END), [Action::KillMpirun]);
}

#[test]
fn the_death_of_mpirun_takes_the_ranks_along() {
    let mut story = Story::serving();
    assert_eq!(story.mpirun(9), [Action::KillRanks(vec![100, 101])]);
    story.closed(0);
    assert!(story.supervisor.outcome().is_none(), "rank 1 still runs");
    story.closed(1);
    assert_eq!(story.message(), ("mpirun was killed by signal 9 (SIGKILL)".into(), true));
}

#[test]
fn a_silent_rank_is_killed_with_the_others() {
    let mut story = Story::serving();
    for _ in 0..5 {
        assert!(story.pass(Duration::from_secs(1)).is_empty());
        let alive = FromRank::Alive { step: 0 };
        story.life(LifeEvent::Said { rank: 0, message: alive });
    }
    assert_eq!(story.pass(Duration::from_secs(1)), [Action::KillRanks(vec![100, 101])]);
    story.closed(0);
    story.closed(1);
    story.mpirun(137 << 8);
    let (message, lost) = story.message();
    assert!(message.starts_with("rank 1 on n1 (pid 101) gave no heartbeat for 6.0 s"), "{message}");
    assert!(lost);
}

#[test]
fn a_rank_that_cannot_start_says_why_and_nothing_is_lost() {
    let mut story = Story::starting();
    story.life(LifeEvent::Hello { hello: hello(0), pid: 100 });
    let failed = FromRank::Failed { reason: "no such tensor".into() };
    story.life(LifeEvent::Said { rank: 0, message: failed });
    story.closed(0);
    story.mpirun(1 << 8);
    let expected = "rank 0 on n1 (pid 100) failed: no such tensor";
    assert_eq!(story.message(), (expected.into(), false));
}

#[test]
fn mpirun_that_cannot_start_anything_explains_itself() {
    let mut story = Story::starting();
    assert!(story.mpirun(1 << 8).is_empty());
    let expected = "mpirun exited with code 1 before any rank was heard of\nnotice";
    assert_eq!(story.message(), (expected.into(), false));
}

#[test]
fn a_signal_drains_and_a_second_one_kills() {
    let signal = |story: &mut Story| story.supervisor.handle(Event::Signal(15), story.now);
    let mut story = Story::serving();
    let actions = signal(&mut story);
    assert_eq!(actions[1], Action::TellLeader(ToRank::Drain));
    assert_eq!(signal(&mut story), [Action::KillRanks(vec![100, 101])]);
    let mut story = Story::serving();
    signal(&mut story);
    for rank in 0..2 {
        story.life(LifeEvent::Said { rank, message: FromRank::Goodbye });
        story.closed(rank);
    }
    story.mpirun(0);
    assert!(story.supervisor.outcome().unwrap().result("").is_ok());
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    let mut story = Story::serving();
    story.supervisor.handle(Event::Signal(2), story.now);
    for second in 0..8 {
        assert!(!story.pass(Duration::ZERO).contains(&Action::KillMpirun), "{second}");
        for rank in 0..2 {
            story.life(LifeEvent::Said { rank, message: FromRank::Alive { step: 0 } });
        }
        story.now += Duration::from_secs(1);
    }
    let actions = story.pass(Duration::ZERO);
    assert!(actions.contains(&Action::KillRanks(vec![100, 101])));
}

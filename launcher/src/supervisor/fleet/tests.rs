use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;

use proptest::prelude::*;
use shardrun_config::{Deployment, Layout};
use shardrun_wire::lifeline::ToRank;

use super::*;
use crate::starter::Generation;

const SECOND: Duration = Duration::from_secs(1);

struct Story {
    fleet: Fleet,
    now: Instant,
}

fn config(restarts: Option<u32>) -> FleetConfig {
    FleetConfig {
        rules: Rules {
            ready_timeout: 60 * SECOND,
            last_words: SECOND,
            starter_ends: true,
            starter_is_rank: false,
        },
        heartbeat_timeout: 5 * SECOND,
        drain_timeout: 5 * SECOND,
        restarts: restarts.map(|most| RestartPolicy { most, backoff: SECOND, backoff_max: SECOND }),
    }
}

impl Story {
    /// Two instances of one rank each, which serve.
    fn orchestrated(most_restarts: u32) -> Self {
        let instances = (0..2).map(|n| ("m".to_owned(), Some(format!("m.{n}")))).collect();
        let now = Instant::now();
        let mut story =
            Self { fleet: Fleet::new(config(Some(most_restarts)), instances, now), now };
        let starts = story.tick();
        assert!(matches!(
            starts.as_slice(),
            [Order::Start { instance: 0, attempt: 0 }, Order::Start { instance: 1, attempt: 0 }]
        ));
        (0..2).for_each(|instance| story.serve(instance, 0));
        story
    }

    fn led() -> Self {
        let now = Instant::now();
        let instances = vec![("m".to_owned(), None)];
        let mut story = Self { fleet: Fleet::new(config(None), instances, now), now };
        story.tick();
        story.serve(0, 0);
        story
    }

    fn serve(&mut self, instance: u32, attempt: u32) {
        let id = RankId { instance, attempt, rank: 0 };
        let hello = Hello { id, world_size: 1, host: "n".into(), pid: 7, log: "/nowhere".into() };
        self.tell(Event::Hello { hello, local: true });
        let orders = self.tell(Event::Said { id, message: FromRank::Serving });
        let [Order::Of { action: Action::Serving { .. }, .. }] = orders.as_slice() else {
            panic!("{orders:?}");
        };
    }

    fn tell(&mut self, event: Event) -> Vec<Order> {
        self.fleet.handle(event, self.now)
    }

    fn tick(&mut self) -> Vec<Order> {
        self.fleet.tick(self.now)
    }

    fn pass(&mut self, time: Duration) -> Vec<Order> {
        self.now += time;
        self.tick()
    }

    /// An instance's only rank dies, then its starter.
    fn die(&mut self, instance: u32, attempt: u32) -> Vec<Order> {
        let id = RankId { instance, attempt, rank: 0 };
        self.tell(Event::Closed { id });
        let status = ExitStatus::from_raw(137 << 8);
        self.tell(Event::StarterEnded { instance, attempt, status })
    }

    fn state(&self, instance: usize) -> String {
        self.fleet.states()[instance].state.clone()
    }
}

#[test]
fn a_lost_instance_is_started_again_and_the_other_left_alone() {
    let mut story = Story::orchestrated(3);
    let orders = story.die(1, 0);
    let [Order::Gone { instance: 1, how: Gone::Lost { next, .. } }] = orders.as_slice() else {
        panic!("{orders:?}");
    };
    assert_eq!(*next, Next::Again(SECOND));
    assert_eq!((story.state(0).as_str(), story.state(1).as_str()), ("serving", "restarting"));
    assert!(story.tick().is_empty());
    let orders = story.pass(SECOND);
    assert!(matches!(orders.as_slice(), [Order::Start { instance: 1, attempt: 1 }]), "{orders:?}");
    story.serve(1, 1);
    assert_eq!(story.state(1), "serving");
}

#[test]
fn what_an_old_attempt_says_is_not_heard() {
    let mut story = Story::orchestrated(3);
    story.die(1, 0);
    story.pass(SECOND);
    let old = RankId { instance: 1, attempt: 0, rank: 0 };
    assert!(story.tell(Event::Said { id: old, message: FromRank::Serving }).is_empty());
    assert!(story.die(1, 0).is_empty());
    assert_eq!(story.state(1), "starting");
}

#[test]
fn an_instance_that_keeps_dying_is_given_up_and_the_rest_goes_on() {
    let mut story = Story::orchestrated(1);
    story.die(1, 0);
    story.pass(SECOND);
    let orders = story.die(1, 1);
    assert!(
        matches!(
            orders.as_slice(),
            [Order::Gone { how: Gone::Lost { next: Next::GivenUp, .. }, .. }]
        ),
        "{orders:?}"
    );
    assert_eq!(story.state(1), "given up");
    assert!(!story.fleet.is_over());
    story.die(0, 0);
    story.pass(SECOND);
    story.die(0, 1);
    assert!(story.fleet.is_over(), "nothing is left that could serve");
}

#[test]
fn a_starter_that_cannot_be_started_counts_as_a_loss() {
    let mut story = Story::orchestrated(3);
    story.die(0, 0);
    story.pass(SECOND);
    let reason = "no srun".to_owned();
    let orders = story.tell(Event::NotStarted { instance: 0, attempt: 1, reason });
    assert!(matches!(
        orders.as_slice(),
        [Order::Gone {
            how: Gone::Lost { outcome: Lost::NotStarted(_), next: Next::Again(_) },
            ..
        }]
    ));
}

#[test]
fn a_signal_drains_the_gateway_first_and_then_the_instances() {
    let mut story = Story::orchestrated(3);
    let orders = story.tell(Event::Signal(15));
    assert!(matches!(orders.as_slice(), [Order::Print(_), Order::Drain]));
    story.die(1, 0);
    assert_eq!(story.state(1), "restarting", "its requests are to finish, too");
    let orders = story.tell(Event::Idle);
    let drained = |orders: &[Order]| {
        orders.iter().any(|order| {
            matches!(
                order,
                Order::Of { action: Action::TellLeader(ToRank::Drain { .. }), instance: 0, .. }
            )
        })
    };
    assert!(drained(&orders), "{orders:?}");
    let id = RankId { instance: 0, attempt: 0, rank: 0 };
    story.tell(Event::Said { id, message: FromRank::Goodbye });
    story.tell(Event::Closed { id });
    let status = ExitStatus::from_raw(0);
    story.tell(Event::StarterEnded { instance: 0, attempt: 0, status });
    assert!(story.fleet.is_over());
}

#[test]
fn requests_that_do_not_end_are_not_waited_for_and_a_second_signal_kills() {
    let mut story = Story::orchestrated(3);
    story.tell(Event::Signal(15));
    let heard = |story: &mut Story| {
        for instance in 0..2 {
            let id = RankId { instance, attempt: 0, rank: 0 };
            story.tell(Event::Said { id, message: FromRank::Alive { step: 0 } });
        }
    };
    for _ in 0..4 {
        heard(&mut story);
        assert!(story.pass(SECOND).is_empty());
    }
    heard(&mut story);
    let orders = story.pass(SECOND);
    assert!(matches!(orders[0], Order::Print(_)), "{orders:?}");
    let stopped = |order: &&Order| {
        matches!(order, Order::Of { action: Action::TellLeader(ToRank::Stop), .. })
    };
    assert_eq!(orders.iter().filter(stopped).count(), 2, "no time is left: {orders:?}");
    let orders = story.tell(Event::Signal(2));
    let kills = orders
        .iter()
        .filter(|order| matches!(order, Order::Of { action: Action::KillRanks(_), .. }));
    assert_eq!(kills.count(), 2, "{orders:?}");
}

#[test]
fn in_leader_mode_the_first_loss_is_the_end() {
    let mut story = Story::led();
    let orders = story.die(0, 0);
    assert!(matches!(
        orders.as_slice(),
        [Order::Gone { how: Gone::Lost { next: Next::GivenUp, .. }, .. }]
    ));
    assert!(story.fleet.is_over());
}

#[test]
fn the_end_of_the_job_drains_once_and_until_then() {
    let mut story = Story::led();
    let end = Event::JobEnds { why: JobEnd::TimeLimit, until: Some(story.now + 40 * SECOND) };
    let orders = story.tell(end);
    let [
        Order::JobEnds(JobEnd::TimeLimit),
        Order::Print(said),
        Order::Drain,
        Order::Of { action: Action::TellLeader(ToRank::Drain { grace_ms: 40_000 }), .. },
    ] = orders.as_slice()
    else {
        panic!("{orders:?}");
    };
    assert!(said.starts_with("the time limit is near: running requests may finish within 40s"));
    let again = Event::JobEnds { why: JobEnd::Preempted, until: None };
    assert!(matches!(story.tell(again).as_slice(), [Order::JobEnds(JobEnd::Preempted)]));
}

/// A signal that an instance's only rank got.
fn signalled(story: &mut Story, instance: u32) -> Vec<Order> {
    let id = RankId { instance, attempt: 0, rank: 0 };
    story.tell(Event::Said { id, message: FromRank::Signalled { signal: 15 } })
}

#[test]
fn in_leader_mode_a_rank_s_signal_is_everybody_s() {
    let mut story = Story::led();
    assert!(matches!(signalled(&mut story, 0).as_slice(), [Order::AskForJob]));
    assert!(story.pass(SECOND).is_empty());
    let orders = story.pass(SECOND);
    assert!(
        matches!(
            orders.as_slice(),
            [Order::Print(said), Order::Drain, Order::Of { .. }]
                if said.starts_with("rank 0 got SIGTERM: ")
        ),
        "{orders:?}"
    );
    assert!(signalled(&mut story, 0).is_empty());
}

#[test]
fn an_instance_whose_rank_got_a_signal_is_started_again() {
    let mut story = Story::orchestrated(3);
    assert!(matches!(signalled(&mut story, 1).as_slice(), [Order::AskForJob]));
    assert!(story.pass(SECOND).is_empty());
    let orders = story.pass(SECOND);
    assert!(
        matches!(orders.as_slice(), [Order::Of { instance: 1, action: Action::KillRanks(_), .. }]),
        "{orders:?}"
    );
    let orders = story.die(1, 0);
    let [Order::Gone { how: Gone::Lost { outcome: Lost::Outcome(outcome), next }, .. }] =
        orders.as_slice()
    else {
        panic!("{orders:?}");
    };
    assert_eq!(*next, Next::Again(SECOND));
    let said = outcome.result("srun", "").unwrap_err().to_string();
    assert_eq!(said, "m.1: rank 0 on n (pid 7) was asked to end by SIGTERM");
}

#[test]
fn signals_of_all_ranks_of_a_job_that_ends_lose_nothing() {
    let mut story = Story::orchestrated(3);
    signalled(&mut story, 0);
    signalled(&mut story, 1);
    story.pass(SECOND);
    story.tell(Event::JobEnds { why: JobEnd::Preempted, until: Some(story.now + 4 * SECOND) });
    for _ in 0..3 {
        assert!(story.pass(SECOND).is_empty());
    }
    assert_eq!((story.state(0).as_str(), story.state(1).as_str()), ("serving", "serving"));
}

#[test]
fn ranks_that_end_unasked_are_lost() {
    let mut story = Story::orchestrated(3);
    let id = RankId { instance: 0, attempt: 0, rank: 0 };
    story.tell(Event::Said { id, message: FromRank::Goodbye });
    story.tell(Event::Closed { id });
    let status = ExitStatus::from_raw(0);
    let orders = story.tell(Event::StarterEnded { instance: 0, attempt: 0, status });
    assert!(
        matches!(
            orders.as_slice(),
            [Order::Gone { how: Gone::Lost { next: Next::Again(_), .. }, .. }]
        ),
        "{orders:?}"
    );
}

#[test]
fn nothing_is_added_at_the_end() {
    let mut story = Story::orchestrated(3);
    story.tell(Event::Signal(15));
    story.tell(Event::Idle);
    let text = "name = \"d\"\nmodel.source = \"/m.gguf\"\nrun.dir = \"/r\"\n";
    let deployment = Deployment::from_resolved_toml(text).unwrap();
    let http = ([127, 0, 0, 1], 0).into();
    let layout = Layout { instances: Vec::new(), http, metrics: http };
    let generation = Generation { deployment, layout, config: "/r/deployment.toml".into() };
    let placement = Placement { generation: Arc::new(generation), place: 0 };
    let add = Event::Add { instance: 2, model: "m".into(), name: "m.2".into(), placement };
    let orders = story.tell(add);
    assert!(matches!(orders.as_slice(), [Order::Gone { instance: 2, how: Gone::Ended }]));
}

#[test]
fn silence_is_noticed_in_any_instance() {
    let mut story = Story::orchestrated(3);
    let alive = RankId { instance: 0, attempt: 0, rank: 0 };
    for _ in 0..5 {
        story.tell(Event::Said { id: alive, message: FromRank::Alive { step: 0 } });
        assert!(story.pass(SECOND).is_empty());
    }
    story.tell(Event::Said { id: alive, message: FromRank::Alive { step: 0 } });
    let orders = story.pass(SECOND);
    assert!(matches!(
        orders.as_slice(),
        [
            Order::Of { instance: 1, action: Action::Probe { .. }, .. },
            Order::Of { instance: 1, action: Action::KillRanks(_), .. }
        ]
    ));
}

proptest! {
    /// Whatever happens in whatever order: nothing panics, an attempt is started once, and after two
    /// signals and the end of everything that was started it is over.
    #[test]
    fn it_always_comes_to_an_end(
        happenings in prop::collection::vec((0u8..9, 0u32..3, 0u32..4, 0u64..4000), 0..60)
    ) {
        let mut story = Story::orchestrated(2);
        let mut started = vec![(0, 0), (1, 0)];
        let note = |orders: Vec<Order>, started: &mut Vec<(u32, u32)>| {
            for order in orders {
                if let Order::Start { instance, attempt } = order {
                    assert!(!started.contains(&(instance, attempt)));
                    started.push((instance, attempt));
                }
            }
        };
        for (what, instance, attempt, ms) in happenings {
            let id = RankId { instance, attempt, rank: 0 };
            let orders = match what {
                0 => story.die(instance, attempt),
                1 => story.tell(Event::Closed { id }),
                2 => story.tell(Event::Said { id, message: FromRank::Serving }),
                3 => story.tell(Event::Said { id, message: FromRank::Goodbye }),
                4 => story.tell(Event::Idle),
                5 => story.tell(Event::NotStarted { instance, attempt, reason: "r".into() }),
                6 => story.tell(Event::JobEnds { why: JobEnd::TimeLimit, until: None }),
                7 => signalled(&mut story, instance),
                _ => {
                    let hello =
                        Hello { id, world_size: 1, host: "n".into(), pid: 7, log: String::new() };
                    story.tell(Event::Hello { hello, local: attempt % 2 == 0 })
                }
            };
            note(orders, &mut started);
            let orders = story.pass(Duration::from_millis(ms));
            note(orders, &mut started);
        }
        for _ in 0..3 {
            let orders = story.tell(Event::Signal(15));
            note(orders, &mut started);
        }
        for (instance, attempt) in started {
            story.die(instance, attempt);
        }
        prop_assert!(story.fleet.is_over(), "{:?}", story.fleet.states());
    }
}

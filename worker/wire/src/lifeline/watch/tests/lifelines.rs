//! Lifelines from their beginning to their end.

use std::io::ErrorKind;
use std::time::Instant;

use super::*;

#[test]
fn both_ends_hear_each_other_and_each_others_end() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        let (link, mut reader) = watched.connect(hello(id(0, 0, 1))).unwrap();
        let Event::Hello { hello: heard, local } = watched.event() else { panic!() };
        let pid = match kind {
            Kind::Unix => std::process::id() as i32,
            Kind::Tcp => 4711,
        };
        assert_eq!((heard, local), (Hello { pid, ..hello(id(0, 0, 1)) }, kind == Kind::Unix));
        link.say(&FromRank::Alive { step: 7 }).unwrap();
        let Event::Said { id: who, message } = watched.event() else { panic!() };
        assert_eq!((who, message), (id(0, 0, 1), FromRank::Alive { step: 7 }));
        watched.watch.say(&id(0, 0, 0), &ToRank::Stop);
        watched.watch.say(&id(0, 0, 1), &ToRank::Drain { grace_ms: 9 });
        watched.watch.say_to_all(&ToRank::Alive);
        assert_eq!(reader.hear(), Some(ToRank::Drain { grace_ms: 9 }));
        assert_eq!(reader.hear(), Some(ToRank::Alive));
        drop((link, reader));
        let closed = watched.event();
        assert!(
            matches!(&closed, Event::Closed { id: RankId { rank: 1, .. }, fault: None }),
            "{closed:?}"
        );
        // The same rank may come again, as after a failed start.
        watched.rank(1);
    });
}

#[test]
fn an_engine_is_told_of_before_its_leader_says_that_it_serves() {
    both_kinds(|kind| {
        let watched = Watched::start_with(kind, |event| {
            if matches!(event, Event::Engine { .. }) {
                std::thread::sleep(Duration::from_millis(100));
            }
            event
        });
        let (link, _reader) = watched.rank(0);
        let leader = id(0, 0, 0);
        let _offer = EngineLink::dial(&watched.address, Some(&watched.secret), leader).unwrap();
        link.say(&FromRank::Serving).unwrap();
        let told = watched.event();
        assert!(matches!(told, Event::Engine { id, .. } if id == leader), "{told:?}");
        let told = watched.event();
        assert!(matches!(told, Event::Said { message: FromRank::Serving, .. }), "{told:?}");
    });
}

#[test]
fn one_watch_hears_several_listeners() {
    let watched = Watched::start(Kind::Unix);
    let listener = Listener::bind(&loopback(&watched.secret)).unwrap();
    let far = listener.address();
    watched.watch.also_listen(listener).unwrap();
    let _near = watched.rank(0);
    let (_link, mut reader) =
        Link::connect(&far, Some(&watched.secret), hello(id(0, 0, 1))).unwrap();
    assert!(matches!(watched.event(), Event::Hello { local: false, .. }));
    watched.watch.say(&id(0, 0, 1), &ToRank::Alive);
    assert_eq!(reader.hear(), Some(ToRank::Alive));
}

#[test]
fn long_messages_arrive_and_those_too_long_are_not_sent() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        let (link, _reader) = watched.rank(0);
        let failed = |len| FromRank::Failed { reason: "x".repeat(len) };
        let error = link.say(&failed(70_000)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        for len in [65_000, 0, 30_000] {
            link.say(&failed(len)).unwrap();
            let Event::Said { message, .. } = watched.event() else { panic!() };
            assert_eq!(message, failed(len));
        }
    });
}

#[test]
fn last_words_are_waited_for() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        let (link, mut reader) = watched.rank(0);
        // Unread by the rank, so that closing at once would cut off what it says.
        watched.watch.say_to_all(&ToRank::Alive);
        std::thread::scope(|scope| {
            scope.spawn(move || while reader.hear().is_some() {});
            link.end(&FromRank::Goodbye).unwrap();
        });
        let said = watched.event();
        assert!(matches!(said, Event::Said { message: FromRank::Goodbye, .. }), "{said:?}");
        assert!(matches!(watched.event(), Event::Closed { fault: None, .. }));
    });
}

#[test]
fn a_rank_that_reads_nothing_holds_up_nobody_and_is_told_whole_messages_in_the_end() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        let (_frozen, mut unread) = watched.rank(0);
        let (_link, mut reader) = watched.rank(1);
        let mut worst = Duration::ZERO;
        // More than any socket's buffers hold.
        for _ in 0..300_000 {
            watched.watch.say(&id(0, 0, 0), &ToRank::Alive);
            let before = Instant::now();
            watched.watch.say(&id(0, 0, 0), &ToRank::Drain { grace_ms: 9 });
            worst = worst.max(before.elapsed());
            if before.elapsed() >= Duration::from_millis(5) {
                break;
            }
        }
        assert!(worst < Duration::from_millis(500), "{worst:?}");
        watched.watch.say(&id(0, 0, 1), &ToRank::Stop);
        assert_eq!(reader.hear(), Some(ToRank::Stop));
        // What it hears when it goes on are messages, some left out.
        let until_stop = std::thread::spawn(move || {
            let mut heard = 0;
            while unread.hear()? != ToRank::Stop {
                heard += 1;
            }
            Some(heard)
        });
        while !until_stop.is_finished() {
            watched.watch.say(&id(0, 0, 0), &ToRank::Stop);
        }
        assert!(until_stop.join().unwrap().is_some_and(|heard| heard > 100));
    });
}

#[test]
fn nobody_can_connect_after_the_listener_is_closed() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        let (link, _reader) = watched.rank(0);
        watched.watch.stop_listening();
        let error = watched.connect(hello(id(0, 0, 1))).unwrap_err();
        assert!(matches!(error, SocketError::Connect { .. }), "{error}");
        assert!(!watched.folder.path().join("lifeline").exists());
        link.say(&FromRank::Goodbye).unwrap();
        assert!(matches!(watched.event(), Event::Said { .. }));
    });
}

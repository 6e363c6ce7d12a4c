//! Who is taken, and what the others are told.

use super::super::super::frame;
use super::*;
use crate::line::Line;

#[test]
fn ranks_that_are_not_expected_are_told_why() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        watched.watch.expect(1, 2);
        let _there = watched.rank(0);
        let cases = [
            (
                hello(id(2, 0, 0)),
                "rank 0 of instance 2 is not expected here: the instance is unknown, or given up",
            ),
            (
                hello(id(1, 1, 3)),
                "rank 3 of instance 1 is of attempt 1, but attempt 2 is the current one",
            ),
            (
                hello(id(1, 3, 3)),
                "rank 3 of instance 1 is of attempt 3, but attempt 2 is the current one",
            ),
            (
                hello(id(1, 2, 4)),
                "rank 4 of instance 1 can't be in a world of 4: ranks are below that",
            ),
            (hello(id(0, 0, 0)), "rank 0 of instance 0 is connected already"),
        ];
        for (hello, reason) in cases {
            assert_eq!(watched.refusal(hello), reason);
        }
        // The kernel's word overrides a rank's over Unix only.
        if kind == Kind::Tcp {
            for pid in [0, -1] {
                assert_eq!(
                    watched.refusal(Hello { pid, ..hello(id(0, 0, 1)) }),
                    format!(
                        "rank 1 of instance 0 says that its process is {pid}: they are numbered from 1"
                    )
                );
            }
        }
        watched.assert_quiet();
        let _rank = watched.connect(hello(id(1, 2, 3))).unwrap();
        assert!(matches!(watched.event(), Event::Hello { .. }));
    });
}

#[test]
fn a_new_attempt_ends_the_old_one_without_an_event() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        watched.watch.expect(1, 0);
        let (_old, mut old_reader) = watched.rank(0);
        let (_other, mut other_reader) = watched.connect(hello(id(1, 0, 0))).unwrap();
        assert!(matches!(watched.event(), Event::Hello { .. }));

        watched.watch.expect(0, 1);
        assert_eq!(old_reader.hear(), None);
        assert!(watched.refusal(hello(id(0, 0, 0))).ends_with("attempt 1 is the current one"));
        let (_new, mut new_reader) = watched.connect(hello(id(0, 1, 0))).unwrap();
        let Event::Hello { hello: heard, .. } = watched.event() else { panic!() };
        assert_eq!(heard.id, id(0, 1, 0));

        watched.watch.say_to_all(&ToRank::Alive);
        for reader in [&mut new_reader, &mut other_reader] {
            assert_eq!(reader.hear(), Some(ToRank::Alive));
        }
        watched.watch.forget(1);
        assert_eq!(other_reader.hear(), None);
        assert!(watched.refusal(hello(id(1, 0, 0))).ends_with("unknown, or given up"));
        // A rank that was forgotten and is expected again is not taken for its former self.
        watched.watch.forget(0);
        watched.watch.expect(0, 1);
        let (_again, mut again_reader) = watched.connect(hello(id(0, 1, 0))).unwrap();
        assert!(matches!(watched.event(), Event::Hello { .. }));
        watched.watch.say_to_all(&ToRank::Drain { grace_ms: 9 });
        assert_eq!(again_reader.hear(), Some(ToRank::Drain { grace_ms: 9 }));
        watched.assert_quiet();
    });
}

#[test]
fn another_build_is_told_so() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        let answer = |opening: &[u8]| {
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            let mut line = Line::dial(&watched.address, Some(&watched.secret), deadline).unwrap();
            let len = (opening.len() as u32).to_le_bytes();
            line.writer.send(&[&len, opening].concat()).unwrap();
            // The second variant, then a text.
            let (refused, reason): (u8, String) = frame::read(&mut line.reader).unwrap().unwrap();
            assert_eq!(refused, 1);
            reason
        };
        // Of its opening only the version is understood.
        assert_eq!(
            answer(&[99, 0xff, 0xff, 0xff]),
            "it speaks version 99 of the lifeline, this process version 2: both must be of one build"
        );
        let unreadable = "what it said first can't be read: ";
        assert!(answer(&[2, 0xff, 0xff, 0xff]).starts_with(unreadable));
        assert!(answer(&[]).starts_with(unreadable));
        watched.assert_quiet();
    });
}

use std::{
    sync::{Mutex, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use super::*;

#[test]
fn every_thread_runs_once_with_its_number() {
    for spin in [false, true] {
        let mut pool = Pool::new(4, None, spin).unwrap();
        for threads in [1, 2, 3, 4, 2, 4] {
            let seen = Mutex::new(Vec::new());
            pool.run(threads, |thread, of| seen.lock().unwrap().push((thread, of)));
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, (0..threads).map(|thread| (thread, threads)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn many_short_tasks_get_through() {
    let mut pool = Pool::new(3, None, true).unwrap();
    let count = AtomicUsize::new(0);
    for _ in 0..20_000 {
        pool.run(3, |_, _| {
            count.fetch_add(1, SeqCst);
        });
    }
    assert_eq!(count.into_inner(), 60_000);
}

#[test]
fn chunks_are_given_out_once_each() {
    let mut pool = Pool::new(3, None, false).unwrap();
    for len in [0, 1, 7, 8, 9, 100] {
        let mut cells = vec![0; len];
        pool.for_each_chunk(3, &mut cells, 4, |chunk, cells| {
            for cell in cells {
                *cell += 1 + chunk;
            }
        });
        let expected: Vec<usize> = (0..len).map(|at| 1 + at / 4).collect();
        assert_eq!(cells, expected);
    }
}

#[test]
fn a_panic_on_any_thread_reaches_the_caller_and_leaves_the_pool_usable() {
    let mut pool = Pool::new(3, None, false).unwrap();
    for culprit in 0..3 {
        let ended = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(3, |thread, _| {
                assert!(thread != culprit, "as the test wants");
                ended.fetch_add(1, SeqCst);
            });
        }));
        assert!(outcome.is_err());
        assert_eq!(ended.into_inner(), 2);
    }
    let count = AtomicUsize::new(0);
    pool.run(3, |_, _| {
        count.fetch_add(1, SeqCst);
    });
    assert_eq!(count.into_inner(), 3);
}

#[test]
fn idle_workers_sleep() {
    let mut pool = Pool::new(3, None, true).unwrap();
    pool.run(3, |_, _| ());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !pool.shared.slots.iter().all(|slot| slot.called.is_asleep()) {
        assert!(Instant::now() < deadline, "the workers still spin");
        thread::yield_now();
    }
}

#[test]
fn shares_tile_the_items() {
    for items in 0..20 {
        for threads in 1..6 {
            let mut next = 0;
            for thread in 0..threads {
                let range = share(items, thread, threads);
                assert_eq!(range.start, next);
                assert!(range.len() >= items / threads && range.len() <= items.div_ceil(threads));
                next = range.end;
            }
            assert_eq!(next, items);
        }
    }
}

#[test]
fn threads_run_on_their_cores() {
    let current = || {
        // SAFETY: the call has no preconditions.
        usize::try_from(unsafe { libc::sched_getcpu() }).unwrap()
    };
    let core = current();
    let runner = thread::spawn(move || {
        let mut pool = Pool::new(2, Some(&[core, core]), false).unwrap();
        pool.run(2, |_, _| assert_eq!(current(), core));
    });
    runner.join().unwrap();
}

#[test]
fn impossible_threads_are_refused() {
    let refusal = |threads, cores| Pool::new(threads, cores, false).err().unwrap().to_string();
    assert_eq!(refusal(0, None), "threads is 0; at least 1 is needed");
    assert_eq!(
        refusal(2, Some(&[0][..])),
        "2 threads cannot be pinned to 1 cores; name one core a thread"
    );
    assert_eq!(refusal(2, Some(&[0, 100_000][..])), "thread 1 could not be pinned to core 100000");
}

#[test]
fn no_thread_goes_beyond_a_barrier_before_all_have_come() {
    for spin in [false, true] {
        let mut pool = Pool::new(4, None, spin).unwrap();
        for round in 1..500 {
            let arrived = AtomicUsize::new(0);
            let barrier = pool.barrier(4);
            pool.run(4, |thread, _| {
                let arrival = barrier.arrival();
                if thread == round % 4 {
                    std::thread::yield_now();
                }
                arrived.fetch_add(1, SeqCst);
                arrival.wait();
                assert_eq!(arrived.load(SeqCst), 4);
            });
        }
    }
}

#[test]
fn a_panic_before_a_barrier_leaves_nobody_waiting() {
    let mut pool = Pool::new(3, None, false).unwrap();
    let barrier = pool.barrier(3);
    let run = AssertUnwindSafe(|| {
        pool.run(3, |thread, _| {
            let arrival = barrier.arrival();
            assert!(thread != 1, "on purpose");
            arrival.wait();
        });
    });
    assert!(catch_unwind(run).is_err());
}

#[test]
fn every_piece_of_every_owner_is_run_once() {
    let mut pool = Pool::new(3, None, false).unwrap();
    for threads in 1..=3 {
        for pieces in [0, 1, 5] {
            let runs: Vec<AtomicUsize> = (0..3 * 5).map(|_| AtomicUsize::new(0)).collect();
            pool.run_pieces(threads, pieces, |thread, owner, piece| {
                assert!(thread < threads && owner < threads && piece < pieces);
                runs[owner * 5 + piece].fetch_add(1, SeqCst);
            });
            for owner in 0..3 {
                for piece in 0..5 {
                    let expected = usize::from(owner < threads && piece < pieces);
                    assert_eq!(runs[owner * 5 + piece].load(SeqCst), expected);
                }
            }
        }
    }
}

#[test]
fn a_panic_in_a_piece_leaves_the_pool_usable() {
    let mut pool = Pool::new(2, None, false).unwrap();
    let run = AssertUnwindSafe(|| pool.run_pieces(2, 4, |_, _, _| panic!("on purpose")));
    assert!(catch_unwind(run).is_err());
    let runs = AtomicUsize::new(0);
    pool.run_pieces(2, 4, |_, _, _| {
        runs.fetch_add(1, SeqCst);
    });
    assert_eq!(runs.into_inner(), 8);
}

#[test]
fn a_slow_thread_s_pieces_are_taken_by_others() {
    let mut pool = Pool::new(2, None, false).unwrap();
    let by_the_other = AtomicUsize::new(0);
    pool.run_pieces(2, 8, |thread, owner, _| {
        if thread == 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        } else if owner == 0 {
            by_the_other.fetch_add(1, SeqCst);
        }
    });
    assert!(by_the_other.load(SeqCst) > 0);
}

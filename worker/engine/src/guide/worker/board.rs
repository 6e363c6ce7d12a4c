//! What the step thread and the thread `guide` exchange.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::guide::{CompiledGuide, GuideError};

/// What happens to the sequence of a place.
pub(super) enum Command {
    Start {
        guide: CompiledGuide,
        tokens: Vec<u32>,
    },
    /// It begins as the sequence of place `from` is.
    Fork {
        from: usize,
    },
    Accept {
        token: u32,
    },
    End,
}

/// A command on its way.
pub(super) struct Posted {
    pub(super) place: usize,
    pub(super) command: Command,
    /// Which of the place's commands this is. Masks made for an earlier one are of no use.
    pub(super) ticket: u64,
}

/// Commands one way, masks the other.
#[derive(Default)]
pub(super) struct Board {
    state: Mutex<State>,
    posted: Condvar,
    made: Condvar,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Posted>,
    places: Vec<Place>,
    /// One side has ended.
    closed: bool,
}

#[derive(Default)]
struct Place {
    /// Counts the place's commands.
    ticket: u64,
    /// The mask that the last command leads to.
    made: Option<Result<Vec<u32>, GuideError>>,
    /// Memory for the next.
    spare: Vec<u32>,
}

impl Board {
    /// For the step thread: orders something, and with it the mask that follows.
    pub(super) fn post(&self, place: usize, command: Command) {
        let mut state = self.lock();
        while state.places.len() <= place {
            state.places.push(Place::default());
        }
        let at = &mut state.places[place];
        at.ticket += 1;
        if let Some(Ok(mask)) = at.made.take() {
            at.spare = mask;
        }
        let ticket = at.ticket;
        state.commands.push_back(Posted { place, command, ticket });
        drop(state);
        self.posted.notify_one();
    }

    /// For the step thread: waits for the place's mask and exchanges it for `mask`.
    pub(super) fn take(
        &self,
        place: usize,
        mask: &mut Vec<u32>,
        deadline: Instant,
    ) -> Result<(), GuideError> {
        let since = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(made) = state.places[place].made.take() {
                state.places[place].spare = mem::replace(mask, made?);
                return Ok(());
            }
            if state.closed {
                return Err(GuideError::WorkerGone);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(GuideError::Late { waited: since.elapsed() });
            }
            (state, _) =
                self.made.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the thread `guide`: waits for a command. `None`: there are no more.
    pub(super) fn next(&self) -> Option<Posted> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(command) = state.commands.pop_front() {
                return Some(command);
            }
            state = self.posted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the thread `guide`: memory for a mask, unless it is of no use any more.
    pub(super) fn buffer(&self, place: usize, ticket: u64) -> Option<Vec<u32>> {
        let mut state = self.lock();
        let at = &mut state.places[place];
        (at.ticket == ticket).then(|| mem::take(&mut at.spare))
    }

    /// For the thread `guide`: hands over a mask.
    pub(super) fn publish(&self, place: usize, ticket: u64, made: Result<Vec<u32>, GuideError>) {
        let mut state = self.lock();
        let at = &mut state.places[place];
        if at.ticket == ticket {
            at.made = Some(made);
            drop(state);
            self.made.notify_one();
        } else if let Ok(mask) = made {
            at.spare = mask;
        }
    }

    /// For either side: it has ended, or wants the other to.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.posted.notify_one();
        self.made.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and what it guards is sound at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(1)
    }

    #[test]
    fn a_mask_for_an_earlier_command_is_not_handed_over() {
        let board = Board::default();
        board.post(1, Command::Accept { token: 7 });
        let first = board.next().unwrap();
        let memory = board.buffer(first.place, first.ticket).unwrap();
        board.post(1, Command::Accept { token: 8 });
        board.publish(1, first.ticket, Ok(memory));
        assert!(matches!(board.take(1, &mut vec![], soon()), Err(GuideError::Late { .. })));
        assert!(board.buffer(1, first.ticket).is_none());
        let second = board.next().unwrap();
        board.publish(1, second.ticket, Ok(vec![3]));
        let mut mask = vec![9; 5];
        board.take(1, &mut mask, soon()).unwrap();
        assert_eq!(mask, [3]);
        // The memory that the mask was exchanged for serves the next.
        assert_eq!(board.buffer(1, second.ticket).unwrap(), [9; 5]);
    }

    #[test]
    fn nobody_waits_for_a_side_that_has_ended() {
        let board = Board::default();
        board.post(0, Command::End);
        board.close();
        assert!(board.next().is_none());
        let long = Instant::now() + Duration::from_secs(60);
        assert!(matches!(board.take(0, &mut vec![], long), Err(GuideError::WorkerGone)));
    }
}

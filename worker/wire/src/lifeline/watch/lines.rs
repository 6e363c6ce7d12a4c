//! Which ranks may connect, and which have.

use std::collections::BTreeMap;
use std::io;

use super::super::{Hello, RankId, ToRank, frame, opening};
use crate::line::LineWriter;

/// The lifelines that are open, and who is expected.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The attempt of each instance whose ranks are taken.
    expected: BTreeMap<u32, u32>,
    open: BTreeMap<RankId, Open>,
    next_number: u64,
}

#[derive(Debug)]
struct Open {
    /// Tells it from a later one of the same rank.
    number: u64,
    writer: LineWriter,
}

/// Why a rank may not connect.
pub(super) enum NotTaken {
    /// In words for the rank.
    Refused(LineWriter, String),
    /// Its line is broken.
    Broken(io::Error),
}

impl Lines {
    pub(super) fn expect(&mut self, instance: u32, attempt: u32) {
        self.expected.insert(instance, attempt);
        self.hang_up(|id| id.instance == instance && id.attempt != attempt);
    }

    pub(super) fn forget(&mut self, instance: u32) {
        self.expected.remove(&instance);
        self.hang_up(|id| id.instance == instance);
    }

    fn hang_up(&mut self, which: impl Fn(&RankId) -> bool) {
        self.open.retain(|id, open| {
            let stays = !which(id);
            if !stays {
                open.writer.hang_up();
            }
            stays
        });
    }

    /// Whether the rank's attempt is expected; if not, why.
    pub(super) fn check(&self, id: &RankId) -> Result<(), String> {
        match self.expected.get(&id.instance) {
            Some(&attempt) if attempt == id.attempt => Ok(()),
            Some(attempt) => Err(format!(
                "{id} is of attempt {}, but attempt {attempt} is the current one",
                id.attempt
            )),
            None => Err(format!("{id} is not expected here: the instance is unknown, or given up")),
        }
    }

    /// Takes a rank's lifeline, and welcomes it before anything else is said on it. Returns its number.
    pub(super) fn take(&mut self, hello: &Hello, mut writer: LineWriter) -> Result<u64, NotTaken> {
        let Hello { id, world_size, pid, .. } = hello;
        let refusal = if let Err(reason) = self.check(id) {
            Some(reason)
        } else if id.rank >= *world_size {
            Some(format!("{id} can't be in a world of {world_size}: ranks are below that"))
        } else if *pid <= 0 {
            Some(format!("{id} says that its process is {pid}: they are numbered from 1"))
        } else if self.open.contains_key(id) {
            Some(format!("{id} is connected already"))
        } else {
            None
        };
        if let Some(reason) = refusal {
            return Err(NotTaken::Refused(writer, reason));
        }
        opening::welcome(&mut writer).map_err(NotTaken::Broken)?;
        let number = self.next_number;
        self.next_number += 1;
        self.open.insert(*id, Open { number, writer });
        Ok(number)
    }

    /// A lifeline has ended; false if it was ended here.
    pub(super) fn ended(&mut self, id: &RankId, number: u64) -> bool {
        let is_open = self.open.get(id).is_some_and(|open| open.number == number);
        if is_open {
            self.open.remove(id);
        }
        is_open
    }

    pub(super) fn say(&mut self, to: impl Fn(&RankId) -> bool, message: &ToRank) {
        for (_, open) in self.open.iter_mut().filter(|(id, _)| to(id)) {
            // A dead rank is heard of by the end of its lifeline.
            let _ = frame::write(&mut open.writer, message);
        }
    }
}

//! A rank of the test `collectives`: plays one scene with the others, and says `rank N: done` if all
//! of it was right.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use shardrun_comm::{CommError, Group, Mail, Patience, Peer, ShmGroup, ShmMail, World};

/// Nobody is waited for longer, except where waiting is the scene.
const PATIENCE: Patience = Patience { spin: false, timeout: Duration::from_secs(30) };
/// Where it is.
const IMPATIENCE: Patience = Patience { spin: false, timeout: Duration::from_millis(700) };
/// How late a deadline may be noticed on a loaded machine.
const LATE: Duration = Duration::from_secs(3);
/// Bytes of the longest message.
const LONGEST: usize = 5000;

/// What carries the scene.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Shm,
    Mpi,
}

/// A rank, and the beginning of its names in shared memory.
struct Stage {
    world: World,
    prefix: String,
    over: Over,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scene, over, prefix] = &arguments[..] else { bail!("usage: SCENE shm|mpi PREFIX") };
    let over = match over.as_str() {
        "shm" => Over::Shm,
        "mpi" => Over::Mpi,
        other => bail!("{other} carries nothing"),
    };
    let mut stage = Stage { world: World::init(PATIENCE)?, prefix: prefix.clone(), over };
    let ranks = stage.world.size();
    ensure!(ranks == 3 || (ranks == 2 && scene == "sums"), "no scene is for {ranks} ranks");
    match scene.as_str() {
        "sums" => stage.sums(),
        "columns" => stage.columns(),
        "mail" => stage.mail(),
        "absent-from-a-sum" => stage.absent_from_a_sum(),
        "absent-from-the-mail" => stage.absent_from_the_mail(),
        other => bail!("{other} is no scene"),
    }
    .with_context(|| format!("rank {}", stage.world.rank()))?;
    println!("rank {}: done", stage.world.rank());
    if scene.starts_with("absent") {
        stage.world.barrier()?;
        // What was given up is still under way, and ending MPI would wait for it.
        std::process::exit(0);
    }
    stage.world.finalize();
    Ok(())
}

/// A number that tells from which rank, call and place it is, and whose sums depend on their order:
/// the parts differ in size by far.
fn number(rank: usize, call: usize, index: usize) -> f32 {
    let mut bits = (rank * 0x9E37_79B9 + call * 0x85EB_CA6B + index * 0xC2B2_AE35) as u32;
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x2C1B_3C6D);
    bits ^= bits >> 12;
    let size = [1.0, 1e4, 1e-3][(rank + index) % 3];
    (bits as i32 as f32) / (1u32 << 31) as f32 * size
}

impl Stage {
    fn group(&mut self, patience: Patience) -> anyhow::Result<Box<dyn Group>> {
        let group: Box<dyn Group> = match self.over {
            Over::Shm => Box::new(ShmGroup::new(&self.world, &self.prefix, patience)?),
            Over::Mpi => Box::new(self.world.mpi_group(patience)?),
        };
        Ok(group)
    }

    fn mail_of(&mut self, patience: Patience) -> anyhow::Result<Box<dyn Mail>> {
        let mail: Box<dyn Mail> = match self.over {
            Over::Shm => Box::new(ShmMail::new(&self.world, &self.prefix, LONGEST, patience)?),
            Over::Mpi => Box::new(self.world.mpi_mail(patience)?),
        };
        Ok(mail)
    }

    /// Sums are those of a chain in rank order, bit for bit, whatever the size.
    fn sums(&mut self) -> anyhow::Result<()> {
        let mut group = self.group(PATIENCE)?;
        let mut orders_differ = false;
        for (call, len) in [1, 7, 576, 65_536, 65_537, 262_144 + 5, 1].into_iter().enumerate() {
            let part = |rank, index| number(rank, call, index);
            let mut data: Vec<f32> = (0..len).map(|index| part(group.rank(), index)).collect();
            group.all_reduce(&mut data)?;
            for (index, got) in data.into_iter().enumerate() {
                let parts = (0..group.size()).map(|rank| part(rank, index));
                let sum = |sum, part| sum + part;
                let expected = parts.clone().reduce(sum).context("a world has ranks")?;
                ensure!(
                    got.to_bits() == expected.to_bits(),
                    "element {index} of {len} is {got}, expected {expected}"
                );
                orders_differ |= Some(expected) != parts.rev().reduce(sum);
            }
        }
        // Two have one sum.
        let told = orders_differ || group.size() == 2;
        ensure!(told, "these numbers can't tell one order from another");
        Ok(())
    }

    /// Columns of any widths come side by side on rank 0, and nothing changes elsewhere.
    fn columns(&mut self) -> anyhow::Result<()> {
        const SLOT: usize = 262_144;
        let mut group = self.group(PATIENCE)?;
        let widths_and_rows = [
            ([1, 1, 1], 1),
            ([5, 7, 1], 3),
            ([16_384, 16_384, 16_384], 33),
            ([2, SLOT, 3], 2),
            ([SLOT + 100, 3, 2 * SLOT + 1], 2),
            ([4, 4, SLOT / 2 + 1], 3),
        ];
        for (call, (widths, rows)) in widths_and_rows.into_iter().enumerate() {
            let mut columns: Vec<Range<usize>> = Vec::new();
            for width in widths {
                let start = columns.last().map_or(0, |last| last.end);
                columns.push(start..start + width);
            }
            let total = columns[2].end;
            let own = widths[group.rank()];
            let part: Vec<f32> =
                (0..rows * own).map(|index| number(group.rank(), call, index)).collect();
            let mut whole = vec![f32::MAX; if group.rank() == 0 { rows * total } else { 3 }];
            group.gather_columns(&part, &columns, &mut whole)?;
            if group.rank() != 0 {
                ensure!(whole == [f32::MAX; 3], "only rank 0 receives");
                continue;
            }
            for row in 0..rows {
                for (rank, range) in columns.iter().enumerate() {
                    for column in range.clone() {
                        let got = whole[row * total + column];
                        let index = row * widths[rank] + column - range.start;
                        let expected = number(rank, call, index);
                        ensure!(
                            got == expected,
                            "row {row}, column {column} of {columns:?}: {got}, not {expected}"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Messages of all lengths come in order, each once; one that is too long is refused, and the
    /// next one comes.
    fn mail(&mut self) -> anyhow::Result<()> {
        const MESSAGES: usize = 4000;
        let mut mail = self.mail_of(PATIENCE)?;
        let mut message = Vec::new();
        if self.world.rank() != 0 {
            let nothing = mail.receive(&mut message, Duration::from_millis(20))?;
            ensure!(!nothing, "nothing was sent yet");
        }
        self.world.barrier()?;
        let text = |count: usize| -> Vec<u8> {
            let len = if count.is_multiple_of(7) { count % (LONGEST + 1) } else { count % 61 };
            (0..len).map(|at| (at ^ count) as u8).collect()
        };
        if self.world.rank() == 0 {
            for count in 0..MESSAGES {
                mail.send(&text(count))?;
            }
            if self.over == Over::Shm {
                let refused = mail.send(&[0; LONGEST + 1]);
                let right = matches!(
                    refused,
                    Err(CommError::Length { got, expected: LONGEST, .. }) if got == LONGEST + 1
                );
                ensure!(right, "{refused:?}");
            }
            mail.send(&[7; LONGEST])?;
        } else {
            for count in 0..MESSAGES {
                ensure!(mail.receive(&mut message, PATIENCE.timeout)?, "message {count}");
                ensure!(message == text(count), "message {count} is another");
            }
            ensure!(mail.receive(&mut message, PATIENCE.timeout)?, "the last message");
            ensure!(message == [7; LONGEST], "the last message is another");
            ensure!(!mail.receive(&mut message, Duration::from_millis(20))?, "nothing follows");
        }
        // The followers have read everything: nothing is under way when MPI ends.
        self.world.barrier()?;
        Ok(())
    }

    /// Rank 2 does not come to a sum: the others say so when their patience is over.
    fn absent_from_a_sum(&mut self) -> anyhow::Result<()> {
        let mut group = self.group(IMPATIENCE)?;
        if group.rank() == 2 {
            return Ok(());
        }
        let began = Instant::now();
        let result = group.all_reduce(&mut [1.0; 100]);
        let missed = if self.over == Over::Shm { Peer::Rank(2) } else { Peer::Others };
        expect_timeout(result, missed, began)?;
        // What was given up may still be under way in it.
        std::mem::forget(group);
        Ok(())
    }

    /// The followers do not read their mail: the leader says so when its patience is over.
    fn absent_from_the_mail(&mut self) -> anyhow::Result<()> {
        let mut mail = self.mail_of(IMPATIENCE)?;
        if self.world.rank() != 0 {
            return Ok(());
        }
        // Some messages may be on their way; sending the next one waits.
        let mut sent = 0;
        let (result, began) = loop {
            let began = Instant::now();
            match mail.send(&[1; LONGEST]) {
                Ok(()) => sent += 1,
                refused => break (refused, began),
            }
            ensure!(sent < 100, "{sent} messages were sent, and nobody has read one");
        };
        let missed = if self.over == Over::Shm { Peer::Rank(1) } else { Peer::Others };
        expect_timeout(result, missed, began)?;
        std::mem::forget(mail);
        Ok(())
    }
}

fn expect_timeout(
    result: Result<(), CommError>,
    missed: Peer,
    began: Instant,
) -> anyhow::Result<()> {
    let took = began.elapsed();
    let Err(CommError::Timeout { peer, waited, .. }) = &result else {
        bail!("no timeout: {result:?}");
    };
    ensure!(*peer == missed, "{result:?}");
    let soon = IMPATIENCE.timeout..IMPATIENCE.timeout + LATE;
    ensure!(soon.contains(&took) && soon.contains(waited), "after {took:?}: {result:?}");
    Ok(())
}

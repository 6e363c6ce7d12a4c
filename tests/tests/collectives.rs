//! What ranks say to each other, over shared memory and over MPI, in a world of three, or two, that the
//! program `collectives` plays.

use std::process::Command;

use anyhow::ensure;
use shardrun_tests::{Leftovers, mpirun, program};

/// When mpirun gives up on a scene.
const SECONDS: &str = "90";

/// Plays a scene; every rank must say that all of it was right.
fn play(scene: &str, over: &str, ranks: usize) -> anyhow::Result<()> {
    let prefix = format!("shardrun-test-{}-{scene}-{over}-{ranks}_", std::process::id());
    let words = mpirun(ranks);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--timeout", SECONDS]);
    command.arg(program("collectives")?).args([scene, over, &prefix]);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    for rank in 0..ranks {
        let done = format!("rank {rank}: done");
        ensure!(said.lines().any(|line| line == done), "no {done:?}:\n{said}\n{errors}");
    }
    // Ranks that have missed one end without asking MPI, which it doesn't like.
    let absent = scene.starts_with("absent");
    ensure!(absent || output.status.success(), "{}:\n{errors}", output.status);
    let left = Leftovers::named(&prefix);
    ensure!(left.is_empty(), "left are {left:?}");
    Ok(())
}

macro_rules! scenes {
    ($($name:ident: $scene:literal over $over:literal by $ranks:literal;)*) => {
        $(#[test]
        fn $name() -> anyhow::Result<()> {
            play($scene, $over, $ranks)
        })*
    };
}

scenes! {
    sums_are_in_rank_order_over_shm: "sums" over "shm" by 3;
    two_ranks_have_the_same_sums_over_shm: "sums" over "shm" by 2;
    sums_are_in_rank_order_over_mpi: "sums" over "mpi" by 3;
    uneven_columns_are_gathered_over_shm: "columns" over "shm" by 3;
    uneven_columns_are_gathered_over_mpi: "columns" over "mpi" by 3;
    mail_comes_in_order_over_shm: "mail" over "shm" by 3;
    mail_comes_in_order_over_mpi: "mail" over "mpi" by 3;
    who_misses_a_sum_is_named_over_shm: "absent-from-a-sum" over "shm" by 3;
    that_someone_misses_a_sum_is_said_over_mpi: "absent-from-a-sum" over "mpi" by 3;
    who_reads_no_mail_is_named_over_shm: "absent-from-the-mail" over "shm" by 3;
    that_nobody_reads_mail_is_said_over_mpi: "absent-from-the-mail" over "mpi" by 3;
}

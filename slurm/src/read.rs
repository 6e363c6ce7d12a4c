//! What Slurm's programs write, read.

pub(crate) mod sacct;
pub(crate) mod scontrol;
pub(crate) mod sinfo;
pub(crate) mod squeue;

/// A value, unless it is one of the words by which Slurm says that there is none.
fn given(text: &str) -> Option<String> {
    let none = ["", "(null)", "N/A", "None", "None assigned", "Unknown", "n/a"];
    (!none.contains(&text)).then(|| text.to_owned())
}

/// Splits a line at `|` into as many fields as `N`; the last takes what is left.
fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    let fields: Vec<_> = line.splitn(N, '|').collect();
    fields.try_into().ok()
}

//! What Slurm 22.05 wrote, for tests.

const JOBS: &str = include_str!("../tests/recorded/jobs.txt");
const LOGS: &str = include_str!("../tests/recorded/logs.txt");

/// Pairs of a name and the lines that follow `## name`.
fn sections(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.split("## ").skip(1).map(|section| section.split_once('\n').expect("a name ends its line"))
}

/// The lines of `scontrol show job -o`, by what was done to the job.
pub(crate) fn job_lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    sections(JOBS).map(|(name, line)| (name, line.trim_end_matches('\n')))
}

/// One of them.
pub(crate) fn job_line(name: &str) -> &'static str {
    job_lines().find(|(of, _)| *of == name).map(|(_, line)| line).expect("a recorded job")
}

/// The end of a job's output.
pub(crate) fn log(name: &str) -> Vec<String> {
    let (_, text) = sections(LOGS).find(|(of, _)| *of == name).expect("a recorded log");
    text.lines().map(str::to_owned).collect()
}

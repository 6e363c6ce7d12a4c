use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn minimal() -> Script {
    Script { command: vec!["true".into()], ..Script::default() }
}

fn full() -> Script {
    let text = |text: &str| Some(text.to_owned());
    Script {
        job_name: text("llama 70b"),
        partition: text("gpu"),
        account: text("lab"),
        qos: text("serve"),
        nodes: Some(2),
        ntasks_per_node: Some(4),
        cpus_per_task: Some(8),
        gpus_per_node: text("h100:4"),
        gres: text("nvme:1"),
        mem: text("512G"),
        time_limit: Some(TimeLimit::Limited(Duration::from_secs(36 * 3600))),
        constraint: text("[rack1|rack2]&ib"),
        nodelist: text("g[01-02]"),
        exclude: text("g[07,09]"),
        reservation: text("maint-after"),
        exclusive: true,
        output: text("/scratch/ada/my runs/%j.log"),
        append: true,
        requeue: Some(true),
        signal: Some(WarningSignal { name: "USR2".into(), seconds: 120, batch_only: true }),
        extra_directives: vec!["--mail-type=END,FAIL".into(), "--mail-user=ada@lab".into()],
        skip_directives: vec!["mail-user".into(), "--reservation".into()],
        modules: vec!["openmpi/4.1".into(), "cuda/12.4".into()],
        prologue: vec!["ulimit -l unlimited".into(), "cd /scratch/ada".into()],
        environment: vec![
            ("OMP_NUM_THREADS".into(), "8".into()),
            ("GREETING".into(), "it's $HOME".into()),
        ],
        command: ["shardrun", "run", "--run-dir", "/scratch/ada/my runs/7"]
            .map(Into::into)
            .to_vec(),
        exec: true,
    }
}

fn golden(script: &Script, expected: &str) {
    assert_eq!(script.render().unwrap(), expected);
}

#[test]
fn scripts_are_the_golden_ones() {
    golden(&full(), include_str!("../../tests/golden/full.sbatch"));
    golden(&minimal(), include_str!("../../tests/golden/minimal.sbatch"));
    let site = Script {
        partition: Some("batch".into()),
        gpus_per_node: Some("2".into()),
        gres: Some("gpu:2".into()),
        time_limit: Some(TimeLimit::Unlimited),
        requeue: Some(false),
        signal: Some(WarningSignal { name: "SIGTERM".into(), seconds: 60, batch_only: false }),
        skip_directives: vec!["gpus-per-node".into(), "open-mode".into()],
        append: true,
        environment: vec![("LINES".into(), "a\nb".into())],
        prologue: vec!["export SITE=fast\nulimit -c 0".into()],
        ..minimal()
    };
    golden(&site, include_str!("../../tests/golden/site.sbatch"));
}

fn refusal(change: impl FnOnce(&mut Script)) -> String {
    let mut script = full();
    change(&mut script);
    script.render().unwrap_err().to_string()
}

#[test]
fn what_would_break_a_line_is_refused_with_its_field() {
    let break_out = "x\n#SBATCH --uid=0";
    let bad = Some(break_out.to_owned());
    assert_eq!(
        refusal(|script| script.partition = bad),
        "partition is \"x\\n#SBATCH --uid=0\"; allowed: text on one line, without control characters"
    );
    let bad = Some(break_out.to_owned());
    assert!(refusal(|script| script.output = bad).starts_with("output is"));
    assert!(refusal(|script| script.qos = Some("\u{1b}[2J".into())).starts_with("qos is"));
    assert!(refusal(|script| script.account = Some(" ".into())).starts_with("account is"));
    assert!(
        refusal(|script| script.extra_directives[0] = format!("--{break_out}"))
            .starts_with("extra_")
    );
    assert!(refusal(|script| script.modules[0] = "a\nb".into()).starts_with("modules is"));
    assert!(refusal(|script| script.prologue[0] = "a\0b".into()).starts_with("prologue is"));
    assert!(
        refusal(|script| script.environment[0].1 = "a\0".into()).starts_with("OMP_NUM_THREADS")
    );
    assert!(refusal(|script| script.command[1] = "a\0".into()).starts_with("command is"));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_field() {
    assert_eq!(refusal(|script| script.nodes = Some(0)), "nodes is \"0\"; allowed: 1 and more");
    assert!(refusal(|script| script.command.clear()).starts_with("command is"));
    assert!(refusal(|script| script.environment[0].0 = "A B".into()).starts_with("environment is"));
    assert!(refusal(|script| script.environment[0].0 = "1A".into()).starts_with("environment is"));
    assert!(refusal(|script| script.extra_directives[0] = "mail".into()).starts_with("extra_"));
    let mistyped = refusal(|script| script.skip_directives.push("gpu-per-node".into()));
    assert!(mistyped.starts_with("skip_directives is \"gpu-per-node\"; allowed:"), "{mistyped}");
    assert!(mistyped.contains("gpus-per-node"), "{mistyped}");
}

#[test]
fn nccls_signal_is_not_taken() {
    for name in ["USR1", "SIGUSR1", "10", "", "A B", "-9"] {
        let error = refusal(|script| {
            script.signal =
                Some(WarningSignal { name: name.into(), seconds: 60, batch_only: true });
        });
        assert!(error.starts_with("signal is"), "{error}");
    }
    let signal = WarningSignal { name: "USR2".into(), seconds: 70_000, batch_only: true };
    assert!(refusal(|script| script.signal = Some(signal)).contains("USR2@70000"));
}

proptest! {
    #[test]
    fn every_word_of_a_command_reaches_it(words in prop::collection::vec("[^\0]{0,12}", 1..4)) {
        let script = Script { command: words.clone(), ..Script::default() };
        let text = script.render().unwrap();
        let (_, command) = text.split_once("set -euo pipefail\n\n").unwrap();
        prop_assert_eq!(shlex::split(command).unwrap(), words);
    }

    #[test]
    fn a_text_never_leaves_its_line(name in "\\PC{1,30}") {
        let script = Script { job_name: Some(name.clone()), ..minimal() };
        if let Ok(text) = script.render() {
            let line = text.lines().nth(1).unwrap();
            prop_assert!(line.starts_with("#SBATCH --job-name="), "{}", line);
            prop_assert_eq!(text.lines().count(), 6);
        }
    }
}

use super::*;

/// The variables of a recorded environment, `more` put over them.
fn read_with(text: &str, more: &[(&str, &str)]) -> Result<Option<Allocation>, SlurmError> {
    Allocation::read(|name| {
        let recorded = text.lines().filter_map(|line| line.split_once('='));
        let all = more.iter().copied().chain(recorded);
        all.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    })
}

fn read(text: &str) -> Allocation {
    read_with(text, &[]).unwrap().unwrap()
}

const BATCH: &str = include_str!("../../tests/recorded/env-batch.txt");
const STEP: &str = include_str!("../../tests/recorded/env-step.txt");
const STEP_UNBOUND: &str = include_str!("../../tests/recorded/env-step-gpu-bind-none.txt");
const SALLOC: &str = include_str!("../../tests/recorded/env-salloc.txt");

#[test]
fn a_batch_script_sees_its_job() {
    let allocation = read(BATCH);
    assert_eq!(allocation.job, JobId::new(1));
    assert_eq!(allocation.nodes, ["n1", "n2"]);
    assert_eq!(allocation.cpus_per_node, [2, 2]);
    assert_eq!(allocation.memory, Some(Memory::PerNode(500 << 20)));
    assert_eq!(allocation.gpus, ["0"]);
    assert_eq!((allocation.gpus_on_node, allocation.gpus_per_node), (Some(1), Some(1)));
    assert_eq!((allocation.restart_count, allocation.end_unix_s), (0, None));
    assert_eq!(allocation.cluster.as_deref(), Some("fake"));
}

#[test]
fn a_step_keeps_the_jobs_nodes_apart_from_its_own() {
    assert_eq!(read(STEP).nodes, ["n1", "n2"]);
    let allocation = read(STEP_UNBOUND);
    assert_eq!(
        (&allocation.nodes[..], allocation.gpus_on_node),
        (&["n1".into(), "n2".into()][..], Some(1))
    );
}

#[test]
fn an_interactive_allocation_has_memory_by_the_cpu() {
    let allocation = read(SALLOC);
    assert_eq!(allocation.memory, Some(Memory::PerCpu(50 << 20)));
    assert_eq!((allocation.gpus_per_node, allocation.gpus_on_node), (Some(2), None));
}

#[test]
fn outside_a_job_there_is_none() {
    assert_eq!(read_with("PATH=/bin\nSLURM_CONF=/etc/slurm.conf", &[]).unwrap(), None);
}

#[test]
fn newer_variables_are_read_where_they_are() {
    let more = [
        ("SLURM_JOB_END_TIME", "1795374677"),
        ("SLURM_RESTART_COUNT", "2"),
        ("SLURM_JOB_GPUS", "0-1,3"),
        ("SLURM_GPUS_PER_NODE", "a100:1,h100:2"),
        ("SLURM_ARRAY_JOB_ID", "7"),
        ("SLURM_ARRAY_TASK_ID", "4"),
    ];
    let allocation = read_with(BATCH, &more).unwrap().unwrap();
    assert_eq!((allocation.end_unix_s, allocation.restart_count), (Some(1_795_374_677), 2));
    assert_eq!(
        (allocation.gpus, allocation.gpus_per_node),
        (vec!["0".into(), "1".into(), "3".into()], Some(3))
    );
    assert_eq!(allocation.job.to_string(), "7_4");
}

#[test]
fn counts_repeat() {
    assert_eq!(repeats("2(x3),1"), Some(vec![2, 2, 2, 1]));
    assert_eq!(repeats("16"), Some(vec![16]));
    for text in ["", "x", "2(x", "2(3)", "2,", "1(x70000)", "1(x65536),1"] {
        assert_eq!(repeats(text), None, "{text}");
    }
}

#[test]
fn a_variable_that_cannot_be_read_is_named() {
    let error =
        |name: &str, value: &str| read_with(BATCH, &[(name, value)]).unwrap_err().to_string();
    assert_eq!(
        error("SLURM_JOB_CPUS_PER_NODE", "many"),
        "environment variable SLURM_JOB_CPUS_PER_NODE is \"many\"; expected counts such as 2(x3),1"
    );
    assert!(error("SLURM_RESTART_COUNT", "-1").contains("SLURM_RESTART_COUNT"));
    assert!(error("SLURM_JOB_NODELIST", "n[1-").contains("not closed"));
}

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
fn a_batch_script_sees_its_job_and_is_no_task() {
    let allocation = read(BATCH);
    assert_eq!(allocation.job, JobId::new(1));
    assert_eq!(allocation.nodes, ["n1", "n2"]);
    assert_eq!(
        (&allocation.cpus_per_node[..], &allocation.tasks_per_node[..]),
        (&[2, 2][..], &[2, 2][..])
    );
    assert_eq!(allocation.memory, Some(Memory::PerNode(500 << 20)));
    assert_eq!(allocation.gpus, ["0"]);
    assert_eq!((allocation.gpus_on_node, allocation.gpus_per_node), (Some(1), Some(1)));
    assert_eq!((allocation.restart_count, allocation.end_unix_s), (0, None));
    assert_eq!(allocation.partition.as_deref(), Some("main"));
    assert_eq!(allocation.cluster.as_deref(), Some("fake"));
    assert_eq!(allocation.submit_dir.as_deref(), Some("/scratch/ada"));
    assert_eq!(allocation.node_name.as_deref(), Some("n1"));
    assert_eq!((allocation.step, allocation.task), (None, None));
}

#[test]
fn a_task_knows_its_place() {
    let allocation = read(STEP);
    assert_eq!(allocation.nodes, ["n1", "n2"]);
    let step = allocation.step.unwrap();
    assert_eq!((step.id, step.num_tasks), (0, 4));
    assert_eq!((&step.nodes, &step.tasks_per_node[..]), (&allocation.nodes, &[2, 2][..]));
    assert_eq!((&step.gpus[..], step.mpi_type.as_deref()), (&["0".to_owned()][..], Some("pmix")));
    assert_eq!(allocation.task, Some(Task { proc_id: 3, local_id: 1, node_id: 1 }));
    assert!(allocation.tasks_per_node.is_empty(), "they are the step's");
}

#[test]
fn a_step_of_some_nodes_keeps_the_jobs_apart_from_its_own() {
    let allocation = read(STEP_UNBOUND);
    assert_eq!(allocation.nodes, ["n1", "n2"]);
    let step = allocation.step.unwrap();
    assert_eq!((step.nodes, step.tasks_per_node, step.num_tasks), (vec!["n2".into()], vec![2], 2));
    assert!(step.gpus.is_empty(), "--gpu-bind=none takes the variable away");
    assert_eq!(allocation.gpus_on_node, Some(1));
}

#[test]
fn an_interactive_allocation_has_no_step() {
    let allocation = read(SALLOC);
    assert_eq!(allocation.memory, Some(Memory::PerCpu(50 << 20)));
    assert_eq!((allocation.gpus_per_node, allocation.gpus_on_node), (Some(2), None));
    assert_eq!(
        (allocation.account.as_deref(), allocation.qos.as_deref()),
        (Some("lab"), Some("normal"))
    );
    assert_eq!((allocation.step, allocation.node_name), (None, None));
    // Within `salloc`'s shell on a node, Slurm numbers the step so:
    let shell = read_with(SALLOC, &[("SLURM_STEP_ID", "4294967290")]).unwrap().unwrap();
    assert_eq!(shell.step, None);
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

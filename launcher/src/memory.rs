//! The memory that ranks need at least, and whether a job has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::bail;
use shardrun_config::{Deployment, KvCacheDtype, Layout, Model};
use shardrun_files::Gguf;
use shardrun_slurm::{Allocation, Memory, human};

use crate::fetch::{self, ModelState};
use crate::submission::counted;

/// What all ranks of one instance keep together, at least: what they compute with comes on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Bytes of the weights, as they are stored.
    pub(crate) weights: u64,
    /// Bytes of the KV cache; 0 where the file doesn't say how large a token is.
    pub(crate) cache: u64,
}

impl Footprint {
    /// Of a model whose file is here.
    ///
    /// # Errors
    /// If there is no such file.
    pub(crate) fn of(model: &Model, file: &Path) -> std::io::Result<Self> {
        let weights = file.metadata()?.len();
        let cache = Gguf::open(file).ok().and_then(|file| cache_bytes(model, &file));
        Ok(Self { weights, cache: cache.unwrap_or(0) })
    }

    pub(crate) fn bytes(self) -> u64 {
        self.weights.saturating_add(self.cache)
    }

    /// What each of `ranks` ranks that share it has at least.
    fn shared_by(self, ranks: usize) -> Self {
        let ranks = ranks.max(1) as u64;
        Self { weights: self.weights / ranks, cache: self.cache / ranks }
    }

    fn add(&mut self, other: Self) {
        self.weights = self.weights.saturating_add(other.weights);
        self.cache = self.cache.saturating_add(other.cache);
    }
}

/// Bytes of the keys and values of all tokens of a cache, in all layers.
fn cache_bytes(model: &Model, file: &Gguf) -> Option<u64> {
    let architecture = file.require_str("general.architecture").ok()?;
    let number = |key: &str| {
        let number = file.optional_u32(&format!("{architecture}.{key}")).ok()?;
        number.map(u64::from)
    };
    let (layers, heads) = (number("block_count")?, number("attention.head_count")?);
    let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
    let head_dim = match number("attention.key_length") {
        Some(length) => length,
        None => number("embedding_length")?.checked_div(heads)?,
    };
    let element: u64 = match model.kv_cache.dtype {
        KvCacheDtype::F32 => 4,
        KvCacheDtype::Bf16 | KvCacheDtype::F16 => 2,
        KvCacheDtype::Int8 => 1,
    };
    let factors = [2, layers, kv_heads, head_dim, element];
    factors.into_iter().try_fold(model.kv_cache.max_tokens as u64, u64::checked_mul)
}

/// Of each model of a deployment, in their order; nothing of those whose files are not here.
pub(crate) fn footprints(deployment: &Deployment) -> Vec<Footprint> {
    let footprint = |model: &Model| match fetch::look(&model.source, model.sha256.as_ref()) {
        Ok(ModelState::Here { path, .. }) => Footprint::of(model, &path).unwrap_or_default(),
        _ => Footprint::default(),
    };
    deployment.models.iter().map(footprint).collect()
}

/// Checks that the job has the memory and the GPUs, on each of its nodes, that the ranks there need.
///
/// # Errors
/// Names the node, and what is needed and there in numbers.
pub(crate) fn check_job(
    deployment: &Deployment,
    footprints: &[Footprint],
    layout: &Layout,
    job: &Allocation,
) -> anyhow::Result<()> {
    let models = || deployment.models.iter().zip(footprints);
    let hosts = layout.instances.iter().flat_map(|instance| &instance.ranks);
    let hosts: BTreeMap<_, _> = hosts.map(|rank| (rank.node, &rank.host)).collect();
    for (node, host) in hosts {
        let (mut ranks, mut needed) = (0, Footprint::default());
        for (instance, _) in layout.on_node(node) {
            let of = &layout.instances[instance];
            if let Some((model, footprint)) = models().find(|(model, _)| model.name == of.model) {
                needed.add(footprint.shared_by(model.tp_size));
            }
            ranks += 1;
        }
        // Ranks may be sent to nodes that are not the job's.
        let Some(place) = job.nodes.iter().position(|name| name == host) else { continue };
        if let Some(has) = memory_of(job, place).filter(|&has| has < needed.bytes()) {
            bail!(
                "{}, and the job has {} there; ask for more (slurm.mem), for more nodes, or use a model \
                 that is quantised further",
                needs(&format!("the share of {host} ({})", counted(ranks, "rank")), needed),
                human(has)
            );
        }
        let gpus = layout.on_node(node).filter_map(|(_, rank)| rank.gpu);
        check_gpus(host, &gpus.collect(), job)?;
    }
    Ok(())
}

/// Checks what `sbatch` is asked for: the node with most ranks has at least the mean of all.
///
/// # Errors
/// If `memory_bytes` of each of `nodes` nodes are too few, in numbers; `by` says who asks for them.
pub(crate) fn check_request(
    deployment: &Deployment,
    footprints: &[Footprint],
    nodes: u32,
    (memory_bytes, by): (u64, &str),
) -> anyhow::Result<()> {
    let mut needed = Footprint::default();
    for (model, footprint) in deployment.models.iter().zip(footprints) {
        (0..model.instances).for_each(|_| needed.add(*footprint));
    }
    let each = needed.shared_by(nodes as usize);
    if each.bytes() > memory_bytes {
        bail!("{by} is {}: {}", human(memory_bytes), needs("the share of a node", each));
    }
    Ok(())
}

fn needs(what: &str, footprint: Footprint) -> String {
    format!(
        "{what} needs {} at least (weights {}, KV cache {})",
        human(footprint.bytes()),
        human(footprint.weights),
        human(footprint.cache)
    )
}

/// Bytes that the job has on one of its nodes, if it was given so many.
fn memory_of(job: &Allocation, place: usize) -> Option<u64> {
    match job.memory? {
        Memory::PerNode(bytes) => Some(bytes),
        Memory::PerCpu(bytes) => bytes.checked_mul((*job.cpus_per_node.get(place)?).into()),
        Memory::PerJob(_) => None,
    }
}

/// Ranks name GPUs by their place among the job's on a node, or by Slurm's own number.
fn check_gpus(host: &str, named: &BTreeSet<u32>, job: &Allocation) -> anyhow::Result<()> {
    let Some(there) = job.gpus_per_node.or(job.gpus_on_node) else { return Ok(()) };
    let unknown = |id: &&u32| **id >= there && !job.gpus.contains(&id.to_string());
    let too_many = named.len() > there as usize;
    if let Some(id) = named.iter().find(unknown).or_else(|| named.last().filter(|_| too_many)) {
        let ids: Vec<_> = named.iter().map(u32::to_string).collect();
        bail!(
            "model.gpu_device_ids names the GPUs {} for the ranks on {host}, and GPU {id} is not one of \
             the {there} that the job has there; ask for more (slurm.gpus_per_node)",
            ids.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_config::{Allocation as Nodes, NodeAllocation};

    use super::*;

    const GIB: u64 = 1 << 30;
    const TWO_NODES: &str =
        "SLURM_JOB_ID=7 SLURM_JOB_NODELIST=n[1-2] SLURM_JOB_CPUS_PER_NODE=2(x2)";

    fn deployment(more: &str) -> Deployment {
        let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{more}");
        Deployment::from_resolved_toml(&text).unwrap()
    }

    fn checked(more: &str, variables: &str, footprint: Footprint) -> Result<(), String> {
        let deployment = deployment(more);
        let all = format!("{TWO_NODES} {variables}");
        let get = |name: &str| {
            let mut pairs = all.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let job = Allocation::read(get).unwrap().unwrap();
        let node = |host: &str| NodeAllocation {
            host: host.into(),
            cores: vec![0, 1],
            cpu_limit: None,
            slots: Some(2),
        };
        let nodes = Nodes { nodes: vec![node("n1"), node("n2")] };
        let layout = Layout::new(&deployment, &nodes).unwrap();
        check_job(&deployment, &[footprint], &layout, &job).map_err(|error| error.to_string())
    }

    #[test]
    fn a_job_with_too_little_memory_is_refused_in_numbers() {
        let footprint = Footprint { weights: 6 * GIB, cache: 2 * GIB };
        let tp4 = "model.tp_size = 4";
        assert_eq!(checked(tp4, "SLURM_MEM_PER_NODE=4096", footprint), Ok(()));
        assert_eq!(
            checked(tp4, "SLURM_MEM_PER_NODE=3000", footprint).unwrap_err(),
            "the share of n1 (2 ranks) needs 4 GiB at least (weights 3 GiB, KV cache 1 GiB), and the job has 2.9 GiB \
             there; ask for more (slurm.mem), for more nodes, or use a model that is quantised further"
        );
        assert!(checked(tp4, "SLURM_MEM_PER_CPU=1024", footprint).is_err());
        assert_eq!(checked(tp4, "SLURM_MEM_PER_CPU=2048", footprint), Ok(()));
        for none in ["", "SLURM_MEM_PER_NODE=0"] {
            assert_eq!(checked(tp4, none, footprint), Ok(()), "nothing is said");
        }
    }

    #[test]
    fn gpus_that_the_job_has_not_are_named() {
        let gpus = |ids: &str, variables: &str| {
            let more =
                format!("model.tp_size = 2\nslurm.nodes = 2\nmodel.gpu_device_ids = \"{ids}\"");
            checked(&more, variables, Footprint::default())
        };
        assert_eq!(gpus("0,1", "SLURM_GPUS_ON_NODE=2"), Ok(()));
        assert_eq!(gpus("0,1", ""), Ok(()), "nothing is said");
        assert_eq!(gpus("2,3", "SLURM_GPUS_ON_NODE=2 SLURM_JOB_GPUS=2,3"), Ok(()));
        let error = gpus("0,2", "SLURM_GPUS_ON_NODE=2").unwrap_err();
        assert!(
            error.contains("on n2, and GPU 2 is not one of the 2 that the job has there"),
            "{error}"
        );
        assert!(gpus("0,1", "SLURM_GPUS_PER_NODE=h100:1").is_err());
    }

    #[test]
    fn what_is_asked_for_must_hold_a_nodes_share() {
        let footprint = [Footprint { weights: 3 * GIB, cache: GIB }];
        let deployment = deployment("model.instances = 2");
        let check = |nodes, bytes| {
            let checked = check_request(&deployment, &footprint, nodes, (bytes, "slurm.mem"));
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(2, 4 * GIB), Ok(()));
        assert_eq!(
            check(1, 4 * GIB).unwrap_err(),
            "slurm.mem is 4 GiB: the share of a node needs 8 GiB at least (weights 6 GiB, KV cache 2 GiB)"
        );
    }

    #[test]
    fn a_cache_is_as_large_as_its_file_says() {
        use shardrun_files::Value;
        use shardrun_files::testing::GgufBuilder;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let header = GgufBuilder::new()
            .string("general.architecture", "llama")
            .value("llama.block_count", Value::U32(2))
            .value("llama.embedding_length", Value::U32(64))
            .value("llama.attention.head_count", Value::U32(8))
            .value("llama.attention.head_count_kv", Value::U32(4));
        header.write(&path).unwrap();
        let of = |more: &str| Footprint::of(&deployment(more).models[0], &path).unwrap();
        let tokens = "kv_cache.max_tokens = 1000";
        let footprint = of(tokens);
        assert_eq!(footprint.weights, path.metadata().unwrap().len());
        assert_eq!(footprint.cache, 1000 * 2 * 2 * 4 * 8 * 2, "bf16");
        let cache = |dtype: &str| of(&format!("{tokens}\nkv_cache.dtype = \"{dtype}\"")).cache;
        assert_eq!(cache("int8") * 2, footprint.cache);
        assert_eq!(cache("f32"), footprint.cache * 2);
        std::fs::write(&path, "no model").unwrap();
        assert_eq!(of("").cache, 0);
    }
}

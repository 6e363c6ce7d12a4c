//! What sbatch is told beside the keys of a deployment: by its arguments, its environment and further
//! directives.

use shardrun_config::Deployment;

/// An option, the letter that stands for it, and the variable that sbatch takes it from.
type Known = (&'static str, Option<char>, Option<&'static str>);

/// The options that say where a job goes and how large it is.
const OPTIONS: [Known; 16] = [
    ("array", Some('a'), Some("SBATCH_ARRAY_INX")),
    ("clusters", Some('M'), Some("SBATCH_CLUSTERS")),
    ("cpus-per-task", Some('c'), None),
    ("exclusive", None, Some("SBATCH_EXCLUSIVE")),
    ("gpus", Some('G'), Some("SBATCH_GPUS")),
    ("gpus-per-node", None, Some("SBATCH_GPUS_PER_NODE")),
    ("gpus-per-task", None, Some("SBATCH_GPUS_PER_TASK")),
    ("gres", None, Some("SBATCH_GRES")),
    ("mem", None, Some("SBATCH_MEM_PER_NODE")),
    ("mem-per-cpu", None, Some("SBATCH_MEM_PER_CPU")),
    ("mem-per-gpu", None, Some("SBATCH_MEM_PER_GPU")),
    ("nodes", Some('N'), None),
    ("ntasks-per-node", None, None),
    ("partition", Some('p'), Some("SBATCH_PARTITION")),
    ("qos", Some('q'), Some("SBATCH_QOS")),
    ("time", Some('t'), Some("SBATCH_TIMELIMIT")),
];

/// The value of an option, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// `--partition`, `SBATCH_PARTITION`, `slurm.directives`, `slurm.partition`.
    pub(crate) by: String,
}

/// All that is said, what wins last: keys, directives, sbatch's environment, its arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Vec<Said>);

impl Told {
    /// What a deployment's keys and directives say, the variables that `get` has, and `arguments`.
    pub(crate) fn new(
        deployment: &Deployment,
        arguments: &[String],
        get: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let mut said = keys(deployment);
        for directive in &deployment.slurm.directives {
            // sbatch reads them as a shell would.
            let words = shlex::split(directive).unwrap_or_default();
            let found = options(&words).into_iter();
            said.extend(found.map(|(name, value)| by(name, value, "slurm.directives".to_owned())));
        }
        said.retain(|said| !skips(deployment, said.name));
        for (name, _, variable) in OPTIONS {
            let value = variable.and_then(|variable| Some((variable, get(variable)?)));
            said.extend(value.map(|(variable, value)| by(name, value, variable.to_owned())));
        }
        let given = options(arguments).into_iter();
        said.extend(given.map(|(name, value)| by(name, value, format!("--{name}"))));
        Self(said)
    }

    /// What holds of an option.
    pub(crate) fn of(&self, name: &str) -> Option<&Said> {
        self.one_of(&[name])
    }

    /// What holds where each of several options takes the place of the others.
    pub(crate) fn one_of(&self, names: &[&str]) -> Option<&Said> {
        self.0.iter().rfind(|said| names.contains(&said.name))
    }
}

fn by(name: &'static str, value: String, by: String) -> Said {
    Said { name, value, by }
}

/// What the deployment's own keys say of them.
fn keys(deployment: &Deployment) -> Vec<Said> {
    let slurm = &deployment.slurm;
    let gpus = slurm.gpus_per_node.map(|gpus| gpus.to_string());
    let exclusive = slurm.exclusive.then(String::new);
    let texts = [
        ("array", "slurm.array", &slurm.array),
        ("exclusive", "slurm.exclusive", &exclusive),
        ("gpus-per-node", "slurm.gpus_per_node", &gpus),
        ("gres", "slurm.gres", &slurm.gres),
        ("mem", "slurm.mem", &slurm.mem),
        ("partition", "slurm.partition", &slurm.partition),
        ("qos", "slurm.qos", &slurm.qos),
        ("time", "slurm.time", &slurm.time),
    ];
    let texts = texts.into_iter();
    texts.filter_map(|(name, key, text)| Some(by(name, text.clone()?, key.to_owned()))).collect()
}

/// Whether the site refuses a directive, so that the script has none.
pub(crate) fn skips(deployment: &Deployment, name: &str) -> bool {
    let is = |skip: &String| skip.trim_start_matches('-').split(['=', ' ']).next() == Some(name);
    deployment.slurm.skip_directives.iter().any(is)
}

/// The options among `words` that are known here, in their order.
fn options(words: &[String]) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some((name, joined)) = option(word) else { continue };
        let value = joined.or_else(|| words.next().cloned());
        found.extend(value.map(|value| (name, value)));
    }
    found
}

/// The option that a word is, with the value that is joined to it.
fn option(word: &str) -> Option<(&'static str, Option<String>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        // sbatch takes options cut short; of those here, only this begins like no other.
        let (known, ..) = OPTIONS.into_iter().find(|(known, ..)| {
            *known == name || (*known == "array" && known.starts_with(name) && name.len() > 1)
        })?;
        // Of this one the value may be left out.
        let value = if known == "exclusive" { value.or(Some(String::new())) } else { value };
        return Some((known, value));
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let letter = letters.next()?;
    let (known, ..) = OPTIONS.into_iter().find(|(_, short, _)| *short == Some(letter))?;
    let rest = letters.as_str();
    Some((known, (!rest.is_empty()).then(|| rest.to_owned())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn told(more: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
        let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{more}");
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let get = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Told::new(&deployment, &arguments, get)
    }

    fn partition(told: &Told) -> Option<(&str, &str)> {
        told.of("partition").map(|said| (&*said.value, &*said.by))
    }

    #[test]
    fn arguments_win_over_variables_and_those_over_directives_and_those_over_keys() {
        let keys = "slurm.partition = \"key\"";
        let both = format!("{keys}\nslurm.directives = [\"-p directive --time 5\"]");
        let variable = [("SBATCH_PARTITION", "variable")];
        assert_eq!(partition(&told("", &[], &[])), None);
        assert_eq!(partition(&told(keys, &[], &[])), Some(("key", "slurm.partition")));
        let told_both = told(&both, &[], &[]);
        assert_eq!(partition(&told_both), Some(("directive", "slurm.directives")));
        assert_eq!(told_both.of("time").unwrap().value, "5");
        assert_eq!(partition(&told(&both, &[], &variable)), Some(("variable", "SBATCH_PARTITION")));
        let given = told(&both, &["-p", "first", "--partition=last"], &variable);
        assert_eq!(partition(&given), Some(("last", "--partition")));
    }

    #[test]
    fn options_are_written_in_many_ways() {
        for words in
            [&["--array=0-3"][..], &["--array", "0-3"], &["-a0-3"], &["-a", "0-3"], &["--arr=0-3"]]
        {
            assert_eq!(told("", words, &[]).of("array").unwrap().value, "0-3", "{words:?}");
        }
        for words in [&["--account=a"][..], &["--acctg-freq=1"], &["-A", "a"], &["--array"]] {
            assert_eq!(told("", words, &[]).of("array"), None, "{words:?}");
        }
    }

    #[test]
    fn what_the_site_refuses_is_not_said() {
        let more = "slurm.mem = \"1G\"\nslurm.skip_directives = [\"--mem\"]";
        assert_eq!(told(more, &[], &[]).of("mem"), None);
        let given = told(more, &["--mem-per-cpu=2G"], &[]);
        assert_eq!(given.one_of(&["mem", "mem-per-cpu"]).unwrap().name, "mem-per-cpu");
    }
}

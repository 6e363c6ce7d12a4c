//! Ranks and instances: `tp_size`, `instances`, `gpu_device_ids`, `participant_ids`.
//!
//! These belong together: a set of ids has one for each rank of an instance, and all models have
//! participants or none has.

use std::collections::HashSet;

use shardrun_config::{IdSets, Kind, Value, keys};

use super::draft::{ModelDraft, Setting};
use super::leaf::Leaf;
use super::number::Number;
use super::report::Outcome;

const GPUS: &str = "parameters.gpu_device_ids";
const PARTICIPANTS: &str = "parameters.participant_ids";
const COUNT: &str = "instance_group.count";
/// What an engine is cut along, the ranks that share layers first.
const PARTS: [&str; 6] = [
    "pretrained_config.mapping.tp_size",
    "tensor_parallel_size",
    "pretrained_config.mapping.pp_size",
    "pretrained_config.mapping.cp_size",
    "pipeline_parallel_size",
    "context_parallel_size",
];
/// How many of them are about ranks that share layers.
const SHARING: usize = 2;

/// What a model says of its ranks.
#[derive(Debug)]
struct Placed {
    gpus: Option<Ids>,
    participants: Option<Ids>,
    /// Parts that an engine was built in: places in the leaves, and numbers.
    built: Vec<(usize, u64)>,
    /// Instances of each group.
    counts: Vec<(usize, u64)>,
}

/// Sets of ids with the place of their leaf; an error says why they are of no use.
#[derive(Debug)]
struct Ids {
    leaf: usize,
    /// Ids of each set; `None` if that can't be said.
    width: Option<usize>,
    sets: Result<Vec<Vec<u32>>, String>,
}

impl Ids {
    fn read(leaf: usize, text: &str) -> Self {
        let sets = sets(text);
        Self { leaf, width: sets.as_ref().ok().and_then(|sets| sets.first()).map(Vec::len), sets }
    }
}

/// Settles ranks and instances of all models. Gives whether there are participants, which only an
/// orchestrator starts.
pub(crate) fn settle(models: &mut [ModelDraft]) -> bool {
    let mut placed: Vec<_> = models.iter().map(Placed::read).collect();
    let pre_started = agree(models, &mut placed);
    for (model, placed) in models.iter_mut().zip(placed) {
        placed.write(model);
    }
    pre_started
}

/// Whether every model has participants that exclude each other; what breaks that spoils them all.
fn agree(models: &[ModelDraft], placed: &mut [Placed]) -> bool {
    if placed.iter().all(|placed| placed.participants.is_none()) {
        return false;
    }
    let mut seen = HashSet::new();
    let mut problem = None;
    for (model, placed) in models.iter().zip(&*placed) {
        let sets = placed.participants.as_ref().map(|ids| ids.sets.as_ref());
        problem = problem.or(match sets {
            None => Some(format!("all models need them, or none, and {} has none", model.folder)),
            Some(Err(_)) => Some(format!("those of {} are of no use", model.folder)),
            Some(Ok(sets)) => {
                let used = sets.iter().take(placed.instances() as usize).flatten();
                used.copied().find_map(|id| match (id, seen.insert(id)) {
                    (0, _) => Some("rank 0 is the orchestrator's".to_owned()),
                    (_, true) => None,
                    (_, false) => Some(format!("rank {id} is named twice")),
                })
            }
        });
    }
    let Some(problem) = problem else { return true };
    for ids in placed.iter_mut().filter_map(|placed| placed.participants.as_mut()) {
        if ids.sets.is_ok() {
            ids.sets = Err(problem.clone());
        }
    }
    false
}

impl Placed {
    fn read(model: &ModelDraft) -> Self {
        let mut placed =
            Placed { gpus: None, participants: None, built: Vec::new(), counts: Vec::new() };
        for (place, leaf) in model.leaves.iter().enumerate() {
            let Some(text) = leaf.given.one().filter(|_| leaf.outcome.is_none()) else { continue };
            let number =
                || Number::read(text).and_then(|number| u64::try_from(number.value()).ok());
            let at_least_one = || number().filter(|&number| number > 0);
            match leaf.plain_path().as_str() {
                GPUS => placed.gpus = Some(Ids::read(place, text)),
                PARTICIPANTS => placed.participants = Some(Ids::read(place, text)),
                COUNT => placed.counts.extend(at_least_one().map(|count| (place, count))),
                path if PARTS.contains(&path) => {
                    placed.built.extend(at_least_one().map(|parts| (place, parts)));
                }
                _ => {}
            }
        }
        let ranks = placed.participants.as_ref().and_then(|ids| ids.width);
        if let (Some(gpus), Some(ranks)) = (&mut placed.gpus, ranks)
            && let Some(width) = gpus.width.take_if(|width| *width != ranks)
        {
            gpus.sets = Err(format!(
                "a set has {width} ids, and {ranks} in participant_ids: one for each rank"
            ));
        }
        placed
    }

    /// How many there are: as many as groups say, and as there are participants for.
    fn instances(&self) -> u64 {
        let (_, most) = bounds("model.instances");
        let said: u64 = self.counts.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
        let said = said.clamp(1, most);
        match self.participants.as_ref().map(|ids| ids.sets.as_ref()) {
            Some(Ok(sets)) => said.min(sets.len() as u64),
            _ => said,
        }
    }

    /// Ranks of an instance: ids of a set, else parts of the engine.
    fn ranks(&self) -> Option<u64> {
        let ids = [&self.participants, &self.gpus].into_iter().flatten().find_map(|ids| ids.width);
        let parts = || {
            let product = |product: u64, (_, parts): &(usize, u64)| product.saturating_mul(*parts);
            (!self.built.is_empty()).then(|| self.built.iter().fold(1, product))
        };
        ids.map(|width| width as u64).or_else(parts)
    }

    /// Decides all that was read, and what should have been a number and is none.
    fn write(self, model: &mut ModelDraft) {
        let instances = self.instances();
        self.write_tp_size(model);
        self.write_instances(model, instances);
        self.write_ids(model, instances);
        let numbers = |leaf: &&mut Leaf| {
            let path = leaf.plain_path();
            path == COUNT || PARTS.contains(&path.as_str())
        };
        for leaf in model.leaves.iter_mut().filter(numbers) {
            leaf.decide(Outcome::left("not a number from 1 on", ""));
        }
    }

    fn write_tp_size(&self, model: &mut ModelDraft) {
        const KEY: &str = "model.tp_size";
        let Some(ranks) = self.ranks() else {
            model.notes.push(format!(
                "{}: the repository does not say how many ranks share the model; write the launch \
                 script's --world_size as {}",
                model.folder,
                model.path_of(KEY),
            ));
            return;
        };
        let (_, most) = bounds(KEY);
        let fitting = ranks.min(most);
        let value = Value::Integer(fitting);
        let product = self.built.iter().fold(1u64, |all, (_, parts)| all.saturating_mul(*parts));
        let many: Vec<_> = self.built.iter().filter(|(_, parts)| *parts > 1).collect();
        for &(leaf, parts) in &self.built {
            let is_tp = PARTS[..SHARING].contains(&model.leaves[leaf].path.as_str());
            let new = model.new_of(KEY, &value);
            let outcome = if product != ranks {
                Outcome::left(format!("a set of ids has {ranks}, and that counts"), "")
            } else if fitting != ranks {
                Outcome::Changed { new, why: format!("{KEY} takes 1 to {most}") }
            } else if is_tp && parts == ranks {
                Outcome::Taken { new }
            } else if parts > 1 || (is_tp && !many.is_empty()) {
                let why = "ranks share every layer here, and nothing else: as many as in all";
                Outcome::Changed { new, why: why.to_owned() }
            } else {
                Outcome::SoHere { why: "ranks share every layer, and nothing else".to_owned() }
            };
            model.leaves[leaf].decide(outcome);
        }
        let by_ids =
            [&self.participants, &self.gpus].into_iter().flatten().any(|ids| ids.width.is_some());
        let comment = match () {
            () if by_ids => Some("as many as there are ids in a set"),
            () if many.len() > 1 => {
                Some("all ranks: they share every layer here, and nothing else")
            }
            () => None,
        };
        if by_ids {
            let told = model.new_of(KEY, &value).told();
            model.notes.push(format!("{told}: as many as there are ids in a set"));
        }
        let comment = comment.map(str::to_owned);
        model.settings.insert(KEY, Setting { value, leaf: None, comment });
    }

    fn write_instances(&self, model: &mut ModelDraft, instances: u64) {
        const KEY: &str = "model.instances";
        let value = Value::Integer(instances);
        let said = self.counts.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
        let (_, most) = bounds(KEY);
        let why = match self.counts.len() {
            0 => None,
            _ if said > most && instances == most => Some(format!("{KEY} takes 1 to {most}")),
            _ if said != instances => Some("there are participants for so many".to_owned()),
            1 => None,
            _ => Some("all groups together".to_owned()),
        };
        for &(leaf, _) in &self.counts {
            let new = model.new_of(KEY, &value);
            model.leaves[leaf].decide(match why.clone() {
                None => Outcome::Taken { new },
                Some(why) => Outcome::Changed { new, why },
            });
        }
        if instances > 1 || !self.counts.is_empty() {
            let comment = why.map(|why| format!("instance_group.count = {said} there: {why}"));
            model.settings.insert(KEY, Setting { value, leaf: None, comment });
        }
    }

    fn write_ids(self, model: &mut ModelDraft, instances: u64) {
        if let Some(Ids { leaf, sets, .. }) = self.gpus {
            match sets {
                Ok(sets) => take(model, leaf, "model.gpu_device_ids", sets, None),
                Err(why) => model.leaves[leaf].decide(Outcome::left(why, "")),
            }
        }
        if let Some(Ids { leaf, sets, .. }) = self.participants {
            match sets {
                Ok(mut sets) => {
                    let why = (sets.len() as u64 > instances)
                        .then(|| format!("there are {instances} instances in instance_group"));
                    sets.truncate(instances as usize);
                    take(model, leaf, "model.participant_ids", sets, why);
                }
                Err(why) => {
                    let instead = "nothing: each instance gets a world of its own";
                    model.leaves[leaf].decide(Outcome::left(why, instead));
                }
            }
        }
    }
}

fn take(
    model: &mut ModelDraft,
    leaf: usize,
    key: &'static str,
    sets: Vec<Vec<u32>>,
    why: Option<String>,
) {
    model.take(leaf, key, Value::Text(IdSets(sets).into()), why);
}

/// Sets of the same length, as in `0,1;2,3`.
fn sets(text: &str) -> Result<Vec<Vec<u32>>, String> {
    let IdSets(sets) = IdSets::try_from(text.to_owned())
        .map_err(|form| format!("these are not {form}; Triton ignores it"))?;
    let (_, most) = bounds("model.tp_size");
    let width = sets.first().map_or(0, Vec::len);
    if sets.iter().any(|set| set.len() != width) {
        return Err("its sets are not of the same length: one id for each rank".to_owned());
    }
    match width as u64 > most {
        true => Err(format!("a set has {width} ids, and an instance at most {most} ranks")),
        false => Ok(sets),
    }
}

fn bounds(key: &str) -> (u64, u64) {
    match keys::find(key).map(|key| key.kind) {
        Some(Kind::Integer { min, max }) => (min, max),
        _ => (1, u64::MAX),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::import::leaf::Given;

    fn model(folder: &str, values: &[(&str, &str)]) -> ModelDraft {
        let leaf = |(path, text): &(&str, &str)| Leaf::new(folder, *path, Given::text(text));
        ModelDraft::new(folder, None, values.iter().map(leaf).collect())
    }

    fn settings(model: &ModelDraft) -> Vec<String> {
        let told = |(key, setting): (&&str, &Setting)| format!("{key} = {}", setting.value);
        model.settings.iter().map(told).collect()
    }

    fn why(model: &ModelDraft, leaf: usize) -> &str {
        match model.leaves[leaf].outcome.as_ref().unwrap() {
            Outcome::Left { why, .. } | Outcome::Changed { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    fn settled(values: &[(&str, &str)]) -> (ModelDraft, bool) {
        let mut models = [model("m", values)];
        let pre_started = settle(&mut models);
        let [model] = models;
        assert!(model.leaves.iter().all(|leaf| leaf.outcome.is_some()), "{model:?}");
        (model, pre_started)
    }

    #[test]
    fn ids_say_how_many_ranks_share_the_model() {
        let (model, pre_started) = settled(&[(GPUS, "0,1;2,3"), ("instance_group.count", "2")]);
        assert!(!pre_started);
        assert_eq!(
            settings(&model),
            ["model.gpu_device_ids = \"0,1;2,3\"", "model.instances = 2", "model.tp_size = 2",]
        );
    }

    #[test]
    fn participants_bound_the_instances() {
        let (model, pre_started) =
            settled(&[(PARTICIPANTS, "1,2;3,4"), ("instance_group.count", "3")]);
        assert!(pre_started);
        assert_eq!(
            settings(&model),
            ["model.instances = 2", "model.participant_ids = \"1,2;3,4\"", "model.tp_size = 2",]
        );
        assert_eq!(why(&model, 1), "there are participants for so many");
        let (model, _) = settled(&[(PARTICIPANTS, "1;2;3"), ("instance_group.count", "2")]);
        assert_eq!(model.settings["model.participant_ids"].value, Value::Text("1;2".into()));
        assert_eq!(why(&model, 0), "there are 2 instances in instance_group");
    }

    #[test]
    fn ids_that_are_of_no_use_are_left() {
        for (path, ids, says) in [
            (GPUS, "0,x", "these are not sets of ids, as in 0,1;2,3; Triton ignores it"),
            (GPUS, "0,1;2", "its sets are not of the same length: one id for each rank"),
            (PARTICIPANTS, "0,1", "rank 0 is the orchestrator's"),
            (PARTICIPANTS, "1,1", "rank 1 is named twice"),
        ] {
            let (model, pre_started) = settled(&[(path, ids)]);
            assert!(!pre_started);
            assert_eq!(why(&model, 0), says);
        }
        let wide = vec!["1"; 257].join(",");
        let (model, _) = settled(&[(GPUS, &wide)]);
        assert_eq!(why(&model, 0), "a set has 257 ids, and an instance at most 256 ranks");
        let (model, _) = settled(&[(PARTICIPANTS, "1,2"), (GPUS, "0")]);
        assert_eq!(why(&model, 1), "a set has 1 ids, and 2 in participant_ids: one for each rank");
    }

    #[test]
    fn all_models_have_participants_or_none() {
        let mut models = [model("a", &[(PARTICIPANTS, "1")]), model("b", &[(GPUS, "0")])];
        assert!(!settle(&mut models));
        assert_eq!(why(&models[0], 0), "all models need them, or none, and b has none");
        assert!(!models[0].settings.contains_key("model.participant_ids"));
        let mut models =
            [model("a", &[(PARTICIPANTS, "1,2")]), model("b", &[(PARTICIPANTS, "2,3")])];
        assert!(!settle(&mut models));
        assert_eq!(why(&models[0], 0), "rank 2 is named twice");
    }

    #[test]
    fn an_engines_parts_become_ranks() {
        let mapping = |tp: &'static str, pp: &'static str| {
            [("pretrained_config.mapping.tp_size", tp), ("pretrained_config.mapping.pp_size", pp)]
        };
        let (model, _) = settled(&mapping("4", "1"));
        assert_eq!(settings(&model), ["model.tp_size = 4"]);
        assert!(matches!(model.leaves[0].outcome, Some(Outcome::Taken { .. })));
        let (model, _) = settled(&mapping("2", "2"));
        assert_eq!(settings(&model), ["model.tp_size = 4"]);
        assert!(why(&model, 1).starts_with("ranks share every layer here"));
        let (model, _) = settled(&mapping("1000", "2"));
        assert_eq!(settings(&model), ["model.tp_size = 256"]);
        let [tp, pp] = mapping("4", "1");
        let (model, _) = settled(&[tp, pp, (GPUS, "0,1")]);
        assert_eq!(settings(&model), ["model.gpu_device_ids = \"0,1\"", "model.tp_size = 2"]);
        assert_eq!(why(&model, 0), "a set of ids has 2, and that counts");
    }

    #[test]
    fn without_a_word_of_ranks_the_user_is_asked() {
        let (model, _) = settled(&[("instance_group.count", "none")]);
        assert!(model.settings.is_empty());
        assert!(model.notes[0].contains("--world_size as model.tp_size"));
        assert_eq!(why(&model, 0), "not a number from 1 on");
    }
}

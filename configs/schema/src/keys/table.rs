//! The table of keys: what each takes, its default and its meaning.

mod model;
mod service;
mod slurm;

use super::{Fallback, Key};
use crate::Mode;
use crate::kind::Kind;

/// The longest timeout of a request.
const DAY_MS: u64 = 86_400_000;

/// The sections, in the order of the file, with their meaning. Keys without a dot stand above.
pub const SECTIONS: &[(&str, &str)] = &[
    (
        "model",
        "The model and how it is run. With several models each has a table of its own, \
         `[models.NAME]`, which takes the keys of this section; what stands here then holds for \
         all of them.",
    ),
    ("kv_cache", "The paged KV cache; for one of several models, `[models.NAME.kv_cache]`."),
    ("server", "The HTTP server. Nothing here authenticates clients."),
    ("run", "Where a run keeps its files. Each run makes a directory of its own."),
    ("launch", "How ranks are started, and on which nodes."),
    ("supervision", "Heartbeats, deadlines and restarts."),
    ("metrics", "What is kept about past iterations until somebody asks."),
    (
        "slurm",
        "The batch job. Keys without a default become directives or options only where they are \
         set; a site file is a good place for those that hold for a whole cluster.",
    ),
];

/// Keys above the first section.
const TOP: &[Key] = &[
    Key {
        path: "name",
        kind: Kind::Name,
        fallback: Fallback::Required("name the deployment, as in name = \"smollm2\""),
        doc: "Name of the deployment; run directories begin with it.",
    },
    Key {
        path: "mode",
        kind: Kind::Word(Mode::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "`leader`: one instance of one model, whose rank 0 serves; it ends when a rank is lost. \
              `orchestrator`: one gateway for all models and instances, outside their MPI worlds, \
              which starts an instance again that was lost. `auto` is leader mode for a single \
              instance.",
    },
];

const PARTS: [&[Key]; 4] = [TOP, model::KEYS, service::KEYS, slurm::KEYS];

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &{
    let mut keys = [TOP[0]; PARTS[0].len() + PARTS[1].len() + PARTS[2].len() + PARTS[3].len()];
    let (mut part, mut place) = (0, 0);
    while part < PARTS.len() {
        let mut number = 0;
        while number < PARTS[part].len() {
            keys[place] = PARTS[part][number];
            (number, place) = (number + 1, place + 1);
        }
        part += 1;
    }
    keys
};

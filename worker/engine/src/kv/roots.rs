//! Where sequences begin.

use std::collections::HashMap;

use shardrun_wire::BlockHash;

use super::BlockId;

/// Where the sequences of one adapter and one tenant begin: nothing is found from another root. Roots are
/// compared as they are, not by hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Root {
    /// The adapter; 0 is the model itself.
    pub adapter: u64,
    /// What separates tenants.
    pub salt: Option<String>,
}

/// A root that has children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RootId(u32);

/// The roots that have children. There are never more than blocks.
#[derive(Debug, Default)]
pub(super) struct Roots {
    ids: HashMap<Root, RootId>,
    entries: Vec<Option<Entry>>,
    vacant: Vec<RootId>,
}

#[derive(Debug)]
struct Entry {
    root: Root,
    hash: BlockHash,
    first_child: Option<BlockId>,
}

impl Roots {
    pub(super) fn get(&self, root: &Root) -> Option<RootId> {
        self.ids.get(root).copied()
    }

    /// The root's id; a new one is expected to get a child at once.
    pub(super) fn intern(&mut self, root: &Root) -> RootId {
        if let Some(id) = self.get(root) {
            return id;
        }
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push(None);
            RootId(self.entries.len() as u32 - 1)
        });
        self.ids.insert(root.clone(), id);
        let entry = Entry { root: root.clone(), hash: hash(root), first_child: None };
        self.entries[id.0 as usize] = Some(entry);
        id
    }

    /// The hash that a root's first blocks follow.
    pub(super) fn hash(&self, id: RootId) -> BlockHash {
        self.entry(id).hash
    }

    pub(super) fn first_child(&self, id: RootId) -> Option<BlockId> {
        self.entry(id).first_child
    }

    /// Changes the first child; a root without one is forgotten.
    pub(super) fn set_first_child(&mut self, id: RootId, child: Option<BlockId>) {
        let entry = &mut self.entries[id.0 as usize];
        if child.is_none()
            && let Some(entry) = entry.take()
        {
            self.ids.remove(&entry.root);
            self.vacant.push(id);
        } else if let Some(entry) = entry {
            entry.first_child = child;
        }
    }

    fn entry(&self, id: RootId) -> &Entry {
        self.entries[id.0 as usize].as_ref().expect("a root with children is known")
    }
}

/// The hash of a root: an absent salt hashes as an empty one.
pub(super) fn hash(root: &Root) -> BlockHash {
    BlockHash::root(root.adapter, root.salt.as_deref().unwrap_or_default())
}

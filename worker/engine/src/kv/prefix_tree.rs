//! What blocks contain, and how to find it: a tree of blocks that are whole and computed.

use std::mem;

use shardrun_wire::BlockHash;

use super::BlockId;
use super::hash_index::HashIndex;
use super::roots::{Root, RootId, Roots, hash};

/// How many children of a block are compared at most when part of one is looked for; the newest are.
pub(super) const MAX_CHILDREN_COMPARED: usize = 256;

/// A block's stay in the tree. A block that was evicted and entered the tree again has another one, so a
/// stale name is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    block: BlockId,
    generation: u32,
}

impl Node {
    /// The block, as long as the node is in the tree.
    #[must_use]
    pub(crate) fn block(self) -> BlockId {
        self.block
    }
}

/// What a block comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    Root(RootId),
    Block(BlockId),
}

/// What became of a block that was to be inserted.
pub(super) enum Entered {
    /// It is in the tree.
    New {
        node: Node,
        hash: BlockHash,
        /// Of the block before it.
        parent: Option<BlockHash>,
    },
    /// It stays outside: this one, perhaps itself, has the same tokens in the same place.
    Equal(Node),
}

#[derive(Debug)]
pub(super) struct PrefixTree {
    places: Vec<Place>,
    /// `[blocks, tokens_per_block]`; those of blocks outside the tree mean nothing.
    tokens: Vec<u32>,
    tokens_per_block: usize,
    index: HashIndex,
    roots: Roots,
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// How often the block has left the tree.
    generation: u32,
    /// While it is in the tree.
    links: Option<Links>,
}

#[derive(Clone, Debug)]
struct Links {
    parent: Parent,
    first_child: Option<BlockId>,
    /// Among the parent's children.
    previous: Option<BlockId>,
    next: Option<BlockId>,
}

impl PrefixTree {
    pub(super) fn new(blocks: u32, tokens_per_block: usize) -> Self {
        Self {
            places: vec![Place::default(); blocks as usize],
            tokens: vec![0; blocks as usize * tokens_per_block],
            tokens_per_block,
            index: HashIndex::new(blocks),
            roots: Roots::default(),
        }
    }

    pub(super) fn contains(&self, block: BlockId) -> bool {
        self.places[block.index()].links.is_some()
    }

    /// The name of a block in the tree.
    pub(super) fn node(&self, block: BlockId) -> Node {
        Node { block, generation: self.places[block.index()].generation }
    }

    /// Whether a node's block has been in the tree ever since.
    pub(super) fn is_current(&self, node: Node) -> bool {
        self.contains(node.block) && self.node(node.block) == node
    }

    pub(super) fn root(&self, root: &Root) -> Option<Parent> {
        self.roots.get(root).map(Parent::Root)
    }

    /// The hash of a block in the tree.
    pub(super) fn hash(&self, block: BlockId) -> BlockHash {
        self.index.hash(block)
    }

    /// The block before this one, which is in the tree.
    pub(super) fn parent(&self, block: BlockId) -> Option<BlockId> {
        match self.links(block).parent {
            Parent::Root(_) => None,
            Parent::Block(parent) => Some(parent),
        }
    }

    pub(super) fn first_child(&self, parent: Parent) -> Option<BlockId> {
        match parent {
            Parent::Root(root) => self.roots.first_child(root),
            Parent::Block(block) => self.links(block).first_child,
        }
    }

    /// The child of `parent` that has exactly these tokens, a block's worth. O(tokens).
    pub(super) fn child(&self, parent: Parent, tokens: &[u32]) -> Option<BlockId> {
        let parent_hash = match parent {
            Parent::Root(root) => self.roots.hash(root),
            Parent::Block(block) => self.hash(block),
        };
        let block = self.index.get(BlockHash::of(parent_hash, tokens))?;
        self.is(block, parent, tokens).then_some(block)
    }

    /// The child of `parent` that begins with most of `tokens`, and with how many; at least with one. Of
    /// equally good ones the newest. O([`MAX_CHILDREN_COMPARED`] · tokens of a block).
    pub(super) fn nearest_child(&self, parent: Parent, tokens: &[u32]) -> Option<(BlockId, usize)> {
        let tokens = &tokens[..tokens.len().min(self.tokens_per_block)];
        let mut best = None;
        let mut most = 0;
        let mut at = self.first_child(parent);
        for _ in 0..MAX_CHILDREN_COMPARED {
            let Some(block) = at.filter(|_| most < tokens.len()) else { break };
            let own = self.tokens(block);
            let common = own.iter().zip(tokens).take_while(|(own, token)| own == token).count();
            if common > most {
                most = common;
                best = Some((block, common));
            }
            at = self.links(block).next;
        }
        best
    }

    /// Lets a block into the tree after `parent`, or at the root. `None` if the parent is no longer in the
    /// tree, or if the hash is that of other tokens: hashes name blocks in events, so no two blocks have
    /// the same. O(tokens).
    pub(super) fn insert(
        &mut self,
        root: &Root,
        parent: Option<Node>,
        block: BlockId,
        tokens: &[u32],
    ) -> Option<Entered> {
        if parent.is_some_and(|node| !self.is_current(node)) {
            return None;
        }
        let parent_hash = parent.map(|node| self.hash(node.block));
        let own_hash = BlockHash::of(parent_hash.unwrap_or_else(|| hash(root)), tokens);
        let place = parent.map(|node| Parent::Block(node.block));
        if let Some(other) = self.index.get(own_hash) {
            let equal = place
                .or_else(|| self.root(root))
                .is_some_and(|parent| self.is(other, parent, tokens));
            return equal.then(|| Entered::Equal(self.node(other)));
        }
        assert!(!self.contains(block), "a block in the tree has one place");
        let place = place.unwrap_or_else(|| Parent::Root(self.roots.intern(root)));
        let next = self.first_child(place);
        if let Some(next) = next {
            self.links_mut(next).previous = Some(block);
        }
        self.places[block.index()].links =
            Some(Links { parent: place, first_child: None, previous: None, next });
        self.set_first_child(place, Some(block));
        self.index.insert(block, own_hash);
        let start = block.index() * self.tokens_per_block;
        self.tokens[start..start + self.tokens_per_block].copy_from_slice(tokens);
        Some(Entered::New { node: self.node(block), hash: own_hash, parent: parent_hash })
    }

    /// Takes a block without children out of the tree. O(1).
    pub(super) fn remove(&mut self, block: BlockId) {
        let place = &mut self.places[block.index()];
        let links = mem::take(&mut place.links).expect("a removed block was in the tree");
        debug_assert!(links.first_child.is_none(), "children are removed before their parent");
        place.generation = place.generation.wrapping_add(1);
        if let Some(next) = links.next {
            self.links_mut(next).previous = links.previous;
        }
        match links.previous {
            Some(previous) => self.links_mut(previous).next = links.next,
            None => self.set_first_child(links.parent, links.next),
        }
        self.index.remove(block);
    }

    /// Whether a block in the tree is what the tokens after `parent` would be.
    fn is(&self, block: BlockId, parent: Parent, tokens: &[u32]) -> bool {
        self.links(block).parent == parent && self.tokens(block) == tokens
    }

    fn tokens(&self, block: BlockId) -> &[u32] {
        &self.tokens[block.index() * self.tokens_per_block..][..self.tokens_per_block]
    }

    fn set_first_child(&mut self, parent: Parent, child: Option<BlockId>) {
        match parent {
            Parent::Root(root) => self.roots.set_first_child(root, child),
            Parent::Block(block) => self.links_mut(block).first_child = child,
        }
    }

    fn links(&self, block: BlockId) -> &Links {
        self.places[block.index()].links.as_ref().expect("linked blocks are in the tree")
    }

    fn links_mut(&mut self, block: BlockId) -> &mut Links {
        self.places[block.index()].links.as_mut().expect("linked blocks are in the tree")
    }
}

#[cfg(test)]
impl PrefixTree {
    /// What a block in the tree comes after.
    pub(super) fn place(&self, block: BlockId) -> Parent {
        self.links(block).parent
    }

    pub(super) fn children(&self, parent: Parent) -> impl Iterator<Item = BlockId> {
        std::iter::successors(self.first_child(parent), |&block| self.links(block).next)
    }

    pub(super) fn by_hash(&self, hash: BlockHash) -> Option<BlockId> {
        self.index.get(hash)
    }
}

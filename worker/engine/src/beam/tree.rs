//! The tokens of all beams, each kept once.

/// Every token that a live beam had; a path from a node to the root is a beam, backwards.
#[derive(Debug)]
pub(super) struct Tree {
    steps: Vec<Step>,
}

/// A place in a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node(u32);

#[derive(Clone, Copy, Debug)]
struct Step {
    before: Option<Node>,
    token: u32,
    log_prob: f32,
}

impl Tree {
    pub(super) fn with_capacity(tokens: usize) -> Self {
        Self { steps: Vec::with_capacity(tokens) }
    }

    /// Adds a token after `before`.
    pub(super) fn push(&mut self, before: Option<Node>, token: u32, log_prob: f32) -> Node {
        self.steps.push(Step { before, token, log_prob });
        Node(self.steps.len() as u32 - 1)
    }

    /// Tokens and their log probabilities, the last first.
    pub(super) fn path(&self, last: Option<Node>) -> impl Iterator<Item = (u32, f32)> {
        let step = |node: Node| self.steps[node.0 as usize];
        std::iter::successors(last.map(step), move |at| at.before.map(step))
            .map(|step| (step.token, step.log_prob))
    }

    /// Whether the tokens up to `last` end in `tokens`.
    pub(super) fn ends_with(&self, last: Option<Node>, tokens: &[u32]) -> bool {
        let mut path = self.path(last);
        tokens.iter().rev().all(|&token| path.next().is_some_and(|(other, _)| other == token))
    }
}

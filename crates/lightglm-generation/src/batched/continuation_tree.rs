//! `ContinuationTree`: continuations that begin alike share what they have in common.

/// A tree of token ids; node 0 is the root, where all continuations begin.
pub(super) struct ContinuationTree {
    nodes: Vec<Node>,
}

/// A token and what may follow it.
#[derive(Default)]
pub(super) struct Node {
    /// What may come next, in the order of first appearance.
    pub(super) children: Vec<(u32, usize)>,
    /// Indices of the continuations that end here.
    pub(super) ends: Vec<usize>,
}

impl ContinuationTree {
    pub(super) const ROOT: usize = 0;

    pub(super) fn new(continuations: &[Vec<u32>]) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        for (index, tokens) in continuations.iter().enumerate() {
            let mut at = Self::ROOT;
            for &token in tokens {
                at = tree.child(at, token);
            }
            tree.nodes[at].ends.push(index);
        }
        tree
    }

    pub(super) fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// The tokens from `node`, itself included, to the next node where there is a choice to make;
    /// each of them has something after it. Empty where nothing follows `node`.
    pub(super) fn chain(&self, token: u32, node: usize) -> Vec<(u32, usize)> {
        let mut chain = Vec::new();
        let mut next = (token, node);
        while !self.nodes[next.1].children.is_empty() {
            chain.push(next);
            match self.nodes[next.1].children[..] {
                [only] => next = only,
                _ => break,
            }
        }
        chain
    }

    fn child(&mut self, at: usize, token: u32) -> usize {
        let known = self.nodes[at].children.iter().find(|(known, _)| *known == token);
        if let Some(&(_, node)) = known {
            return node;
        }
        self.nodes.push(Node::default());
        let node = self.nodes.len() - 1;
        self.nodes[at].children.push((token, node));
        node
    }
}

//! The topic exchange: a binding's key is a pattern over the words of the message's (AMQP 0-9-1 §3.1.3.3).
//!
//! Words are what lies between dots and may be empty; the empty key has no words. `*` stands for one word, `#` for
//! any number of them, zero included.
//!
//! ```text
//!  a.*.c   a.#      (root)──a──▶(1)──*──▶(2)──c──▶(3) a.*.c
//!                                └───#──▶(4) a.#                 (4) keeps itself: each further word stays in it
//! ```
//!
//! The patterns form a trie. Each word that some pattern uses has a number, and all edges lie in one map from
//! (node, number) to node, so that a node costs a few dozen bytes, with a thousand children as with none. A route
//! looks up each of its words once and carries the set of nodes it is in from word to word, as one would run a
//! nondeterministic automaton. Backtracking was set aside: a pattern of many `#` would take it a time exponential
//! in their number, here each node is in the set at most once.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::model::ShortString;

use super::Routed;
use super::targets::{Target, Targets};

/// The trie of a topic exchange's patterns.
#[derive(Clone, Debug)]
pub(super) struct TopicTable {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    edges: HashMap<(NodeId, WordId), NodeId, FixedState>,
    words: Words,
}

/// The sets of nodes that a route goes through, lent by the caller so that it allocates nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicScratch {
    now: Vec<NodeId>,
    next: Vec<NodeId>,
}

type NodeId = u32;
type WordId = u32;

const ROOT: NodeId = 0;

/// No child: the root is nobody's.
const NO_NODE: NodeId = ROOT;

#[derive(Clone, Debug, Default)]
struct Node {
    /// The child for `*`.
    star: NodeId,
    /// The child for `#`.
    hash: NodeId,
    /// Whether this node is a child for `#`, and so is not left by a word.
    is_hash: bool,
    /// Edges that leave this node, of every kind.
    children: u32,
    /// Where the bindings lead whose pattern ends here.
    targets: Targets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Star,
    Hash,
    Word(WordId),
}

impl TopicTable {
    pub(super) fn new(hash: &FixedState) -> Self {
        let words = Words {
            numbers: HashMap::with_hasher(hash.clone()),
            uses: Vec::new(),
            free: Vec::new(),
        };
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            edges: HashMap::with_hasher(hash.clone()),
            words,
        }
    }

    pub(super) fn bind(&mut self, pattern: &ShortString, arguments: &[u8], target: Target) -> bool {
        let mut node = ROOT;
        for word in words(pattern.as_bytes()) {
            let edge = match word {
                b"*" => Edge::Star,
                b"#" => Edge::Hash,
                word => Edge::Word(self.words.number_or_new(word)),
            };
            node = self
                .child(node, edge)
                .unwrap_or_else(|| self.add_child(node, edge));
        }
        self.node_mut(node).targets.insert(target, arguments)
    }

    pub(super) fn unbind(&mut self, pattern: &ShortString, arguments: &[u8], target: Target) -> bool {
        let Some(path) = self.path(pattern.as_bytes()) else {
            return false;
        };
        let end = path.last().map_or(ROOT, |&(_, _, node)| node);
        let removed = self.node_mut(end).targets.remove(target, arguments);
        for &(parent, edge, node) in path.iter().rev() {
            if self.node(node).children > 0 || !self.node(node).targets.is_empty() {
                break;
            }
            self.remove_child(parent, edge, node);
        }
        removed
    }

    /// Reports the targets of every pattern that `routing_key` fits.
    pub(super) fn route(&self, routing_key: &[u8], scratch: &mut TopicScratch, routed: &mut Routed) {
        let TopicScratch { now, next } = scratch;
        now.clear();
        self.enter(ROOT, now);
        for word in words(routing_key) {
            next.clear();
            let number = self.words.number(word);
            now.iter().for_each(|&node| self.step(node, number, next));
            // A `#` may be entered from its parent and from itself.
            if next.len() > 1 {
                next.sort_unstable();
                next.dedup();
            }
            std::mem::swap(now, next);
            if now.is_empty() {
                return;
            }
        }
        now.iter().for_each(|&node| self.node(node).targets.reach(routed));
    }

    /// Adds the nodes that one word leads to; `None` is a word that no pattern uses.
    fn step(&self, id: NodeId, word: Option<WordId>, next: &mut Vec<NodeId>) {
        let node = self.node(id);
        if node.is_hash {
            // Those of the chain below it are here as well, each for itself.
            next.push(id);
        }
        if node.star != NO_NODE {
            self.enter(node.star, next);
        }
        if let Some(child) = word.and_then(|word| self.edges.get(&(id, word))) {
            self.enter(*child, next);
        }
    }

    /// Adds `node`, and the chain of `#` below it, each of which matches no words as well.
    fn enter(&self, node: NodeId, set: &mut Vec<NodeId>) {
        let mut node = node;
        loop {
            set.push(node);
            node = self.node(node).hash;
            if node == NO_NODE {
                return;
            }
        }
    }

    /// Parent, edge and child of each word of `pattern`, if it is in the trie.
    fn path(&self, pattern: &[u8]) -> Option<Vec<(NodeId, Edge, NodeId)>> {
        let mut parent = ROOT;
        words(pattern)
            .map(|word| {
                let edge = match word {
                    b"*" => Edge::Star,
                    b"#" => Edge::Hash,
                    word => Edge::Word(self.words.number(word)?),
                };
                let child = self.child(parent, edge)?;
                Some((std::mem::replace(&mut parent, child), edge, child))
            })
            .collect()
    }

    fn child(&self, node: NodeId, edge: Edge) -> Option<NodeId> {
        let present = |child: NodeId| (child != NO_NODE).then_some(child);
        match edge {
            Edge::Star => present(self.node(node).star),
            Edge::Hash => present(self.node(node).hash),
            Edge::Word(word) => self.edges.get(&(node, word)).copied(),
        }
    }

    fn add_child(&mut self, parent: NodeId, edge: Edge) -> NodeId {
        let node = Node {
            is_hash: edge == Edge::Hash,
            ..Node::default()
        };
        let child = match self.free.pop() {
            Some(free) => {
                *self.node_mut(free) = node;
                free
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as NodeId
            }
        };
        self.node_mut(parent).children += 1;
        match edge {
            Edge::Star => self.node_mut(parent).star = child,
            Edge::Hash => self.node_mut(parent).hash = child,
            Edge::Word(word) => {
                self.words.hold(word);
                self.edges.insert((parent, word), child);
            }
        }
        child
    }

    fn remove_child(&mut self, parent: NodeId, edge: Edge, child: NodeId) {
        self.node_mut(parent).children -= 1;
        match edge {
            Edge::Star => self.node_mut(parent).star = NO_NODE,
            Edge::Hash => self.node_mut(parent).hash = NO_NODE,
            Edge::Word(word) => {
                self.edges.remove(&(parent, word));
                self.words.release(word);
            }
        }
        *self.node_mut(child) = Node::default();
        self.free.push(child);
    }

    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

/// The words of a key or pattern.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|&byte| byte == b'.')
        .take(if key.is_empty() { 0 } else { usize::MAX })
}

/// The words that patterns use, numbered, with how many edges use each.
#[derive(Clone, Debug)]
struct Words {
    numbers: HashMap<Box<[u8]>, WordId, FixedState>,
    /// By number: the uses, and the word.
    uses: Vec<(u32, Box<[u8]>)>,
    free: Vec<WordId>,
}

impl Words {
    #[inline]
    fn number(&self, word: &[u8]) -> Option<WordId> {
        self.numbers.get(word).copied()
    }

    fn number_or_new(&mut self, word: &[u8]) -> WordId {
        if let Some(number) = self.number(word) {
            return number;
        }
        let word: Box<[u8]> = word.into();
        let number = match self.free.pop() {
            Some(free) => {
                self.uses[free as usize] = (0, word.clone());
                free
            }
            None => {
                self.uses.push((0, word.clone()));
                (self.uses.len() - 1) as WordId
            }
        };
        self.numbers.insert(word, number);
        number
    }

    fn hold(&mut self, number: WordId) {
        self.uses[number as usize].0 += 1;
    }

    fn release(&mut self, number: WordId) {
        let (uses, word) = &mut self.uses[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(word);
            *word = Box::default();
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QueueId;
    use crate::routing::tests::topic_matches;
    use proptest::prelude::*;

    fn name(text: &str) -> ShortString {
        ShortString::new(text.as_bytes()).expect("a short name")
    }

    fn queues(table: &TopicTable, key: &str) -> Vec<u64> {
        let mut routed = Routed::default();
        table.route(key.as_bytes(), &mut TopicScratch::default(), &mut routed);
        let mut queues: Vec<_> = routed.queues.iter().map(|queue| queue.0).collect();
        queues.sort_unstable();
        queues
    }

    fn table(patterns: &[&str]) -> TopicTable {
        let mut table = TopicTable::new(&FixedState::default());
        for (number, pattern) in patterns.iter().enumerate() {
            assert!(table.bind(&name(pattern), b"", Target::Queue(QueueId(number as u64))));
        }
        table
    }

    #[test]
    fn wildcards_count_words_and_empty_words_are_words() {
        let table = table(&["a.#", "a.*.b", "#", "*", "", "a..b", "#.b", "a.#.b", "*.*"]);
        assert_eq!(queues(&table, "a"), [0, 2, 3]);
        assert_eq!(queues(&table, ""), [2, 4]);
        assert_eq!(queues(&table, "a..b"), [0, 1, 2, 5, 6, 7]);
        assert_eq!(queues(&table, "a.b"), [0, 2, 6, 7, 8]);
        assert_eq!(queues(&table, "."), [2, 8]);
    }

    #[test]
    fn a_pattern_of_many_hashes_costs_no_more_than_its_length() {
        let pattern = vec!["#"; 100].join(".") + ".z";
        let key = vec!["a"; 127].join(".");
        assert_eq!(queues(&table(&[&pattern]), &key), [0; 0]);
    }

    #[test]
    fn an_emptied_trie_keeps_no_nodes_and_no_words() {
        let patterns = ["a.b.c", "a.*.#", "#.a", "a", ""];
        let mut table = table(&patterns);
        for (number, pattern) in patterns.iter().enumerate() {
            assert!(table.unbind(&name(pattern), b"", Target::Queue(QueueId(number as u64))));
            assert!(!table.unbind(&name(pattern), b"", Target::Queue(QueueId(number as u64))));
        }
        assert!(table.edges.is_empty());
        assert!(table.words.numbers.is_empty());
        assert_eq!(table.free.len() + 1, table.nodes.len());
    }

    fn pattern() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec!["", "a", "b", "*", "#"]);
        prop::collection::vec(word, 0..6).prop_map(|words| words.join("."))
    }

    fn key() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec!["", "a", "b", "c"]);
        prop::collection::vec(word, 0..7).prop_map(|words| words.join("."))
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_plain_matcher(
            patterns in prop::collection::vec(pattern(), 0..30),
            unbound in prop::collection::vec(any::<prop::sample::Index>(), 0..15),
            keys in prop::collection::vec(key(), 1..20),
        ) {
            let mut table = TopicTable::new(&FixedState::default());
            let mut bound: Vec<(u64, &String)> = (0..).zip(&patterns).collect();
            for (queue, pattern) in &bound {
                prop_assert!(table.bind(&name(pattern), b"", Target::Queue(QueueId(*queue))));
            }
            for index in unbound.iter().filter(|_| !patterns.is_empty()) {
                if !bound.is_empty() {
                    let (queue, pattern) = bound.swap_remove(index.index(bound.len()));
                    prop_assert!(table.unbind(&name(pattern), b"", Target::Queue(QueueId(queue))));
                }
            }
            for key in &keys {
                let matching = bound.iter().filter(|(_, pattern)| topic_matches(pattern.as_bytes(), key.as_bytes()));
                let mut expected: Vec<_> = matching.map(|(queue, _)| *queue).collect();
                expected.sort_unstable();
                prop_assert_eq!(queues(&table, key), expected, "key {:?} over {:?}", key, bound);
            }
        }
    }
}

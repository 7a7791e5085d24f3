//! A Merkle Patricia trie over nodes that are stored by their hash.
//!
//! An update reads and rewrites only the nodes on the touched paths, and returns the new nodes for
//! storage. Every root stays readable while its nodes are stored. Keys are hashes, so all have 64
//! nibbles and no branch has a value. Node types and RLP come from alloy-trie; the incremental
//! update is implemented here, because alloy-trie computes roots from complete, sorted sets of
//! leaves.

use super::error::Error;
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles, TrieMask,
    nodes::{BranchNode, ExtensionNode, LeafNode, RlpNode, TrieNode},
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A source of nodes.
pub(crate) trait Nodes {
    /// The node with this hash; a missing one is [`Error::Corrupt`].
    fn node(&self, hash: &B256) -> Result<Arc<TrieNode>, Error>;
}

/// New values by hashed key, `None` to delete.
pub(crate) type Changes = BTreeMap<B256, Option<Vec<u8>>>;
/// Encoded nodes by hash.
pub(crate) type NewNodes = BTreeMap<B256, Vec<u8>>;

/// Applies `changes` to the trie at `root`, adds the new nodes to `new`, and returns the new root.
pub(crate) fn update(
    source: &dyn Nodes,
    root: B256,
    changes: &Changes,
    new: &mut NewNodes,
) -> Result<B256, Error> {
    if changes.is_empty() {
        return Ok(root);
    }
    let changes: Vec<Change<'_>> = changes
        .iter()
        .map(|(key, value)| (Nibbles::unpack(key), value.as_deref()))
        .collect();
    let start = if root == EMPTY_ROOT_HASH {
        Child::Empty
    } else {
        Child::Stored(RlpNode::word_rlp(&root))
    };
    match apply(source, start, 0, &changes)? {
        Child::Empty => Ok(EMPTY_ROOT_HASH),
        Child::Stored(node) => node
            .as_hash()
            .ok_or_else(|| Error::corrupt("trie root", root)),
        Child::Node(node) => {
            let encoded = encode(*node, new);
            let hash = keccak256(&encoded);
            new.insert(hash, encoded);
            Ok(hash)
        }
    }
}

/// The value at a hashed key.
pub(crate) fn get(source: &dyn Nodes, root: B256, key: &B256) -> Result<Option<Vec<u8>>, Error> {
    let mut found = None;
    walk(source, root, key, |_| (), &mut found)?;
    Ok(found)
}

/// The encoded nodes from the root towards a hashed key, which prove its value or its absence.
pub(crate) fn prove(source: &dyn Nodes, root: B256, key: &B256) -> Result<Vec<Bytes>, Error> {
    let mut proof = Vec::new();
    walk(
        source,
        root,
        key,
        |node| proof.push(alloy_rlp::encode(node).into()),
        &mut None,
    )?;
    Ok(proof)
}

/// Calls `visit` on every node on the path to `key` that is referenced by hash.
fn walk(
    source: &dyn Nodes,
    root: B256,
    key: &B256,
    mut visit: impl FnMut(&TrieNode),
    found: &mut Option<Vec<u8>>,
) -> Result<(), Error> {
    if root == EMPTY_ROOT_HASH {
        return Ok(());
    }
    let key = Nibbles::unpack(key);
    let mut depth = 0;
    let mut next = RlpNode::word_rlp(&root);
    loop {
        let node = resolve(source, &next)?;
        if next.is_hash() {
            visit(&node);
        }
        match &*node {
            TrieNode::EmptyRoot => return Ok(()),
            TrieNode::Leaf(leaf) => {
                if key.slice(depth..) == leaf.key {
                    *found = Some(leaf.value.clone());
                }
                return Ok(());
            }
            TrieNode::Extension(extension) => {
                if !key.slice(depth..).starts_with(&extension.key) {
                    return Ok(());
                }
                depth += extension.key.len();
                next = extension.child.clone();
            }
            TrieNode::Branch(branch) => {
                let Some(nibble) = key.get(depth) else {
                    return Err(Error::corrupt("trie depth", root));
                };
                let Some(child) = branch_child(branch, nibble) else {
                    return Ok(());
                };
                next = child.clone();
                depth += 1;
            }
        }
    }
}

type Change<'a> = (Nibbles, Option<&'a [u8]>);

/// A subtree during an update.
enum Child {
    Empty,
    /// Unchanged: the hash of a node, or the node itself when it is shorter than a hash.
    Stored(RlpNode),
    Node(Box<Node>),
}

enum Node {
    Leaf { path: Nibbles, value: Vec<u8> },
    Extension { path: Nibbles, child: Child },
    Branch { children: [Child; 16] },
}

impl From<Node> for Child {
    fn from(node: Node) -> Self {
        Self::Node(Box::new(node))
    }
}

fn branch_child(branch: &BranchNode, nibble: u8) -> Option<&RlpNode> {
    if !branch.state_mask.is_bit_set(nibble) {
        return None;
    }
    let before = (0..nibble)
        .filter(|n| branch.state_mask.is_bit_set(*n))
        .count();
    branch.stack.get(before)
}

fn resolve(source: &dyn Nodes, node: &RlpNode) -> Result<Arc<TrieNode>, Error> {
    match node.as_hash() {
        Some(hash) => source.node(&hash),
        None => decode(node).map(Arc::new),
    }
}

/// Decodes a node and refuses trailing bytes.
pub(crate) fn decode(mut encoded: &[u8]) -> Result<TrieNode, Error> {
    let node = <TrieNode as alloy_rlp::Decodable>::decode(&mut encoded)
        .map_err(|error| Error::corrupt("trie node", error))?;
    if encoded.is_empty() {
        Ok(node)
    } else {
        Err(Error::corrupt("trie node", "trailing bytes"))
    }
}

fn open(source: &dyn Nodes, node: &RlpNode) -> Result<Node, Error> {
    Ok(match &*resolve(source, node)? {
        TrieNode::EmptyRoot => return Err(Error::corrupt("trie node", "empty inside the trie")),
        TrieNode::Leaf(leaf) => Node::Leaf {
            path: leaf.key,
            value: leaf.value.clone(),
        },
        TrieNode::Extension(extension) => Node::Extension {
            path: extension.key,
            child: Child::Stored(extension.child.clone()),
        },
        TrieNode::Branch(branch) => Node::Branch {
            children: std::array::from_fn(|nibble| {
                branch_child(branch, nibble as u8)
                    .map_or(Child::Empty, |child| Child::Stored(child.clone()))
            }),
        },
    })
}

/// The subtree at `depth` after the changes, whose keys share the first `depth` nibbles. The
/// recursion depth is bounded by the length of a key.
fn apply(
    source: &dyn Nodes,
    place: Child,
    depth: usize,
    changes: &[Change<'_>],
) -> Result<Child, Error> {
    let Some((first, last)) = changes.first().zip(changes.last()) else {
        return Ok(place);
    };
    let node = match place {
        Child::Empty => return Ok(build(&puts(changes), depth)),
        Child::Stored(node) => open(source, &node)?,
        Child::Node(node) => *node,
    };
    match node {
        Node::Leaf { path, value } => {
            let key = first.0.slice(..depth).join(&path);
            let mut leaves = puts(changes);
            if let Err(at) = changes.binary_search_by(|change| change.0.cmp(&key)) {
                let at = changes[..at]
                    .iter()
                    .filter(|change| change.1.is_some())
                    .count();
                leaves.insert(at, (key, value.as_slice()));
            }
            Ok(build(&leaves, depth))
        }
        Node::Extension { path, child } => {
            // The changes are sorted, so the first or the last one shares the least with the path.
            let shared = [first, last]
                .map(|change| change.0.slice(depth..).common_prefix_length(&path))
                .into_iter()
                .min()
                .unwrap_or(0);
            if shared == path.len() {
                let child = apply(source, child, depth + shared, changes)?;
                return extend(source, path, child);
            }
            let rest = path.slice(shared + 1..);
            let below = if rest.is_empty() {
                child
            } else {
                Node::Extension { path: rest, child }.into()
            };
            let mut children = [const { Child::Empty }; 16];
            children[usize::from(path.get_unchecked(shared))] = below;
            let branch = apply_branch(source, children, depth + shared, changes)?;
            extend(source, path.slice(..shared), branch)
        }
        Node::Branch { children } => apply_branch(source, children, depth, changes),
    }
}

fn apply_branch(
    source: &dyn Nodes,
    mut children: [Child; 16],
    depth: usize,
    changes: &[Change<'_>],
) -> Result<Child, Error> {
    let mut rest = changes;
    while let Some((key, _)) = rest.first() {
        let nibble = key.get_unchecked(depth);
        let (mine, others) =
            rest.split_at(rest.partition_point(|change| change.0.get_unchecked(depth) == nibble));
        let slot = &mut children[usize::from(nibble)];
        *slot = apply(
            source,
            std::mem::replace(slot, Child::Empty),
            depth + 1,
            mine,
        )?;
        rest = others;
    }
    let mut taken = (0u8..16).filter(|n| !matches!(children[usize::from(*n)], Child::Empty));
    match (taken.next(), taken.next()) {
        (None, _) => Ok(Child::Empty),
        // A branch with one child collapses: the nibble is prepended to the child's path.
        (Some(only), None) => {
            let child = std::mem::replace(&mut children[usize::from(only)], Child::Empty);
            extend(source, Nibbles::from_nibbles([only]), child)
        }
        _ => Ok(Node::Branch { children }.into()),
    }
}

/// Prepends `path` to a subtree.
fn extend(source: &dyn Nodes, path: Nibbles, child: Child) -> Result<Child, Error> {
    if path.is_empty() {
        return Ok(child);
    }
    let node = match child {
        Child::Empty => return Ok(Child::Empty),
        Child::Node(node) => *node,
        Child::Stored(stored) => match open(source, &stored)? {
            Node::Branch { .. } => {
                return Ok(Node::Extension {
                    path,
                    child: Child::Stored(stored),
                }
                .into());
            }
            short => short,
        },
    };
    Ok(match node {
        Node::Leaf { path: rest, value } => Node::Leaf {
            path: path.join(&rest),
            value,
        },
        Node::Extension { path: rest, child } => Node::Extension {
            path: path.join(&rest),
            child,
        },
        branch @ Node::Branch { .. } => Node::Extension {
            path,
            child: branch.into(),
        },
    }
    .into())
}

fn puts<'a>(changes: &[Change<'a>]) -> Vec<(Nibbles, &'a [u8])> {
    changes
        .iter()
        .filter_map(|(key, value)| value.map(|value| (*key, value)))
        .collect()
}

/// Builds a subtree from sorted leaves.
fn build(leaves: &[(Nibbles, &[u8])], depth: usize) -> Child {
    let (Some(first), Some(last)) = (leaves.first(), leaves.last()) else {
        return Child::Empty;
    };
    if leaves.len() == 1 {
        return Node::Leaf {
            path: first.0.slice(depth..),
            value: first.1.to_vec(),
        }
        .into();
    }
    let shared = first
        .0
        .slice(depth..)
        .common_prefix_length(&last.0.slice(depth..));
    let at = depth + shared;
    let mut children = [const { Child::Empty }; 16];
    let mut rest = leaves;
    while let Some((key, _)) = rest.first() {
        let nibble = key.get_unchecked(at);
        let (mine, others) =
            rest.split_at(rest.partition_point(|leaf| leaf.0.get_unchecked(at) == nibble));
        children[usize::from(nibble)] = build(mine, at + 1);
        rest = others;
    }
    let branch = Child::from(Node::Branch { children });
    if shared == 0 {
        branch
    } else {
        Node::Extension {
            path: first.0.slice(depth..at),
            child: branch,
        }
        .into()
    }
}

/// Encodes a node, and adds the nodes below it that are referenced by hash to `new`.
fn encode(node: Node, new: &mut NewNodes) -> Vec<u8> {
    let mut out = Vec::new();
    match node {
        Node::Leaf { path, value } => LeafNode::new(path, value).encode(&mut out),
        Node::Extension { path, child } => {
            ExtensionNode::new(path, reference(child, new)).encode(&mut out);
        }
        Node::Branch { children } => {
            let mut stack = Vec::with_capacity(16);
            let mut mask = TrieMask::default();
            for (nibble, child) in (0u8..).zip(children) {
                if !matches!(child, Child::Empty) {
                    mask.set_bit(nibble);
                    stack.push(reference(child, new));
                }
            }
            BranchNode::new(stack, mask).encode(&mut out);
        }
    }
    out
}

fn reference(child: Child, new: &mut NewNodes) -> RlpNode {
    match child {
        Child::Empty => RlpNode::default(),
        Child::Stored(node) => node,
        Child::Node(node) => {
            let encoded = encode(*node, new);
            let reference = RlpNode::from_rlp(&encoded);
            if let Some(hash) = reference.as_hash() {
                new.insert(hash, encoded);
            }
            reference
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_trie::{HashBuilder, proof::verify_proof};
    use proptest::prelude::*;

    #[derive(Default)]
    struct Map(BTreeMap<B256, Vec<u8>>);

    impl Nodes for Map {
        fn node(&self, hash: &B256) -> Result<Arc<TrieNode>, Error> {
            let encoded = self
                .0
                .get(hash)
                .ok_or_else(|| Error::corrupt("trie node", hash))?;
            decode(encoded).map(Arc::new)
        }
    }

    fn expected(leaves: &BTreeMap<B256, Vec<u8>>) -> B256 {
        let mut builder = HashBuilder::default();
        for (key, value) in leaves {
            builder.add_leaf(Nibbles::unpack(key), value);
        }
        builder.root()
    }

    /// Keys that sometimes share long prefixes, so that extensions, splits and inlined nodes occur.
    fn key() -> impl Strategy<Value = B256> {
        prop_oneof![
            any::<[u8; 2]>().prop_map(keccak256),
            (0u8..4, 0u8..32, any::<u8>()).prop_map(|(base, at, byte)| {
                let mut key = B256::repeat_byte(base);
                key[usize::from(at)] = byte;
                key
            }),
            (0u8..4, any::<u8>()).prop_map(|(base, byte)| {
                let mut key = B256::repeat_byte(base);
                key[31] = byte;
                key
            }),
        ]
    }

    fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop_oneof![
            1 => Just(None),
            1 => proptest::collection::vec(1u8.., 1..3).prop_map(Some),
            1 => proptest::collection::vec(any::<u8>(), 40..120).prop_map(Some),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn incremental_root_equals_the_root_of_all_leaves(
            rounds in proptest::collection::vec(
                proptest::collection::btree_map(key(), value(), 1..30),
                1..12,
            )
        ) {
            let mut stored = Map::default();
            let mut leaves = BTreeMap::new();
            let mut root = EMPTY_ROOT_HASH;
            let mut history = Vec::new();
            for changes in rounds {
                for (key, value) in &changes {
                    match value {
                        Some(value) => leaves.insert(*key, value.clone()),
                        None => leaves.remove(key),
                    };
                }
                let mut new = NewNodes::new();
                root = update(&stored, root, &changes, &mut new).expect("nodes are there");
                prop_assert_eq!(root, expected(&leaves));
                stored.0.extend(new);
                history.push((root, leaves.clone()));
                for key in changes.keys() {
                    let proof = prove(&stored, root, key).expect("nodes are there");
                    let value = leaves.get(key).cloned();
                    prop_assert_eq!(
                        get(&stored, root, key).expect("nodes are there"),
                        value.clone()
                    );
                    prop_assert!(verify_proof(root, Nibbles::unpack(key), value, &proof).is_ok());
                }
            }
            for (root, leaves) in history {
                for (key, value) in &leaves {
                    prop_assert_eq!(
                        get(&stored, root, key).expect("old roots stay readable"),
                        Some(value.clone())
                    );
                }
            }
        }

        #[test]
        fn decoding_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn an_update_rewrites_only_the_touched_paths() {
        let mut stored = Map::default();
        let all: Changes = (0u32..10_000)
            .map(|n| (keccak256(n.to_be_bytes()), Some(vec![7; 70])))
            .collect();
        let mut new = NewNodes::new();
        let root = update(&stored, EMPTY_ROOT_HASH, &all, &mut new).expect("nothing to read");
        stored.0.extend(new);
        let one = Changes::from([(keccak256(3u32.to_be_bytes()), Some(vec![8; 70]))]);
        let mut new = NewNodes::new();
        update(&stored, root, &one, &mut new).expect("nodes are there");
        assert!(
            new.len() <= 6,
            "one key of 10,000 rewrote {} nodes",
            new.len()
        );
    }

    #[test]
    fn a_missing_node_is_reported_as_corruption() {
        let key = B256::repeat_byte(1);
        let error =
            get(&Map::default(), B256::repeat_byte(9), &key).expect_err("nothing is stored");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

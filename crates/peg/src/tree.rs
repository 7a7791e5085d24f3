//! The sparse Merkle tree under the ledger hash (rule 5.1, docs/protocol.md).
//!
//! The path of a leaf is the bits of the sha256 of its key, the most significant first; a branch
//! has its leaves with bit 0 on the left. An empty subtree hashes to zero, and a leaf that is alone
//! in a subtree stands for it, so a tree of n leaves has a depth of about log2(n), and never more
//! than [`MAX_DEPTH`].

use std::fmt;
use std::sync::Arc;

use alys_types::Hash;
use alys_types::hash::{tagged, tags};
use sha2::{Digest, Sha256};

/// Bits of a path: no branch is deeper.
pub const MAX_DEPTH: usize = 256;

/// A persistent map from keys to values with a root. Clones share all nodes, and a change copies
/// the branches above its leaf.
pub struct Tree<V> {
    root: Link<V>,
}

/// A leaf as readers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a, V> {
    pub key: &'a [u8],
    /// The bytes that the root commits to.
    pub bytes: &'a [u8],
    /// The value that the bytes stand for; the caller keeps them equal.
    pub value: &'a V,
}

type Link<V> = Option<Arc<Node<V>>>;

enum Node<V> {
    Leaf(Leaf<V>),
    /// Holds two leaves or more.
    Branch {
        hash: Hash,
        left: Link<V>,
        right: Link<V>,
    },
}

struct Leaf<V> {
    path: Path,
    hash: Hash,
    key: Box<[u8]>,
    bytes: Box<[u8]>,
    value: V,
}

impl<V> Tree<V> {
    /// A tree without leaves.
    pub fn empty() -> Tree<V> {
        Tree { root: None }
    }

    /// The hash of the whole tree; [`Hash::ZERO`] without leaves.
    pub fn root(&self) -> Hash {
        hash_of(&self.root)
    }

    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The leaf of a key.
    pub fn get(&self, key: &[u8]) -> Option<Row<'_, V>> {
        let path = Path::of(key);
        let mut link = &self.root;
        let mut depth = 0;
        loop {
            match link.as_deref()? {
                Node::Leaf(leaf) => return (leaf.path == path).then(|| leaf.row()),
                Node::Branch { left, right, .. } => {
                    link = if path.bit(depth) { right } else { left };
                    depth = depth.saturating_add(1);
                }
            }
        }
    }

    /// Sets the leaf of a key.
    pub fn insert(&mut self, key: &[u8], bytes: Vec<u8>, value: V) {
        let path = Path::of(key);
        let leaf = Leaf {
            path,
            hash: leaf_hash(&path, &bytes),
            key: key.into(),
            bytes: bytes.into(),
            value,
        };
        self.insert_leaf(leaf);
    }

    /// Removes the leaf of a key, if there is one.
    pub fn remove(&mut self, key: &[u8]) {
        self.remove_path(&Path::of(key));
    }

    /// All leaves, in the order of their paths.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_, V>> {
        let mut pending: Vec<&Node<V>> = self.root.as_deref().into_iter().collect();
        std::iter::from_fn(move || {
            loop {
                match pending.pop()? {
                    Node::Leaf(leaf) => return Some(leaf.row()),
                    Node::Branch { left, right, .. } => {
                        pending.extend(right.as_deref());
                        pending.extend(left.as_deref());
                    }
                }
            }
        })
    }

    fn insert_leaf(&mut self, leaf: Leaf<V>) {
        let path = leaf.path;
        self.root = inserted(&self.root, 0, &path, Arc::new(Node::Leaf(leaf)));
    }

    fn remove_path(&mut self, path: &Path) {
        if let Some(root) = removed(&self.root, 0, path) {
            self.root = root;
        }
    }
}

impl<V> Clone for Tree<V> {
    fn clone(&self) -> Self {
        Tree {
            root: self.root.clone(),
        }
    }
}

impl<V> PartialEq for Tree<V> {
    fn eq(&self, other: &Self) -> bool {
        self.root() == other.root()
    }
}

impl<V> Eq for Tree<V> {}

impl<V> fmt::Debug for Tree<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({})", self.root())
    }
}

impl<V> Node<V> {
    fn hash(&self) -> Hash {
        match self {
            Node::Leaf(leaf) => leaf.hash,
            Node::Branch { hash, .. } => *hash,
        }
    }
}

impl<V> Leaf<V> {
    fn row(&self) -> Row<'_, V> {
        Row {
            key: &self.key,
            bytes: &self.bytes,
            value: &self.value,
        }
    }
}

fn hash_of<V>(link: &Link<V>) -> Hash {
    link.as_deref().map_or(Hash::ZERO, Node::hash)
}

fn leaf_hash(path: &Path, bytes: &[u8]) -> Hash {
    let value: [u8; 32] = Sha256::digest(bytes).into();
    tagged(tags::LEAF, &[&path.0, &value])
}

/// The subtree of two others, one of which may be empty.
fn joined<V>(left: Link<V>, right: Link<V>) -> Link<V> {
    match (left.as_deref(), right.as_deref()) {
        (None, None) => None,
        (Some(Node::Leaf(_)), None) => left,
        (None, Some(Node::Leaf(_))) => right,
        _ => {
            let hash = tagged(tags::NODE, &[&hash_of(&left).0, &hash_of(&right).0]);
            Some(Arc::new(Node::Branch { hash, left, right }))
        }
    }
}

/// The subtree at `depth` with a leaf more, or with another in its place. Recurses at most
/// [`MAX_DEPTH`] times, because two different paths part before their end.
fn inserted<V>(link: &Link<V>, depth: usize, path: &Path, leaf: Arc<Node<V>>) -> Link<V> {
    match link.as_deref() {
        None => Some(leaf),
        Some(Node::Leaf(found)) if found.path == *path => Some(leaf),
        Some(Node::Leaf(found)) => {
            let fork = found.path.shared_bits(path);
            let (old, new) = (link.clone(), Some(leaf));
            let pair = if path.bit(fork) {
                joined(old, new)
            } else {
                joined(new, old)
            };
            (depth..fork)
                .rev()
                .fold(pair, |below, depth| match path.bit(depth) {
                    true => joined(None, below),
                    false => joined(below, None),
                })
        }
        Some(Node::Branch { left, right, .. }) => {
            let below = depth.saturating_add(1);
            if path.bit(depth) {
                joined(left.clone(), inserted(right, below, path, leaf))
            } else {
                joined(inserted(left, below, path, leaf), right.clone())
            }
        }
    }
}

/// The subtree at `depth` without the leaf of a path; `None` if it has no such leaf. Recurses at
/// most [`MAX_DEPTH`] times.
fn removed<V>(link: &Link<V>, depth: usize, path: &Path) -> Option<Link<V>> {
    match link.as_deref()? {
        Node::Leaf(leaf) => (leaf.path == *path).then_some(None),
        Node::Branch { left, right, .. } => {
            let below = depth.saturating_add(1);
            Some(if path.bit(depth) {
                joined(left.clone(), removed(right, below, path)?)
            } else {
                joined(removed(left, below, path)?, right.clone())
            })
        }
    }
}

/// The place of a leaf: the sha256 of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Path([u8; 32]);

impl Path {
    fn of(key: &[u8]) -> Path {
        Path(Sha256::digest(key).into())
    }

    /// The bit at a depth, the most significant of the first byte at depth 0.
    fn bit(&self, depth: usize) -> bool {
        let byte = self.0.get(depth / 8).copied().unwrap_or(0);
        byte.wrapping_shl((depth % 8) as u32) & 0x80 != 0
    }

    /// Bits before the first one that differs.
    fn shared_bits(&self, other: &Path) -> usize {
        let bytes = self.0.iter().zip(&other.0);
        let differing = |(index, (a, b)): (usize, (&u8, &u8))| {
            let bits = (a ^ b).leading_zeros() as usize;
            (a != b).then(|| index.saturating_mul(8).saturating_add(bits))
        };
        bytes.enumerate().find_map(differing).unwrap_or(MAX_DEPTH)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Leaves by path, with their hashes.
    type Leaves = BTreeMap<[u8; 32], Hash>;

    /// The root by the words of rule 5.1, without a tree.
    fn naive(leaves: &[([u8; 32], Hash)], depth: usize) -> Hash {
        match leaves {
            [] => Hash::ZERO,
            [(_, hash)] => *hash,
            more => {
                let is_right = |path: &[u8; 32]| (path[depth / 8] >> (7 - depth % 8)) & 1 == 1;
                let (right, left): (Vec<_>, Vec<_>) =
                    more.iter().partition(|(path, _)| is_right(path));
                let [left, right] = [left, right].map(|side| naive(&side, depth + 1));
                tagged(tags::NODE, &[&left.0, &right.0])
            }
        }
    }

    fn naive_root(leaves: &Leaves) -> Hash {
        let leaves: Vec<_> = leaves.iter().map(|(path, hash)| (*path, *hash)).collect();
        naive(&leaves, 0)
    }

    fn leaf(path: [u8; 32], value: u8) -> Leaf<u8> {
        let hash = leaf_hash(&Path(path), &[value]);
        Leaf {
            path: Path(path),
            hash,
            key: path.into(),
            bytes: [value].into(),
            value,
        }
    }

    /// Paths that part at any depth, so that chains of branches with one child are frequent.
    fn path() -> impl Strategy<Value = [u8; 32]> {
        prop_oneof![
            (0u8..8, 0u8..=255).prop_map(|(byte, bits)| {
                let mut path = [0; 32];
                path[usize::from(byte)] = bits;
                path
            }),
            (0u8..=1).prop_map(|last| {
                let mut path = [0; 32];
                path[31] = last;
                path
            }),
            any::<[u8; 32]>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_root_is_that_of_the_leaves_whatever_their_history(
            changes in proptest::collection::vec((path(), any::<Option<u8>>()), 0..60),
        ) {
            let mut tree = Tree::empty();
            let mut leaves = Leaves::new();
            for (path, value) in changes {
                let (before, root) = (tree.clone(), tree.root());
                let earlier = leaves.get(&path).copied();
                match value {
                    Some(value) => {
                        tree.insert_leaf(leaf(path, value));
                        leaves.insert(path, leaf_hash(&Path(path), &[value]));
                    }
                    None => {
                        tree.remove_path(&Path(path));
                        leaves.remove(&path);
                    }
                }
                prop_assert_eq!(tree.root(), naive_root(&leaves));
                prop_assert_eq!(before.root(), root, "a clone keeps its content");
                // Removing a leaf that is new gives the root of before.
                if earlier.is_none() {
                    let mut undone = tree.clone();
                    undone.remove_path(&Path(path));
                    prop_assert_eq!(undone.root(), root);
                }
            }
            let rows: Vec<_> = tree.rows().map(|row| row.key.to_vec()).collect();
            let wanted: Vec<_> = leaves.keys().map(|path| path.to_vec()).collect();
            prop_assert_eq!(rows, wanted, "in the order of the paths");
        }

        #[test]
        fn keys_read_back_in_any_order_of_inserts(
            entries in proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 0..12),
                proptest::collection::vec(any::<u8>(), 0..12),
                0..40,
            ),
            seed in any::<u64>(),
        ) {
            let mut shuffled: Vec<_> = entries.iter().collect();
            shuffled.sort_by_key(|(key, _)| {
                Sha256::digest([&seed.to_le_bytes()[..], key.as_slice()].concat()).to_vec()
            });
            let mut ordered = Tree::empty();
            let mut other = Tree::empty();
            for (key, bytes) in &entries {
                ordered.insert(key, bytes.clone(), ());
            }
            for (key, bytes) in &shuffled {
                other.insert(key, bytes.to_vec(), ());
            }
            prop_assert_eq!(ordered.root(), other.root());
            for (key, bytes) in &entries {
                prop_assert_eq!(other.get(key).map(|row| row.bytes), Some(bytes.as_slice()));
            }
            for (key, _) in &shuffled {
                other.remove(key);
                prop_assert!(other.get(key).is_none());
            }
            prop_assert!(other.is_empty());
        }
    }

    #[test]
    fn paths_that_part_at_their_last_bit_make_the_deepest_tree() {
        let (low, mut high) = ([0xa5; 32], [0xa5; 32]);
        high[31] ^= 1;
        let mut tree = Tree::empty();
        tree.insert_leaf(leaf(low, 1));
        let alone = tree.root();
        tree.insert_leaf(leaf(high, 2));
        let hash = |path, value| leaf_hash(&Path(path), &[value]);
        let leaves = Leaves::from([(low, hash(low, 1)), (high, hash(high, 2))]);
        assert_eq!(tree.root(), naive_root(&leaves));
        tree.remove_path(&Path(high));
        assert_eq!(tree.root(), alone, "the chain of branches is gone");
        assert_eq!(alone, hash(low, 1));
    }
}

//! The root of the ledger (rule 5.1), computed naively from all of its entries.

use std::collections::BTreeMap;

use alys_types::Hash;
use sha2::{Digest, Sha256};

/// Entries by key.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// `sha256(sha256(length of the tag, tag, parts))`.
pub fn tagged(tag: &[u8], parts: &[&[u8]]) -> Hash {
    let mut content = vec![tag.len() as u8];
    content.extend_from_slice(tag);
    for part in parts {
        content.extend_from_slice(part);
    }
    double(&content)
}

/// `sha256(sha256(bytes))`.
pub fn double(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(Sha256::digest(bytes)).into())
}

/// The root of the tree over these entries.
pub fn root(entries: &Entries) -> Hash {
    if entries.is_empty() {
        return tagged(b"alys/ledger", &[]);
    }
    let leaf = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        let path: [u8; 32] = Sha256::digest(key).into();
        let value: [u8; 32] = Sha256::digest(value).into();
        (path, tagged(b"alys/leaf", &[&path, &value]))
    };
    let mut leaves: Vec<([u8; 32], Hash)> = entries.iter().map(leaf).collect();
    leaves.sort_unstable();
    subtree(&leaves, 0)
}

/// The hash of the subtree of these leaves, which agree in the first `depth` bits of their paths.
fn subtree(leaves: &[([u8; 32], Hash)], depth: usize) -> Hash {
    match leaves {
        [] => Hash::ZERO,
        [(_, leaf)] => *leaf,
        _ => {
            let is_left =
                |(path, _): &([u8; 32], Hash)| path[depth / 8] >> (7 - depth % 8) & 1 == 0;
            let (left, right) = leaves.split_at(leaves.partition_point(is_left));
            let left = subtree(left, depth + 1);
            let right = subtree(right, depth + 1);
            tagged(b"alys/node", &[&left.0, &right.0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(keys: &[&str]) -> Entries {
        let entry = |key: &&str| {
            (
                key.as_bytes().to_vec(),
                format!("value of {key}").into_bytes(),
            )
        };
        keys.iter().map(entry).collect()
    }

    fn leaf(key: &str) -> ([u8; 32], Hash) {
        let path: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let value: [u8; 32] = Sha256::digest(format!("value of {key}").as_bytes()).into();
        (path, tagged(b"alys/leaf", &[&path, &value]))
    }

    #[test]
    fn roots_are_those_of_the_rule_written_out() {
        assert_eq!(root(&entries(&[])), alys_types::spec::empty_ledger_hash());
        assert_eq!(root(&entries(&["a"])), leaf("a").1);
        // The paths of these begin with the bits 1100 (a), 0011 (b) and 0010 (c).
        let (a, b, c) = (leaf("a"), leaf("b"), leaf("c"));
        assert_eq!(
            (a.0[0] >> 4, b.0[0] >> 4, c.0[0] >> 4),
            (0b1100, 0b0011, 0b0010)
        );
        let node = |left: Hash, right: Hash| tagged(b"alys/node", &[&left.0, &right.0]);
        assert_eq!(root(&entries(&["a", "b"])), node(b.1, a.1));
        let fourth = node(c.1, b.1);
        let third = node(Hash::ZERO, fourth);
        let second = node(third, Hash::ZERO);
        assert_eq!(root(&entries(&["a", "b", "c"])), node(second, a.1));
    }
}

//! Bitcoin's hashes: double SHA-256 and Merkle trees over it. All hashes are in internal byte
//! order.

use alys_types::Hash;
use sha2::{Digest, Sha256};

/// SHA-256 of the SHA-256 of the concatenated parts.
pub fn sha256d(parts: &[&[u8]]) -> Hash {
    let mut first = Sha256::new();
    for part in parts {
        first.update(part);
    }
    Hash(Sha256::digest(first.finalize()).into())
}

/// The same hash in the other byte order: Bitcoin prints hashes, and merged mining writes roots
/// into coinbases, reversed ("display order").
pub fn reversed(hash: Hash) -> Hash {
    let mut bytes = hash.0;
    bytes.reverse();
    Hash(bytes)
}

/// Bitcoin's Merkle root; `None` without leaves. A level with an odd number of nodes repeats its
/// last one, so that lists of different lengths share a root (CVE-2012-2459): hash the number of
/// leaves beside the root, as [`crate::Bundle::commitment`] does.
pub fn merkle_root(leaves: &[Hash]) -> Option<Hash> {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .filter_map(|pair| Some(sha256d(&[&pair.first()?.0, &pair.last()?.0])))
            .collect();
    }
    level.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(n: u8) -> Hash {
        Hash([n; 32])
    }

    fn node(left: Hash, right: Hash) -> Hash {
        sha256d(&[&left.0, &right.0])
    }

    #[test]
    fn roots_are_those_of_trees_written_out() {
        let [a, b, c] = [leaf(1), leaf(2), leaf(3)];
        assert_eq!(merkle_root(&[]), None);
        assert_eq!(merkle_root(&[a]), Some(a));
        assert_eq!(merkle_root(&[a, b]), Some(node(a, b)));
        let three = node(node(a, b), node(c, c));
        assert_eq!(merkle_root(&[a, b, c]), Some(three));
        let five = node(node(node(a, b), node(c, a)), node(node(b, b), node(b, b)));
        assert_eq!(merkle_root(&[a, b, c, a, b]), Some(five));
    }

    /// CVE-2012-2459, which the count in the commitment covers (`work.rs`).
    #[test]
    fn a_repeated_last_leaf_keeps_the_root() {
        let [a, b, c] = [leaf(1), leaf(2), leaf(3)];
        assert_eq!(merkle_root(&[a, b, c]), merkle_root(&[a, b, c, c]));
    }

    /// Bitcoin's block 100,000, whose four transactions are listed in display order.
    #[test]
    fn the_root_of_a_block_of_bitcoin() {
        let hash = |text: &str| reversed(text.parse().expect("hex"));
        let ids = [
            "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
            "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
            "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
            "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
        ];
        let root = "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766";
        assert_eq!(merkle_root(&ids.map(hash)), Some(hash(root)));
    }
}

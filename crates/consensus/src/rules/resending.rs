//! Rule 3.7: a node rebroadcasts its votes and certificates after each slot without a new final
//! block.

use super::planted::PlantedBug;

/// True if the slot that ends had no new final block.
pub(crate) fn is_resending_due(has_finalized: bool) -> bool {
    !has_finalized
}

/// The flag of a new final block at the beginning of a slot: false, because no block was finalized
/// in it yet. The planted bug keeps the flag of the previous slot.
pub(crate) fn begins_with_finality(has_finalized: bool, bug: &PlantedBug) -> bool {
    has_finalized && bug.active("finality-flag-kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_begins_without_a_final_block() {
        for has_finalized in [false, true] {
            assert!(!begins_with_finality(has_finalized, &PlantedBug::NONE));
            assert_eq!(is_resending_due(has_finalized), !has_finalized);
        }
    }
}

//! Eviction of uncertified blocks over the limit. Not a rule of the protocol, but the chain halts
//! if the wrong blocks are evicted.

use alys_types::{Hash, Slot};

use super::PlantedBug;

/// The `excess` blocks to drop: those of the lowest slots, which can no longer be approved.
/// `blocks` are sorted by slot.
pub(crate) fn first_to_drop<'a>(
    blocks: &'a mut [(Slot, Hash)],
    excess: usize,
    bug: &PlantedBug,
) -> &'a [(Slot, Hash)] {
    if bug.active("newest-blocks-dropped") {
        blocks.reverse();
    }
    blocks.get(..excess).unwrap_or_default()
}

/// True if the block that was just added stays, whatever its slot.
pub(crate) fn keeps_newest(bug: &PlantedBug) -> bool {
    !bug.active("newest-blocks-dropped") && !bug.active("late-block-dropped")
}

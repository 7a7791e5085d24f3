//! Room for blocks that are not certified: which of them give way. No rule of the protocol, but
//! the chain halts if the wrong ones do.

use alys_types::{Hash, Slot};

use super::PlantedBug;

/// The `excess` blocks to drop: those of the lowest slots, which are approved no more. `blocks` are
/// sorted.
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

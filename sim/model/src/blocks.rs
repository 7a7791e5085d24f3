//! All possible blocks of a small world, numbered. A block is its slot, its parent, and its place
//! among two twins.

/// A block's number; 0 is genesis.
pub type Block = u8;
/// A set of blocks, a bit each.
pub type Set = u128;

/// Genesis, in slot 0.
pub const GENESIS: Block = 0;
/// Slots of the largest world, without genesis's: its blocks fit into a [`Set`].
pub const MAX_SLOTS: u8 = 4;

/// The set with one member.
pub const fn one(block: Block) -> Set {
    1 << block
}

/// The members of a set, ascending.
pub fn members(mut set: Set) -> impl Iterator<Item = Block> {
    std::iter::from_fn(move || {
        let next = set.trailing_zeros();
        (set != 0).then(|| {
            set &= set.wrapping_sub(1);
            next as Block
        })
    })
}

/// The block of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    pub slot: u8,
    pub parent: Block,
    /// Distinguishes two blocks of one slot on one parent, made by a leader that equivocates or
    /// that forgot the first.
    pub is_second: bool,
}

/// The blocks of a world, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks(Vec<Info>);

impl Blocks {
    /// All blocks of this many slots, at most [`MAX_SLOTS`].
    pub fn new(slots: u8) -> Self {
        let mut all = vec![Info {
            slot: 0,
            parent: GENESIS,
            is_second: false,
        }];
        for slot in 1..=slots.min(MAX_SLOTS) {
            let below = all.len() as Block;
            for parent in 0..below {
                all.push(Info {
                    slot,
                    parent,
                    is_second: false,
                });
                all.push(Info {
                    slot,
                    parent,
                    is_second: true,
                });
            }
        }
        Self(all)
    }

    /// The block of a number.
    pub fn info(&self, block: Block) -> Info {
        self.0[usize::from(block)]
    }

    /// All numbers without genesis's.
    pub fn all(&self) -> impl Iterator<Item = Block> + use<> {
        1..self.0.len() as Block
    }

    /// The number of a block.
    pub fn find(&self, slot: u8, parent: Block, is_second: bool) -> Option<Block> {
        let wanted = Info {
            slot,
            parent,
            is_second,
        };
        self.0
            .iter()
            .position(|info| *info == wanted)
            .map(|index| index as Block)
    }

    /// True when `block` is `ancestor` or descends from it.
    pub fn descends(&self, block: Block, ancestor: Block) -> bool {
        let mut at = block;
        while at > ancestor {
            // Parents have lower numbers.
            at = self.info(at).parent;
        }
        at == ancestor
    }

    /// The name of a block: the slots from it down to genesis, with a mark on second blocks.
    pub fn name(&self, block: Block) -> String {
        let mut name = String::new();
        let mut at = block;
        loop {
            let Info {
                slot,
                parent,
                is_second,
            } = self.info(at);
            name += &format!("{slot}{}", if is_second { "'" } else { "" });
            if at == GENESIS {
                return name;
            }
            name += "-";
            at = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_one_number() {
        let blocks = Blocks::new(MAX_SLOTS);
        assert_eq!(blocks.all().count(), 80);
        for block in blocks.all() {
            let Info {
                slot,
                parent,
                is_second,
            } = blocks.info(block);
            assert_eq!(blocks.find(slot, parent, is_second), Some(block));
            assert!(parent < block && blocks.info(parent).slot < slot);
            assert!(blocks.descends(block, parent) && blocks.descends(block, GENESIS));
            assert!(!blocks.descends(parent, block));
        }
        let set = one(1) | one(7) | one(80);
        assert_eq!(members(set).collect::<Vec<_>>(), [1, 7, 80]);
    }

    #[test]
    fn brothers_do_not_descend_from_each_other() {
        let blocks = Blocks::new(2);
        let first = blocks.find(1, GENESIS, false).expect("it is in the table");
        let beside = blocks.find(2, GENESIS, false).expect("it is in the table");
        let above = blocks.find(2, first, true).expect("it is in the table");
        assert!(!blocks.descends(beside, first) && blocks.descends(above, first));
        assert_eq!(
            (blocks.name(above), blocks.name(beside)),
            ("2'-1-0".to_owned(), "2-0".to_owned())
        );
    }
}

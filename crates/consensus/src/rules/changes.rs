//! Rule 1.7: changes of the federation.

use alys_types::{FederationOrder, Hash, Height};

use super::planted::PlantedBug;

/// The message of an order, which governance signs.
pub(crate) fn order_message(order: &FederationOrder, genesis: &Hash, bug: &PlantedBug) -> Hash {
    if bug.active("order-height-unsigned") {
        let without_height = FederationOrder {
            effective_height: Height(0),
            ..order.clone()
        };
        return without_height.message(genesis);
    }
    order.message(genesis)
}

/// A change that is due takes effect only if the block with it was shown final on the branch below.
pub(crate) fn takes_effect(is_shown_final: bool, bug: &PlantedBug) -> bool {
    is_shown_final || bug.active("void-change-takes-effect")
}

/// One change is under way at a time: the next one may be carried when the last one was void, or
/// has taken effect and was shown final.
pub(crate) fn may_carry(is_under_way: bool, bug: &PlantedBug) -> bool {
    !is_under_way || bug.active("change-under-way-ignored")
}

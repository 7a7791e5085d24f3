//! Rule 1.7: changes of the federation, and the certificates that show them final (rule 2.3).

use alys_types::{Body, Certificate, Hash, Height, Order, OrderContent};

use super::planted::PlantedBug;
use crate::federation::{Ancestor, FederationError};

/// The message of an order, which governance signs.
pub(crate) fn order_message(order: &Order, genesis: &Hash, bug: &PlantedBug) -> Hash {
    if bug.active("order-height-unsigned") {
        let mut without_height = order.clone();
        if let OrderContent::Federation(change) = &mut without_height.content {
            change.effective_height = Height(0);
        }
        return without_height.message(genesis);
    }
    order.message(genesis)
}

/// Rule 2.3 (docs/protocol.md): a certificate in a body that serves no purpose makes it invalid,
/// because its leader would choose among blocks of different hashes and equal content.
pub(crate) fn check_purpose(
    has_purpose: bool,
    certificate: &Certificate,
) -> Result<(), FederationError> {
    if has_purpose {
        return Ok(());
    }
    Err(FederationError::NoPurpose {
        hash: certificate.target.hash,
    })
}

/// Rule 2.3 (docs/protocol.md): a certificate that shows the end of an AuxPoW range final has a
/// purpose. An end below the window is below every certificate of the body.
pub(crate) fn shows_range_final(
    body: &Body,
    shown: Height,
    ancestor: impl Fn(&Hash) -> Option<Ancestor>,
) -> bool {
    body.auxpow.as_ref().is_some_and(|proof| {
        let end = ancestor(&proof.range_end);
        end.is_none_or(|end| end.header.height <= shown)
    })
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

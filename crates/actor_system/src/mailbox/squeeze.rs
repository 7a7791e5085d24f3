//! Mailboxes that have no room in a simulation: a message whose sender does not wait is refused.
//!
//! The mailboxes of a run are nearly always empty, and a message that is refused once is usually
//! sent again soon. Neither case exposes a sender that counts a refused message as delivered, so a
//! squeeze refuses every such message for a while. Outside of simulations no mailbox is squeezed.

use std::{cell::RefCell, collections::BTreeMap};

thread_local! {
    /// The squeezes by path of the actor.
    static SQUEEZED: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Begins to refuse messages to the actor with this full path, in this thread.
pub fn begin(path: &str) {
    SQUEEZED.with_borrow_mut(|all| *all.entry(path.to_owned()).or_default() += 1);
}

/// Ends one squeeze of the actor.
pub fn end(path: &str) {
    SQUEEZED.with_borrow_mut(|all| {
        let times = all.get(path).copied().unwrap_or(0);
        if times > 1 {
            all.insert(path.to_owned(), times - 1);
        } else {
            all.remove(path);
        }
    });
}

/// True if the actor with this path has no room.
pub(crate) fn is_squeezed(path: Option<&str>) -> bool {
    alys_runtime::is_simulated()
        && path.is_some_and(|path| SQUEEZED.with_borrow(|all| all.contains_key(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squeezes_of_one_actor_overlap() {
        let is_simulated = alys_runtime::is_simulated();
        let path = Some("node1/chain/chain");
        assert!(!is_squeezed(path) && !is_squeezed(None));
        begin("node1/chain/chain");
        begin("node1/chain/chain");
        end("node1/chain/chain");
        assert_eq!(is_squeezed(path), is_simulated);
        assert!(!is_squeezed(Some("node2/chain/chain")));
        end("node1/chain/chain");
        assert!(!is_squeezed(path));
        end("node1/chain/chain");
        assert!(!is_squeezed(path));
    }
}

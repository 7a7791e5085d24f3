//! What the actors that handle the bytes of strangers may say to the others.
//!
//! The network decodes what peers send; should one of them ever take it over, it still cannot write to the storage, order
//! the chain about, or ask for more than it needs: its addresses refuse all other kinds of messages, and the refusals are
//! counted in the system's audit trail.

use alys_actor_system::access::{Access, AccessTable, Denied, Kinds, Role, TableError};
use alys_actor_system::{Addr, Message};

/// The rules, one a pair of roles: who, whom, what.
const RULES: &[(&str, &str, &[&str])] = &[
    ("network", "validation", &["decode"]),
    (
        "network",
        "chain",
        &["status_asked", "peer_listens", "network_started"],
    ),
    (
        "network",
        "peers",
        &["event", "connected", "answer", "network_restarted"],
    ),
    (
        "network",
        "storage",
        &["block", "blocks", "block_range", "header_range"],
    ),
    ("network", "tx_pool", &["received"]),
    ("peers", "network", &["command", "ask", "introduce"]),
    ("peers", "chain", &["status_answer", "range", "bodies"]),
    ("tx_pool", "network", &["command"]),
];

const ROLES: &[&str] = &[
    "network",
    "peers",
    "tx_pool",
    "validation",
    "chain",
    "storage",
];

/// The rules of a node.
pub(crate) struct Rights {
    access: Access,
}

/// The table of rights contradicts itself: a mistake of this file, seen at every start.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    #[error("the table of rights: {0}")]
    Table(#[from] TableError),
    #[error("the table of rights: {0}")]
    Denied(#[from] Denied),
}

impl Rights {
    pub fn new() -> Result<Rights, RightsError> {
        let mut table = AccessTable::builder();
        for role in ROLES {
            table = table.role(role);
        }
        for (from, to, kinds) in RULES {
            table = table.allow(from, to, Kinds::only(kinds.iter().copied()), None);
        }
        Ok(Rights {
            access: Access::new(table.build()?),
        })
    }

    pub fn role(&self, name: &str) -> Result<Role, RightsError> {
        Ok(self.access.table().role(name)?)
    }

    /// The same address, for what `from` may send to `to`.
    pub fn grant<M: Message>(
        &self,
        from: &str,
        to: &str,
        addr: &Addr<M>,
    ) -> Result<Addr<M>, RightsError> {
        let (from, to) = (self.role(from)?, self.role(to)?);
        Ok(addr.granted(self.access.grant(&from, &to, to.name())?))
    }

    /// For the system, whose audit trail it is from now on.
    pub fn into_access(self) -> Access {
        self.access
    }
}

#[cfg(test)]
mod tests {
    use alys_actor_system::{Reply, TellError, mailbox};

    use super::*;
    use crate::actors::storage::StorageMessage;

    #[test]
    fn the_network_reads_blocks_and_cannot_reach_the_votes() {
        let rights = Rights::new().expect("the table is whole");
        let (addr, _slot) = mailbox::<StorageMessage>(8);
        let storage = rights.grant("network", "storage", &addr).expect("a rule");
        let (reply, _) = Reply::channel();
        assert!(
            storage
                .tell(StorageMessage::Blocks {
                    hashes: Vec::new(),
                    reply
                })
                .is_ok()
        );
        let (reply, _) = Reply::channel();
        let refused = storage.tell(StorageMessage::Load { reply });
        assert!(
            matches!(refused, Err(TellError::Refused { .. })),
            "{refused:?}"
        );
        assert!(
            rights.grant("tx_pool", "storage", &addr).is_err(),
            "no rule says that it may"
        );
        let audit = rights.into_access().audit();
        assert_eq!(audit.refused.len(), 1);
        assert_eq!(audit.refused[0].kind, "load");
    }
}

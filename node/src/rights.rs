//! Permissions of the actors that handle bytes of strangers.
//!
//! A peer that exploits the decoding of its bytes still cannot write to the storage or command the
//! chain: the addresses of these actors refuse all kinds of messages that are not listed here, and
//! the audit trail of the system counts the refusals.

use alys_actor_system::access::{Access, AccessTable, Denied, Kinds, Role, TableError};
use alys_actor_system::{Addr, Message};

use crate::wiring::table::ACTORS;

/// Permitted kinds of messages by sender and receiver, both as named in [`ACTORS`].
const RULES: &[(&str, &str, &[&str])] = &[
    ("network", "validation", &["decode"]),
    (
        "network",
        "chain",
        &["status_requested", "peer_listens", "network_started"],
    ),
    (
        "network",
        "peers",
        &[
            "event",
            "connected",
            "status",
            "answer",
            "network_restarted",
        ],
    ),
    (
        "network",
        "storage",
        &["block", "blocks", "block_range", "header_range"],
    ),
    ("network", "tx_pool", &["received"]),
    ("network", "auxpow", &["gossip"]),
    ("network", "engine", &["get_receipts"]),
    ("peers", "network", &["command", "request", "get_connected"]),
    (
        "peers",
        "chain",
        &["status_received", "range_received", "bodies_received"],
    ),
    ("peers", "engine", &["receipts_received"]),
    ("tx_pool", "network", &["command", "judge"]),
    ("auxpow", "chain", &["proof", "aux_pow_started"]),
    ("auxpow", "network", &["command", "judge"]),
    (
        "auxpow",
        "storage",
        &["put_proof", "delete_proofs", "load_proofs", "query_block"],
    ),
];

/// The access table of a node.
pub(crate) struct Rights {
    access: Access,
}

/// A contradiction in [`RULES`]: a bug that shows at every start.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    #[error("access table: {0}")]
    Table(#[from] TableError),
    #[error("access table: {0}")]
    Denied(#[from] Denied),
}

impl Rights {
    pub fn new() -> Result<Rights, RightsError> {
        let mut table = AccessTable::builder();
        for actor in ACTORS {
            table = table.role(actor.name);
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

    /// `addr` restricted to the kinds that `from` may send to `to`.
    pub fn grant<M: Message>(
        &self,
        from: &str,
        to: &str,
        addr: &Addr<M>,
    ) -> Result<Addr<M>, RightsError> {
        let from = self.role(from)?;
        let to = self.role(to)?;
        Ok(addr.granted(self.access.grant(&from, &to, to.name())?))
    }

    /// The table for the system, which keeps the audit trail.
    pub fn into_access(self) -> Access {
        self.access
    }
}

#[cfg(test)]
mod tests {
    use alys_actor_system::{Reply, TellError, mailbox};

    use super::*;
    use crate::actors::storage::{PeerReads, StorageMessage};

    #[test]
    fn the_network_reads_blocks_and_cannot_load_votes() {
        let rights = Rights::new().expect("a consistent table");
        let (addr, _slot) = mailbox::<StorageMessage>(8);
        let storage = rights.grant("network", "storage", &addr).expect("a rule");
        let place = PeerReads::new(storage.clone()).reserve(false);
        let (reply, _) = Reply::channel();
        assert!(
            storage
                .tell(StorageMessage::Blocks {
                    hashes: Vec::new(),
                    place: place.expect("a free place"),
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
            "no rule permits it"
        );
        let audit = rights.into_access().audit();
        assert_eq!(audit.refused.len(), 1);
        assert_eq!(audit.refused[0].kind, "load");
    }
}

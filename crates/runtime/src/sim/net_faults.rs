//! Faults of links, and the fate of connections whose process ends.

use std::net::IpAddr;

use super::link::{Block, Link};
use super::net::{ConnId, SideState, TcpTimeouts};
use super::state::{WorldState, with};
use super::{Detail, NodeId, World};

impl WorldState {
    fn each_conn(&mut self, mut f: impl FnMut(&mut Self, ConnId, &mut super::net::Conn)) {
        let ids: Vec<ConnId> = self.net.conns.keys().copied().collect();
        for id in ids {
            self.with_conn(id, |state, conn| f(state, id, conn));
        }
    }

    fn adapt_all(&mut self, is_lost: bool) {
        self.each_conn(|state, id, conn| state.adapt(id, conn, is_lost));
    }

    /// The kernel closes the connections of an ended process. After a kill the seed selects an
    /// orderly close or a reset, which loses data in flight.
    pub fn net_process_ended(&mut self, node: NodeId, is_killed: bool) {
        self.net.listeners.retain(|(owner, _), _| *owner != node);
        self.each_conn(|state, id, conn| {
            for side in 0..2 {
                if conn.sides[side].process.node != node {
                    continue;
                }
                conn.sides[side].is_held = false;
                if conn.sides[side].state != SideState::Open {
                    continue;
                }
                if is_killed && state.node(node).rng.chance(500_000) {
                    state.abort(id, conn, side);
                } else {
                    state.close(id, conn, side);
                }
            }
        });
    }

    /// A power loss: remote sides learn of it by timeouts only.
    pub fn net_power_lost(&mut self, node: NodeId) {
        self.net.listeners.retain(|(owner, _), _| *owner != node);
        self.each_conn(|_, _, conn| {
            for side in 0..2 {
                if conn.sides[side].process.node == node {
                    conn.sides[side].is_held = false;
                    conn.forget(side, None);
                }
            }
        });
        self.adapt_all(true);
    }

    /// The power is back: the machine answers again, and has no connections.
    pub fn net_power_back(&mut self) {
        self.adapt_all(true);
    }

    fn set_block(&mut self, from: IpAddr, to: IpAddr, block: Option<Block>) {
        let before = std::mem::replace(&mut self.link(from, to).block, block);
        if before == block {
            return;
        }
        let kind = match block {
            Some(Block::Cut) => "link.cut",
            Some(Block::Clog) => "link.clog",
            None => "link.heal",
        };
        self.count(kind);
        self.note(
            NodeId::WORLD,
            kind,
            format!("{from} {to}").as_bytes(),
            || Detail::Link { from, to },
        );
        self.adapt_all(before == Some(Block::Cut));
    }
}

impl World {
    /// Sets the properties of all links without their own.
    pub fn set_default_link(&self, link: Link) {
        with(|state| state.net.default_link = link);
    }

    /// Sets the timeouts of connections that are established from now on.
    pub fn set_tcp_timeouts(&self, timeouts: TcpTimeouts) {
        with(|state| state.net.timeouts = timeouts);
    }

    /// Sets the properties of the link from one address to another. Data in flight keeps its
    /// arrival time.
    pub fn set_link(&self, from: IpAddr, to: IpAddr, link: Link) {
        with(|state| {
            let detail = format!("{from} to {to}: {link:?}");
            state.link(from, to).own = Some(link);
            state.note(NodeId::WORLD, "link.set", detail.as_bytes(), || {
                detail.clone()
            });
        });
    }

    /// Resets the link from one address to another to the default properties.
    pub fn reset_link(&self, from: IpAddr, to: IpAddr) {
        with(|state| {
            state.link(from, to).own = None;
            let detail = format!("{from} to {to}");
            state.note(NodeId::WORLD, "link.unset", detail.as_bytes(), || {
                detail.clone()
            });
        });
    }

    /// The properties in force on the link from one address to another.
    pub fn link(&self, from: IpAddr, to: IpAddr) -> Link {
        with(|state| state.link_config(from, to))
    }

    /// Blocks the link from one address to another, in this direction only.
    pub fn block(&self, from: IpAddr, to: IpAddr, block: Block) {
        with(|state| state.set_block(from, to, Some(block)));
    }

    /// Unblocks the link from one address to another, in this direction only.
    pub fn heal(&self, from: IpAddr, to: IpAddr) {
        with(|state| state.set_block(from, to, None));
    }

    /// Cuts both directions between two addresses.
    pub fn partition(&self, a: IpAddr, b: IpAddr) {
        self.block(a, b, Block::Cut);
        self.block(b, a, Block::Cut);
    }

    /// Heals both directions between two addresses.
    pub fn heal_both(&self, a: IpAddr, b: IpAddr) {
        self.heal(a, b);
        self.heal(b, a);
    }

    /// Unblocks every link. Links keep their properties.
    pub fn heal_all(&self) {
        let blocked: Vec<(IpAddr, IpAddr)> = with(|state| {
            let links = state.net.links.iter();
            links
                .filter(|(_, link)| link.block.is_some())
                .map(|(direction, _)| *direction)
                .collect()
        });
        for (from, to) in blocked {
            self.heal(from, to);
        }
    }

    /// True when no data passes from one address to another.
    pub fn is_blocked(&self, from: IpAddr, to: IpAddr) -> bool {
        with(|state| state.is_blocked(from, to))
    }

    /// Resets all connections between two addresses at both ends, as a firewall does. Returns their
    /// number.
    pub fn reset_connections(&self, a: IpAddr, b: IpAddr) -> usize {
        self.end_connections("link.reset_injected", a, b, |side, _, now| {
            side.reset_at = Some(now);
        })
    }

    /// Makes `from` drop its connections with `to` silently. They are half-open until `to` sends
    /// data. Returns their number.
    pub fn half_open(&self, from: IpAddr, to: IpAddr) -> usize {
        self.end_connections("link.half_open", from, to, |side, is_from, now| {
            if is_from {
                side.reset_at = Some(now);
            }
        })
    }

    fn end_connections(
        &self,
        kind: &'static str,
        a: IpAddr,
        b: IpAddr,
        mut end: impl FnMut(&mut super::net::Side, bool, std::time::Duration),
    ) -> usize {
        with(|state| {
            let mut ended = 0;
            state.each_conn(|state, _, conn| {
                let direction = conn.direction(0);
                if direction != (a, b) && direction != (b, a) {
                    return;
                }
                ended += 1;
                let now = state.now();
                for side in &mut conn.sides {
                    let is_a = side.ip == a;
                    end(side, is_a, now);
                }
            });
            state.count_n(kind, ended as u64);
            let detail = Detail::Connections {
                count: ended as u64,
                between: [a, b],
            };
            let payload = detail.to_string();
            state.note(NodeId::WORLD, kind, payload.as_bytes(), || detail);
            ended
        })
    }

    /// The number of connections, including those that one side has closed.
    pub fn connections(&self) -> usize {
        with(|state| state.net.conns.len())
    }
}

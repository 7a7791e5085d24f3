//! What the world does to links and to the connections of processes that end.

use std::net::IpAddr;

use super::link::{Block, Link};
use super::net::{ConnId, Life, Patience};
use super::state::{State, with};
use super::{NodeId, World};

impl State {
    fn each_conn(&mut self, mut f: impl FnMut(&mut Self, ConnId, &mut super::net::Conn)) {
        let ids: Vec<ConnId> = self.net.conns.keys().copied().collect();
        for id in ids {
            self.with_conn(id, |state, conn| f(state, id, conn));
        }
    }

    fn adapt_all(&mut self, is_lost: bool) {
        self.each_conn(|state, id, conn| state.adapt(id, conn, is_lost));
    }

    /// The kernel ends the connections of a process. After a kill the seed decides whether it does so in good
    /// order or by resets, which lose what is in flight.
    pub fn net_process_ended(&mut self, node: NodeId, is_killed: bool) {
        self.net.listeners.retain(|(owner, _), _| *owner != node);
        self.each_conn(|state, id, conn| {
            for side in 0..2 {
                if conn.sides[side].home.node != node {
                    continue;
                }
                conn.sides[side].is_held = false;
                if conn.sides[side].life != Life::Open {
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

    /// The machine is gone without a word: whoever talks to it finds out by waiting.
    pub fn net_power_lost(&mut self, node: NodeId) {
        self.net.listeners.retain(|(owner, _), _| *owner != node);
        self.each_conn(|_, _, conn| {
            for side in 0..2 {
                if conn.sides[side].home.node == node {
                    conn.sides[side].is_held = false;
                    conn.forget(side, None);
                }
            }
        });
        self.adapt_all(true);
    }

    /// The machine answers again, and knows of no connection.
    pub fn net_power_back(&mut self) {
        self.adapt_all(true);
    }

    fn set_block(&mut self, from: IpAddr, to: IpAddr, block: Option<Block>) {
        let was = std::mem::replace(&mut self.link(from, to).block, block);
        if was == block {
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
            || format!("{from} to {to}"),
        );
        self.adapt_all(was == Some(Block::Cut));
    }
}

impl World {
    /// The properties of all links that have none of their own, from now on.
    pub fn set_default_link(&self, link: Link) {
        with(|state| state.net.default_link = link);
    }

    /// How long machines wait for the other end of connections that are made from now on.
    pub fn set_patience(&self, patience: Patience) {
        with(|state| state.net.patience = patience);
    }

    /// The properties of the link from one address to another from now on; what is under way keeps its time.
    pub fn set_link(&self, from: IpAddr, to: IpAddr, link: Link) {
        with(|state| {
            let detail = format!("{from} to {to}: {link:?}");
            state.link(from, to).own = Some(link);
            state.note(NodeId::WORLD, "link.set", detail.as_bytes(), || {
                detail.clone()
            });
        });
    }

    /// Gives the link from one address to another the default properties again.
    pub fn reset_link(&self, from: IpAddr, to: IpAddr) {
        with(|state| {
            state.link(from, to).own = None;
            let detail = format!("{from} to {to}");
            state.note(NodeId::WORLD, "link.unset", detail.as_bytes(), || {
                detail.clone()
            });
        });
    }

    /// The present properties of the link from one address to another.
    pub fn link(&self, from: IpAddr, to: IpAddr) -> Link {
        with(|state| state.link_config(from, to))
    }

    /// Blocks the link from one address to another, in this direction only.
    pub fn block(&self, from: IpAddr, to: IpAddr, block: Block) {
        with(|state| state.set_block(from, to, Some(block)));
    }

    /// Lets the link from one address to another work again, in this direction only.
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

    /// Heals every link. Links keep their other properties.
    pub fn heal_all(&self) {
        let blocked: Vec<(IpAddr, IpAddr)> = with(|state| {
            let links = state.net.links.iter();
            links
                .filter(|(_, link)| link.block.is_some())
                .map(|(way, _)| *way)
                .collect()
        });
        for (from, to) in blocked {
            self.heal(from, to);
        }
    }

    /// Whether nothing gets from one address to another at present.
    pub fn is_blocked(&self, from: IpAddr, to: IpAddr) -> bool {
        with(|state| state.is_blocked(from, to))
    }

    /// Resets all connections between two addresses at both ends at once, as a firewall does. Returns how many.
    pub fn reset_connections(&self, a: IpAddr, b: IpAddr) -> usize {
        self.end_connections("link.reset_injected", a, b, |side, _, now| {
            side.reset_at = Some(now);
        })
    }

    /// Makes `from` forget its connections with `to`, which is told nothing: they are half-open until `to` sends
    /// something. Returns how many.
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
                let way = conn.way(0);
                if way != (a, b) && way != (b, a) {
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
            let detail = format!("{ended} connections between {a} and {b}");
            state.note(NodeId::WORLD, kind, detail.as_bytes(), || detail.clone());
            ended
        })
    }

    /// How many connections exist, including those that one end has already given up.
    pub fn connections(&self) -> usize {
        with(|state| state.net.conns.len())
    }
}

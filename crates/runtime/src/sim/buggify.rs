//! The sites that a run enables, and their firing.

use std::collections::BTreeSet;

use super::process::here;
use super::rng::Rng;
use super::state::{WorldState, with, with_if_simulated};
use super::{NodeId, World};
use crate::buggify::{SITES, Site};

/// Default share of the sites that a run enables, in parts per million.
pub const DEFAULT_SHARE_PPM: u32 = 250_000;

/// The sites of a run.
#[derive(Default)]
pub(crate) struct Sites {
    is_on: bool,
    /// By site, for the enabled ones: random streams by node, created on first use.
    active: Vec<Option<Vec<Option<Rng>>>>,
    exempt: BTreeSet<NodeId>,
}

impl WorldState {
    fn buggify(&mut self, node: NodeId, site: Site, ppm: u32, bound: u64) -> Option<u64> {
        if !self.sites.is_on || node == NodeId::WORLD || self.sites.exempt.contains(&node) {
            return None;
        }
        let seed = self.fault_seed;
        let info = site.info();
        let streams = self.sites.active.get_mut(site.index())?.as_mut()?;
        let at = node.0 as usize;
        if streams.len() <= at {
            streams.resize(at + 1, None);
        }
        let rng = streams[at].get_or_insert_with(|| {
            // The name of the node is stable, while its number depends on the order of creation.
            let node = self.nodes.get(at).map_or("", |node| &node.name);
            Rng::derive(seed, &format!("buggify {} {node}", info.name))
        });
        if !rng.chance(ppm) {
            return None;
        }
        let drawn = rng.below(bound);
        self.count(info.fired);
        self.note(node, "buggify", info.name.as_bytes(), || {
            info.name.to_owned()
        });
        Some(drawn)
    }
}

/// The simulated implementation of the macros: a number below `bound` when the site fires in the
/// current process.
pub(crate) fn buggify_fires(site: Site, ppm: u32, bound: u64) -> Option<u64> {
    with_if_simulated(|state| {
        let process = here();
        if state.is_alive(process) {
            state.buggify(process.node, site, ppm, bound)
        } else {
            None
        }
    })
    .flatten()
}

impl World {
    /// Enables a share of the sites, in parts per million, each drawn by its name. `None` disables
    /// all. Enabled sites are counted as `site.<name>.on`.
    pub fn set_buggify(&self, share_ppm: Option<u32>) {
        with(|state| {
            let Some(share_ppm) = share_ppm else {
                state.sites.is_on = false;
                return;
            };
            state.sites.is_on = true;
            state.sites.active = SITES
                .iter()
                .map(|site| {
                    let mut rng = Rng::derive(state.fault_seed, &format!("buggify {}", site.name));
                    rng.chance(share_ppm).then(Vec::new)
                })
                .collect();
            let active = state.sites.active.iter().zip(SITES);
            let on: Vec<&'static str> = active
                .filter(|(streams, _)| streams.is_some())
                .map(|(_, site)| site.on)
                .collect();
            on.into_iter().for_each(|on| state.count(on));
        });
    }

    /// Disables all sites on a node, for the simulator's own users and oracles.
    pub fn exempt_from_buggify(&self, node: NodeId) {
        with(|state| {
            state.sites.exempt.insert(node);
        });
    }
}

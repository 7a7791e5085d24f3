//! Which sites are on in this run, and when they fire.

use std::collections::BTreeSet;

use super::home::here;
use super::rng::Rng;
use super::state::{State, ask, with};
use super::{NodeId, World};
use crate::buggify::{SITES, Site};

/// How many of the sites are on in a run, in a million, unless the world says otherwise.
pub const USUAL_SHARE_PPM: u32 = 250_000;

/// The sites of a run.
#[derive(Default)]
pub(crate) struct Sites {
    is_on: bool,
    /// By site, for those that are on: their streams by node, made when they are first asked for.
    active: Vec<Option<Vec<Option<Rng>>>>,
    exempt: BTreeSet<NodeId>,
}

impl State {
    fn buggify(&mut self, node: NodeId, site: Site, ppm: u32, bound: u64) -> Option<u64> {
        if !self.sites.is_on || node == NodeId::WORLD || self.sites.exempt.contains(&node) {
            return None;
        }
        let seed = self.fault_seed;
        let declared = site.declared();
        let streams = self.sites.active.get_mut(site.index())?.as_mut()?;
        let at = node.0 as usize;
        if streams.len() <= at {
            streams.resize(at + 1, None);
        }
        let rng = streams[at].get_or_insert_with(|| {
            // By the name, which stays the same where numbers of nodes do not.
            let node = self.nodes.get(at).map_or("", |node| &node.name);
            Rng::derive(seed, &format!("buggify {} {node}", declared.name))
        });
        if !rng.chance(ppm) {
            return None;
        }
        let drawn = rng.below(bound);
        self.count(declared.fired);
        self.note(node, "buggify", declared.name.as_bytes(), || {
            declared.name.to_owned()
        });
        Some(drawn)
    }
}

/// The simulated half of the macros: a number below `bound` when the site fires for the process that runs now.
pub(crate) fn buggify_fires(site: Site, ppm: u32, bound: u64) -> Option<u64> {
    ask(|state| {
        let home = here();
        if state.is_alive(home) {
            state.buggify(home.node, site, ppm, bound)
        } else {
            None
        }
    })
    .flatten()
}

impl World {
    /// Switches some of the sites on, so many in a million, each drawn by its name; or, with `None`, all off. What is on
    /// is counted as `site.<name>.on`.
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

    /// Spares a machine: no site fires in what runs there. For the world's own users and judges.
    pub fn exempt_from_buggify(&self, node: NodeId) {
        with(|state| {
            state.sites.exempt.insert(node);
        });
    }
}

//! Planted bugs of the crates that know nothing of the chain, by name. The list of all of them, with what is broken and
//! what must find it, is the simulator's.
//!
//! In production [`active`] is a constant `false` and the compiler removes the sites.

#[cfg(madsim)]
mod switch {
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    thread_local! {
        static ACTIVE: Cell<Option<&'static str>> = const { Cell::new(None) };
        static REACHED: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
    }

    /// True when the bug of this name is switched on in this thread.
    pub fn active(name: &str) -> bool {
        let is_active = ACTIVE.get().is_some_and(|active| active == name);
        if is_active {
            REACHED.with_borrow(|reached| {
                if let Some(reached) = reached {
                    reached.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        is_active
    }

    /// Switches one bug on for this thread, and has `reached` count how often a site of it is come by; or all off.
    pub fn activate(bug: Option<(&'static str, Arc<AtomicU64>)>) {
        ACTIVE.set(bug.as_ref().map(|(name, _)| *name));
        REACHED.set(bug.map(|(_, reached)| reached));
    }
}

#[cfg(not(madsim))]
mod switch {
    /// Always false: there are no planted bugs outside of simulations.
    #[inline]
    pub const fn active(_: &str) -> bool {
        false
    }
}

pub use switch::*;

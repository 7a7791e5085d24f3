//! The switch of planted bugs, by name. The simulator owns the list of bugs, with the invariant
//! that must find each.
//!
//! In production [`active`] is a constant `false`, and the compiler removes the sites.

#[cfg(madsim)]
mod switch {
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    thread_local! {
        static ACTIVE: Cell<Option<&'static str>> = const { Cell::new(None) };
        static REACHED: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
    }

    /// True when the bug of this name is active in this thread. Counts the call if so.
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

    /// Activates one bug for this thread, with a counter of the calls that reach its sites; `None`
    /// deactivates all.
    pub fn activate(bug: Option<(&'static str, Arc<AtomicU64>)>) {
        ACTIVE.set(bug.as_ref().map(|(name, _)| *name));
        REACHED.set(bug.map(|(_, reached)| reached));
    }
}

#[cfg(not(madsim))]
mod switch {
    /// Always false outside of simulations.
    #[inline]
    pub const fn active(_: &str) -> bool {
        false
    }
}

pub use switch::*;

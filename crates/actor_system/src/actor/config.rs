//! The configuration of an actor, which can be replaced while it runs, and its state that outlives
//! a restart.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use crate::{actor::cell::Cell, actor::control, lock};

pub(crate) struct ConfigCell<C>(Mutex<Arc<C>>);

impl<C> ConfigCell<C> {
    pub fn new(config: C) -> Self {
        Self(Mutex::new(Arc::new(config)))
    }

    pub fn get(&self) -> Arc<C> {
        lock(&self.0).clone()
    }
}

/// Replaces the configuration of one actor, in all its incarnations.
pub struct ConfigHandle<C> {
    pub(crate) cell: Arc<Cell>,
    pub(crate) config: Arc<ConfigCell<C>>,
}

impl<C> ConfigHandle<C> {
    /// The configuration as it is now.
    pub fn get(&self) -> Arc<C> {
        self.config.get()
    }

    /// Replaces the configuration. The actor is notified between two messages
    /// ([`AlysActor::reconfigured`](crate::AlysActor::reconfigured)); of several replacements in a
    /// row it may see only the last.
    pub fn replace(&self, config: C) {
        *lock(&self.config.0) = Arc::new(config);
        self.cell.control.raise(control::CONFIG);
    }
}

impl<C> Clone for ConfigHandle<C> {
    fn clone(&self) -> Self {
        Self {
            cell: self.cell.clone(),
            config: self.config.clone(),
        }
    }
}

impl<C> fmt::Debug for ConfigHandle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigHandle")
            .field("path", &self.cell.path)
            .finish_non_exhaustive()
    }
}

/// State that outlives an incarnation: the factory holds one handle, the actor the other. A value
/// is always replaced as a whole, so that a panic cannot leave half of one.
pub struct Kept<T>(Arc<Mutex<T>>);

impl<T: Clone> Kept<T> {
    /// A value for the first incarnation.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// A copy of the value that was saved last.
    pub fn load(&self) -> T {
        lock(&self.0).clone()
    }

    /// Replaces it.
    pub fn save(&self, value: T) {
        // The old value is dropped after the lock is released: its destructor may be anything.
        let old = std::mem::replace(&mut *lock(&self.0), value);
        drop(old);
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&*lock(&self.0)).finish()
    }
}

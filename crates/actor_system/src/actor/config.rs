//! The replaceable configuration of an actor ([`ConfigHandle`]), and state that survives a restart
//! ([`Kept`]).

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

/// Handle of the configuration of one actor, shared by all its incarnations.
pub struct ConfigHandle<C> {
    pub(crate) cell: Arc<Cell>,
    pub(crate) config: Arc<ConfigCell<C>>,
}

impl<C> ConfigHandle<C> {
    /// The current configuration.
    pub fn get(&self) -> Arc<C> {
        self.config.get()
    }

    /// Replaces the configuration. The actor is notified between messages
    /// ([`AlysActor::reconfigured`](crate::AlysActor::reconfigured)); it may skip intermediate
    /// values of several replacements.
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

/// State that survives a restart: the factory holds one handle, the actor another. The value is
/// replaced as a whole, so a panic cannot leave it half updated.
pub struct Kept<T>(Arc<Mutex<T>>);

impl<T: Clone> Kept<T> {
    /// Creates the state with its value for the first incarnation.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// A clone of the value saved last.
    pub fn load(&self) -> T {
        lock(&self.0).clone()
    }

    /// Replaces the value.
    pub fn save(&self, value: T) {
        // The old value is dropped after the lock is released, because its destructor is foreign
        // code.
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

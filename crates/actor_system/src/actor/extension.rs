//! Per-system values of dependent crates, such as a bus.

use std::{
    any::{Any, TypeId},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::lock;

/// Event of an actor, reported to the [extensions](Extension) of its system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemEvent {
    /// The actor failed, or a permanent one stopped itself, and will be restarted.
    Restarting {
        /// Full path of the actor.
        path: Arc<str>,
        /// Failure with its sources, as one line.
        reason: String,
        /// Delay before the restart.
        delay: Duration,
        /// True if the circuit breaker is open during the delay.
        is_open: bool,
    },
    /// The actor failed and will not be restarted.
    GivenUp {
        /// Full path of the actor.
        path: Arc<str>,
    },
}

/// A per-system value, created at its first use by [`System::extension`](crate::System::extension)
/// or [`Context::extension`](crate::Context::extension). A system has at most one of each type.
pub trait Extension: Default + Send + Sync + 'static {
    /// Handles an event. It must return quickly, because it runs in the task of the supervisor.
    fn on_event(&self, event: &SystemEvent) {
        let _ = event;
    }

    /// Runs once, after the system has shut down or when it is dropped.
    fn on_end(&self) {}
}

trait AnyExtension: Any + Send + Sync {
    fn on_event(&self, event: &SystemEvent);
    fn on_end(&self);
}

impl<T: Extension> AnyExtension for T {
    fn on_event(&self, event: &SystemEvent) {
        Extension::on_event(self, event);
    }

    fn on_end(&self) {
        Extension::on_end(self);
    }
}

/// The extensions of one system, in order of first use.
#[derive(Default)]
pub(crate) struct Extensions(Mutex<List>);

#[derive(Default)]
struct List {
    list: Vec<(TypeId, Arc<dyn AnyExtension>)>,
    has_ended: bool,
}

impl Extensions {
    /// The extension of this type, created at its first use.
    pub fn get<T: Extension>(&self) -> Arc<T> {
        let mut extensions = lock(&self.0);
        let wanted = TypeId::of::<T>();
        let known = extensions.list.iter().find(|(id, _)| *id == wanted);
        if let Some((_, extension)) = known {
            let extension: Arc<dyn Any + Send + Sync> = extension.clone();
            return extension
                .downcast()
                .expect("an extension is listed under its own type");
        }
        let extension = Arc::new(T::default());
        if extensions.has_ended {
            extension.on_end();
        } else {
            extensions.list.push((wanted, extension.clone()));
        }
        extension
    }

    pub fn notify(&self, event: &SystemEvent) {
        for extension in self.all() {
            extension.on_event(event);
        }
    }

    /// Runs `on_end` of all extensions, once.
    pub fn end(&self) {
        let ended = {
            let mut extensions = lock(&self.0);
            extensions.has_ended = true;
            std::mem::take(&mut extensions.list)
        };
        for (_, extension) in ended {
            extension.on_end();
        }
    }

    /// A copy, because an extension may call back into this registry during an event.
    fn all(&self) -> Vec<Arc<dyn AnyExtension>> {
        let extensions = lock(&self.0);
        let all = extensions.list.iter().map(|(_, extension)| extension);
        all.cloned().collect()
    }
}

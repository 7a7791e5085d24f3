//! Values of crates above this one that belong to one system, such as a bus.

use std::{
    any::{Any, TypeId},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::lock;

/// A change in the life of an actor, reported to the [extensions](Extension) of its system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemEvent {
    /// The actor failed and will be restarted.
    Restarting {
        /// Its path.
        path: Arc<str>,
        /// The failure with its sources.
        reason: String,
        /// Time until the restart.
        delay: Duration,
        /// True if its circuit breaker is open until then.
        is_open: bool,
    },
    /// The actor failed and is not restarted; the rest of the system goes on.
    GivenUp {
        /// Its path.
        path: Arc<str>,
    },
}

/// A value that belongs to one system, created at its first use by
/// [`System::extension`](crate::System::extension) or
/// [`Context::extension`](crate::Context::extension). A system has one of each type.
pub trait Extension: Default + Send + Sync + 'static {
    /// Runs in the task of the supervisor that acts on the event, so it must be quick.
    fn on_event(&self, event: &SystemEvent) {
        let _ = event;
    }

    /// Runs once, when the system has shut down or is dropped.
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

/// The extensions of one system, in the order of their first use.
#[derive(Default)]
pub(crate) struct Extensions(Mutex<List>);

#[derive(Default)]
struct List {
    list: Vec<(TypeId, Arc<dyn AnyExtension>)>,
    has_ended: bool,
}

impl Extensions {
    /// The extension of this type, created if there is none yet.
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

    /// Ends every extension, once.
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

    /// Copied, because an extension may call back while it is notified.
    fn all(&self) -> Vec<Arc<dyn AnyExtension>> {
        let extensions = lock(&self.0);
        let all = extensions.list.iter().map(|(_, extension)| extension);
        all.cloned().collect()
    }
}

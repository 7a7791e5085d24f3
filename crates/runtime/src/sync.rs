//! Channels and locks. They hold no timer and no thread, so both halves use the very same ones.

pub use tokio::sync::{
    Mutex, MutexGuard, Notify, OwnedSemaphorePermit, RwLock, Semaphore, SemaphorePermit,
    TryAcquireError, broadcast, mpsc, oneshot, watch,
};

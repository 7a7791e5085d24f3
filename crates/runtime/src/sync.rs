//! Channels and locks. They use neither timers nor threads, so both implementations share them.

pub use tokio::sync::{
    Mutex, MutexGuard, Notify, OwnedSemaphorePermit, RwLock, Semaphore, SemaphorePermit,
    TryAcquireError, broadcast, mpsc, oneshot, watch,
};

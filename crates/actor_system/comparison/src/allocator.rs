//! Counts the bytes that live on the heap, in the one measure that asks for it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
};

/// The system's allocator with a count of live bytes. Until [`Counting::count`] it only reads a flag, so that
/// contenders which allocate much are not charged for being counted in the measures of speed.
pub struct Counting {
    is_on: AtomicBool,
    live: AtomicI64,
}

impl Counting {
    /// An allocator that does not count yet.
    pub const fn new() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            live: AtomicI64::new(0),
        }
    }

    /// Counts from now on.
    pub fn count(&self) {
        self.is_on.store(true, Relaxed);
    }

    /// Bytes allocated and not freed since [`count`](Self::count). What was allocated before and freed since is
    /// taken off, so only the difference of two readings means something.
    pub fn live(&self) -> i64 {
        self.live.load(Relaxed)
    }

    fn add(&self, bytes: usize) {
        if self.is_on.load(Relaxed) {
            self.live.fetch_add(bytes as i64, Relaxed);
        }
    }

    fn take(&self, bytes: usize) {
        if self.is_on.load(Relaxed) {
            self.live.fetch_sub(bytes as i64, Relaxed);
        }
    }
}

// The one unsafe block of the package: there is no other way to see every allocation of five frameworks, and the
// resident set, the alternative, counts pages, fragmentation and the allocator's own caches.
// SAFETY: each call goes to the system's allocator with the very arguments, so its contract is the caller's
// contract; counting touches two atomics and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        self.take(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.take(layout.size());
        self.add(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

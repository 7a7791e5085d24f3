//! Counts live heap bytes, in the measure of memory only.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
};

/// The system's allocator with a count of live bytes. Before [`Counting::count`] is called it only
/// reads a flag, so that the measures of speed do not charge a contender for counting its
/// allocations.
pub struct Counting {
    is_on: AtomicBool,
    live: AtomicI64,
}

impl Counting {
    pub const fn new() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            live: AtomicI64::new(0),
        }
    }

    /// Starts counting.
    pub fn count(&self) {
        self.is_on.store(true, Relaxed);
    }

    /// Bytes allocated less bytes freed since [`count`](Self::count). Frees of earlier allocations
    /// count too, so only the difference of two readings has a meaning.
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

// The only unsafe code of the package, because nothing else sees every allocation of five
// frameworks: the resident set counts pages, fragmentation and the allocator's own caches.
// SAFETY: each call passes its arguments unchanged to the system's allocator, so its contract is
// the caller's contract; counting touches two atomics and allocates nothing.
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

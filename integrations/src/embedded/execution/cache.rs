//! A bounded cache with two generations.
//!
//! New and touched entries live in the young generation. When that is full it becomes the old one,
//! and untouched entries of the previous old generation are evicted. This approximates
//! least-recently-used with two maps and no list, and the eviction is a function of the sequence of
//! calls.

use alys_runtime::buggify;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a cache. Poisoning is ignored, because a panic leaves every entry either present or
/// absent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
    generation: usize,
}

impl<K: Ord + Clone, V: Clone> Cache<K, V> {
    /// Holds at most `2 * generation` entries.
    pub(crate) fn new(generation: usize) -> Self {
        let generation = if buggify!("execution.cache.tiny") {
            2
        } else {
            generation
        };
        Self {
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            generation,
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;

    #[test]
    fn the_cache_is_bounded_and_keeps_used_entries() {
        let mut cache = Cache::new(10);
        cache.insert(0, 0);
        for key in 1..1000 {
            cache.insert(key, key);
            assert!(cache.len() <= 20);
            assert_eq!(cache.get(&0), Some(0), "a used entry stays");
        }
        assert_eq!(cache.get(&500), None);
        assert_eq!(cache.get(&999), Some(999));
        cache.remove(&999);
        assert_eq!(cache.get(&999), None);
    }
}

//! A bounded cache in two generations.
//!
//! New and touched entries live in the young generation; when that is full it becomes the old one, and what was old and
//! untouched is forgotten. It approximates least-recently-used with two maps and no lists, and what it forgets depends on
//! nothing but the sequence of calls.

use alys_runtime::buggify;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
    generation: usize,
}

impl<K: Ord + Clone, V: Clone> Cache<K, V> {
    /// At most `2 * generation` entries.
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
    fn stays_bounded_and_keeps_what_is_used() {
        let mut cache = Cache::new(10);
        cache.insert(0, 0);
        for key in 1..1000 {
            cache.insert(key, key);
            assert!(cache.len() <= 20);
            assert_eq!(
                cache.get(&0),
                Some(0),
                "an entry that is asked for all the time stays"
            );
        }
        assert_eq!(cache.get(&500), None);
        assert_eq!(cache.get(&999), Some(999));
        cache.remove(&999);
        assert_eq!(cache.get(&999), None);
    }
}

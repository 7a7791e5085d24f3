//! Serde for lists with a limit on their length.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Entries for which a decoder reserves memory before it has read them.
const RESERVED: usize = 256;

/// Deserializes a list of at most `N` entries; for `#[serde(deserialize_with = ..)]`. A longer list
/// is refused by its length, before an entry is read.
pub fn at_most<'de, D, T, const N: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(AtMost::<T, N>(PhantomData))
}

struct AtMost<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for AtMost<T, N> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let stated = seq.size_hint().unwrap_or(0);
        if stated > N {
            return Err(A::Error::invalid_length(stated, &self));
        }
        let mut entries = Vec::with_capacity(stated.min(RESERVED));
        while let Some(entry) = seq.next_element()? {
            if entries.len() == N {
                return Err(A::Error::invalid_length(N.saturating_add(1), &self));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

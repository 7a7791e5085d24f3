//! Nouns of the Alys chain: ids, units, blocks, chain spec, keys, codec and limits

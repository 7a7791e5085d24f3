//! A federation for the unit tests of the actors.

use std::sync::Arc;

use alys_types::bls::SecretKey;
use alys_types::spec::ChainSpec;
use alys_types::{Address, Authority, Genesis, Hash, Slot};

/// Key of the authority with this index.
pub(crate) fn authority_key(index: u8) -> SecretKey {
    SecretKey::derive(&[index + 1; 32])
}

/// Genesis of a federation of this many authorities.
pub(crate) fn genesis(authorities: u8, slot_duration_ms: u64) -> Arc<Genesis> {
    let authorities = (0..authorities).map(|index| Authority {
        public_key: authority_key(index).public_key().to_bytes(),
        proof_of_possession: authority_key(index).prove_possession(),
        fee_address: Address([index; 20]),
    });
    let spec = ChainSpec {
        drift_allowance_ms: 500,
        rejoin_margin: 3,
        ..ChainSpec::development(
            1,
            Slot(0),
            slot_duration_ms,
            Hash([9; 32]),
            authorities.collect(),
        )
    };
    // Some tests have slots of years, so that the clock stands in one of them.
    Arc::new(Genesis::without_bounds(spec).expect("good keys"))
}

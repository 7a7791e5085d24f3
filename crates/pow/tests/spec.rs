//! The bounds of the chain spec admit the bits that [`Bits::new`] takes, and no others. They state
//! the rule a second time, because the crate of the spec cannot depend on this one.

use alys_pow::Bits;
use alys_types::bls::SecretKey;
use alys_types::{Address, Authority, ChainSpec, Genesis, Hash, Slot};

const MANTISSAS: [u32; 14] = [
    0, 1, 0xff, 0x100, 0x7fff, 0x8000, 0x8001, 0x8100, 0xffff, 0x01_0000, 0x7f_ffff, 0x80_0000,
    0x80_8000, 0xff_ffff,
];

#[test]
fn the_spec_admits_the_bits_of_a_target_and_no_others() {
    let key = SecretKey::derive(&[1; 32]);
    let authority = Authority {
        public_key: key.public_key().to_bytes(),
        proof_of_possession: key.prove_possession(),
        fee_address: Address([1; 20]),
    };
    let slot = Slot(850_000_000);
    let good = ChainSpec::development(1, slot, 2_000, Hash([2; 32]), vec![authority]);
    let mut admitted = 0;
    for exponent in (0..=36).chain([0x7f, 0x80, 0xff]) {
        for mantissa in MANTISSAS {
            let bits = exponent << 24 | mantissa;
            let mut spec = good.clone();
            spec.auxpow.limit_bits = bits;
            spec.auxpow.anchor_bits = bits;
            let refused = Genesis::new(spec).err().map(|error| error.to_string());
            let is_target = Bits::new(bits).is_ok();
            admitted += u32::from(is_target);
            match refused {
                None => assert!(is_target, "{bits:08x}"),
                Some(error) => {
                    assert!(
                        error.starts_with("auxpow.limit_bits: "),
                        "{bits:08x}: {error}"
                    );
                    assert!(!is_target, "{bits:08x}");
                }
            }
        }
    }
    assert!(admitted > 100, "{admitted}");
}

//! BLS12-381 keys and signatures: 48-byte public keys, 96-byte signatures, the ciphersuite
//! `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_` (draft-irtf-cfrg-bls-signature), by blst.
//!
//! A [`PublicKey`] is made only by a check of its subgroup that refuses infinity; signatures are
//! checked in the same way when they are verified. The feature `stand-in` adds a second kind of
//! keys, whose signatures are hashes with the same interface and failure modes. They are forgeable,
//! and serve volume tests only; a mark in their bytes distinguishes them. With it, a thread also
//! remembers the results of verifications: all nodes of a simulation run on one thread and verify
//! the same signatures.

use std::fmt;

use blst::BLST_ERROR;
use blst::min_pk;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::bytes;
use crate::hash::tags;

const SIGNATURE_TAG: &[u8] = tags::BLS_SIGNATURE.as_bytes();
const POSSESSION_TAG: &[u8] = tags::BLS_POSSESSION.as_bytes();

/// An encoded public key: 48 bytes, unchecked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKeyBytes(#[serde(with = "bytes")] pub [u8; 48]);

/// An encoded signature: 96 bytes, unchecked until it is verified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature(#[serde(with = "bytes")] pub [u8; 96]);

/// A public key on the curve, in the right subgroup, not infinity.
#[derive(Clone)]
pub struct PublicKey {
    bytes: PublicKeyBytes,
    point: Point,
}

#[derive(Clone)]
enum Point {
    Bls(Box<min_pk::PublicKey>),
    #[cfg(feature = "stand-in")]
    StandIn,
}

/// A secret key. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey {
    bytes: Zeroizing<[u8; 32]>,
    #[cfg(feature = "stand-in")]
    is_stand_in: bool,
}

/// The reason for which a key or signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a public key: off the curve, outside the subgroup, or infinity.
    #[error("not a BLS12-381 public key (a point of the G1 subgroup other than infinity)")]
    PublicKey,
    /// Not a secret key: zero, or not below the group order.
    #[error("not a BLS12-381 secret key (32 bytes, big-endian, from 1 to the group order)")]
    SecretKey,
    /// Not a signature: off the curve, outside the subgroup, or infinity.
    #[error("not a BLS12-381 signature (a point of the G2 subgroup other than infinity)")]
    Signature,
    /// A well-formed signature that does not belong to message and keys.
    #[error("signature does not verify")]
    Mismatch,
    /// Nothing to aggregate or verify.
    #[error("no signers")]
    NoSigners,
}

impl SecretKey {
    /// Derives a key from at least 32 bytes of entropy (KeyGen of the draft).
    pub fn derive(entropy: &[u8; 32]) -> SecretKey {
        let key = min_pk::SecretKey::key_gen(entropy, &[]).expect("32 bytes of entropy are enough");
        SecretKey::of(key.to_bytes())
    }

    /// Derives a forgeable stand-in key, whose public key and signatures are hashes.
    #[cfg(feature = "stand-in")]
    pub fn derive_stand_in(entropy: &[u8; 32]) -> SecretKey {
        SecretKey {
            is_stand_in: true,
            ..SecretKey::derive(entropy)
        }
    }

    fn of(bytes: [u8; 32]) -> SecretKey {
        SecretKey {
            bytes: Zeroizing::new(bytes),
            #[cfg(feature = "stand-in")]
            is_stand_in: false,
        }
    }

    /// From 32 big-endian bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<SecretKey, Error> {
        min_pk::SecretKey::from_bytes(bytes).map_err(|_| Error::SecretKey)?;
        Ok(SecretKey::of(*bytes))
    }

    /// The 32 big-endian bytes, for a keystore.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.bytes.clone()
    }

    pub fn public_key(&self) -> PublicKey {
        #[cfg(feature = "stand-in")]
        if self.is_stand_in {
            return stand_in::public_key(&self.bytes);
        }
        let point = self.inner().sk_to_pk();
        PublicKey {
            bytes: PublicKeyBytes(point.to_bytes()),
            point: Point::Bls(Box::new(point)),
        }
    }

    /// Signs a message. Deterministic.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.sign_tagged(message, SIGNATURE_TAG)
    }

    /// Proves possession: signs the own public key under the POP tag.
    pub fn prove_possession(&self) -> Signature {
        self.sign_tagged(&self.public_key().bytes.0, POSSESSION_TAG)
    }

    fn sign_tagged(&self, message: &[u8], tag: &[u8]) -> Signature {
        #[cfg(feature = "stand-in")]
        if self.is_stand_in {
            return stand_in::sign(&self.public_key().bytes, message, tag);
        }
        Signature(self.inner().sign(message, tag, &[]).to_bytes())
    }

    fn inner(&self) -> min_pk::SecretKey {
        min_pk::SecretKey::from_bytes(&*self.bytes).expect("every constructor checks the key")
    }
}

impl PublicKey {
    /// The encoded key.
    pub fn to_bytes(&self) -> PublicKeyBytes {
        self.bytes
    }

    /// Checks a proof of possession of this key.
    pub fn verify_possession(&self, proof: &Signature) -> Result<(), Error> {
        verify_tagged(&[self], &self.bytes.0, proof, POSSESSION_TAG)
    }
}

impl TryFrom<PublicKeyBytes> for PublicKey {
    type Error = Error;

    fn try_from(bytes: PublicKeyBytes) -> Result<PublicKey, Error> {
        #[cfg(feature = "stand-in")]
        if let Some(key) = stand_in::parse(bytes) {
            return Ok(key);
        }
        let point = min_pk::PublicKey::key_validate(&bytes.0).map_err(|_| Error::PublicKey)?;
        Ok(PublicKey {
            bytes,
            point: Point::Bls(Box::new(point)),
        })
    }
}

/// Aggregates signatures, each a point of the subgroup, verified or not.
pub fn aggregate(signatures: &[Signature]) -> Result<Signature, Error> {
    #[cfg(feature = "stand-in")]
    if signatures.first().is_some_and(stand_in::is_marked) {
        return stand_in::aggregate(signatures);
    }
    let points = signatures
        .iter()
        .map(parse_signature)
        .collect::<Result<Vec<_>, _>>()?;
    let refs: Vec<&min_pk::Signature> = points.iter().collect();
    let sum = min_pk::AggregateSignature::aggregate(&refs, false).map_err(|_| Error::NoSigners)?;
    Ok(Signature(sum.to_signature().to_bytes()))
}

/// Checks that `signature` is the aggregate of the signatures of all `keys` over one `message`.
/// Safe against rogue keys because every key in a federation has proven possession.
pub fn verify(keys: &[&PublicKey], message: &[u8], signature: &Signature) -> Result<(), Error> {
    verify_tagged(keys, message, signature, SIGNATURE_TAG)
}

/// The statement that `signature` is the aggregate of the signatures of all `keys` over `message`.
#[derive(Debug)]
pub struct Claim<'a> {
    pub keys: Vec<&'a PublicKey>,
    pub message: &'a [u8],
    pub signature: &'a Signature,
}

/// Verifies many aggregates at once; an error does not name the wrong one. `scalars` are random
/// numbers that the senders cannot foresee, one for each claim, not zero.
pub fn verify_batch(claims: &[Claim<'_>], scalars: &[u64]) -> Result<(), Error> {
    if claims.is_empty() || scalars.len() != claims.len() || scalars.contains(&0) {
        return Err(Error::NoSigners);
    }
    #[cfg(feature = "stand-in")]
    if claims.iter().any(|c| stand_in::is_used_by(&c.keys)) {
        return claims
            .iter()
            .try_for_each(|c| verify(&c.keys, c.message, c.signature));
    }
    let mut signatures = Vec::with_capacity(claims.len());
    let mut keys = Vec::with_capacity(claims.len());
    for claim in claims {
        signatures.push(parse_signature(claim.signature)?);
        let points: Vec<&min_pk::PublicKey> = claim.keys.iter().filter_map(|k| k.point()).collect();
        let sum =
            min_pk::AggregatePublicKey::aggregate(&points, false).map_err(|_| Error::NoSigners)?;
        keys.push(sum.to_public_key());
    }
    let messages: Vec<&[u8]> = claims.iter().map(|c| c.message).collect();
    let rands: Vec<blst::blst_scalar> = scalars
        .iter()
        .map(|s| {
            let mut scalar = blst::blst_scalar::default();
            scalar.b[..8].copy_from_slice(&s.to_le_bytes());
            scalar
        })
        .collect();
    let result = min_pk::Signature::verify_multiple_aggregate_signatures(
        &messages,
        SIGNATURE_TAG,
        &keys.iter().collect::<Vec<_>>(),
        false,
        &signatures.iter().collect::<Vec<_>>(),
        false,
        &rands,
        64,
    );
    if result == BLST_ERROR::BLST_SUCCESS {
        Ok(())
    } else {
        Err(Error::Mismatch)
    }
}

fn verify_tagged(
    keys: &[&PublicKey],
    message: &[u8],
    signature: &Signature,
    tag: &[u8],
) -> Result<(), Error> {
    if keys.is_empty() {
        return Err(Error::NoSigners);
    }
    #[cfg(feature = "stand-in")]
    if stand_in::is_used_by(keys) {
        return stand_in::verify(keys, message, signature, tag);
    }
    #[cfg(feature = "stand-in")]
    let verify_pairing = memo::verify;
    verify_pairing(keys, message, signature, tag)
}

fn verify_pairing(
    keys: &[&PublicKey],
    message: &[u8],
    signature: &Signature,
    tag: &[u8],
) -> Result<(), Error> {
    let point = parse_signature(signature)?;
    let points: Vec<&min_pk::PublicKey> = keys.iter().filter_map(|k| k.point()).collect();
    if points.len() != keys.len() {
        return Err(Error::PublicKey);
    }
    let result = point.fast_aggregate_verify(false, message, tag, &points);
    if result == BLST_ERROR::BLST_SUCCESS {
        Ok(())
    } else {
        Err(Error::Mismatch)
    }
}

fn parse_signature(signature: &Signature) -> Result<min_pk::Signature, Error> {
    min_pk::Signature::sig_validate(&signature.0, true).map_err(|_| Error::Signature)
}

impl PublicKey {
    fn point(&self) -> Option<&min_pk::PublicKey> {
        match &self.point {
            Point::Bls(point) => Some(point),
            #[cfg(feature = "stand-in")]
            Point::StandIn => None,
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&bytes::to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = bytes::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                bytes::from_hex(text).map(Self)
            }
        }
    )*};
}

text!(PublicKeyBytes, Signature);

#[cfg(feature = "stand-in")]
mod stand_in {
    //! Hashes instead of pairings. A public key is a marked hash of the secret key; a signature is
    //! a marked hash of public key, tag and message; an aggregate is their exclusive or. Bytes
    //! without the mark are refused as malformed.

    use super::*;
    use crate::hash::tagged;

    const KEY_MARK: &[u8; 8] = b"fast-key";
    const SIGNATURE_MARK: &[u8; 8] = b"fast-sig";

    /// True when the signatures of these keys are stand-ins.
    pub(super) fn is_used_by(keys: &[&PublicKey]) -> bool {
        keys.iter().any(|key| matches!(key.point, Point::StandIn))
    }

    pub(super) fn is_marked(signature: &Signature) -> bool {
        signature.0.starts_with(SIGNATURE_MARK)
    }

    pub(super) fn public_key(secret: &[u8; 32]) -> PublicKey {
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(KEY_MARK);
        bytes[8..40].copy_from_slice(&tagged(tags::STAND_IN_KEY, &[secret]).0);
        PublicKey {
            bytes: PublicKeyBytes(bytes),
            point: Point::StandIn,
        }
    }

    /// The key of marked bytes. No compressed point begins with the mark: its first bit is not set.
    pub(super) fn parse(bytes: PublicKeyBytes) -> Option<PublicKey> {
        bytes.0.starts_with(KEY_MARK).then_some(PublicKey {
            bytes,
            point: Point::StandIn,
        })
    }

    pub(super) fn sign(key: &PublicKeyBytes, message: &[u8], tag: &[u8]) -> Signature {
        let mut bytes = [0; 96];
        bytes[..8].copy_from_slice(SIGNATURE_MARK);
        let hash = tagged(tags::STAND_IN_SIGNATURE, &[&key.0, tag, message]);
        bytes[8..40].copy_from_slice(&hash.0);
        Signature(bytes)
    }

    pub(super) fn aggregate(signatures: &[Signature]) -> Result<Signature, Error> {
        if signatures.is_empty() {
            return Err(Error::NoSigners);
        }
        let mut sum = [0; 96];
        sum[..8].copy_from_slice(SIGNATURE_MARK);
        for signature in signatures {
            if !is_marked(signature) {
                return Err(Error::Signature);
            }
            for (s, b) in sum[8..40].iter_mut().zip(&signature.0[8..40]) {
                *s ^= b;
            }
        }
        Ok(Signature(sum))
    }

    pub(super) fn verify(
        keys: &[&PublicKey],
        message: &[u8],
        signature: &Signature,
        tag: &[u8],
    ) -> Result<(), Error> {
        if !is_marked(signature) || signature.0[40..].iter().any(|b| *b != 0) {
            return Err(Error::Signature);
        }
        let parts: Vec<Signature> = keys.iter().map(|k| sign(&k.bytes, message, tag)).collect();
        if aggregate(&parts)? == *signature {
            Ok(())
        } else {
            Err(Error::Mismatch)
        }
    }
}

#[cfg(feature = "stand-in")]
mod memo {
    //! Results of verifications by the hash of their whole input, at most `2 * MOST` on a thread.

    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::Hash;
    use crate::hash::tagged;

    /// Results after which the older half is dropped: 8,192 are the votes and certificates of
    /// hundreds of blocks, and take less than 1 MiB.
    const MOST: usize = 8_192;

    thread_local! {
        static RESULTS: RefCell<Results> = const { RefCell::new(Results::new()) };
    }

    type Result = std::result::Result<(), Error>;

    struct Results {
        young: BTreeMap<Hash, Result>,
        old: BTreeMap<Hash, Result>,
    }

    impl Results {
        const fn new() -> Self {
            Self {
                young: BTreeMap::new(),
                old: BTreeMap::new(),
            }
        }

        /// The result of this input, computed if it is not known.
        fn get(&mut self, input: Hash, compute: impl FnOnce() -> Result) -> Result {
            if let Some(known) = self.young.get(&input) {
                return *known;
            }
            let result = self.old.remove(&input).unwrap_or_else(compute);
            if self.young.len() >= MOST {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(input, result);
            result
        }
    }

    pub(super) fn verify(
        keys: &[&PublicKey],
        message: &[u8],
        signature: &Signature,
        tag: &[u8],
    ) -> Result {
        let input = input(keys, message, signature, tag);
        let compute = || verify_pairing(keys, message, signature, tag);
        RESULTS.with_borrow_mut(|results| results.get(input, compute))
    }

    /// Both tags and all keys and signatures have fixed lengths; the message is last.
    fn input(keys: &[&PublicKey], message: &[u8], signature: &Signature, tag: &[u8]) -> Hash {
        let count = (keys.len() as u64).to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![tag, &count[..]];
        parts.extend(keys.iter().map(|key| &key.bytes.0[..]));
        parts.extend([&signature.0[..], message]);
        tagged(tags::STAND_IN_MEMO, &parts)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn each_part_of_the_input_counts_and_repeats_give_the_same() {
            let secret = |index| SecretKey::derive(&[index; 32]);
            let [own, other] = [secret(1), secret(2)].map(|secret| secret.public_key());
            let signature = secret(1).sign(b"message");
            let both = aggregate(&[signature, secret(2).sign(b"message")]).expect("signatures");
            let mut broken = signature;
            broken.0[95] ^= 1;
            let none = Signature([0; 96]);
            for _ in 0..2 {
                assert_eq!(
                    verify(&[&own], b"message", &signature, SIGNATURE_TAG),
                    Ok(())
                );
                assert_eq!(
                    verify(&[&own, &other], b"message", &both, SIGNATURE_TAG),
                    Ok(())
                );
                let wrong = [
                    verify(&[&other], b"message", &signature, SIGNATURE_TAG),
                    verify(&[&own, &other], b"message", &signature, SIGNATURE_TAG),
                    verify(&[&own, &own], b"message", &both, SIGNATURE_TAG),
                    verify(&[&own], b"messagf", &signature, SIGNATURE_TAG),
                    verify(&[&own], b"message", &both, SIGNATURE_TAG),
                    verify(&[&own], b"message", &signature, POSSESSION_TAG),
                ];
                assert_eq!(wrong, [Err(Error::Mismatch); 6]);
                let malformed = [&broken, &none]
                    .map(|signature| verify(&[&own], b"message", signature, SIGNATURE_TAG));
                assert!(
                    malformed.iter().all(|result| result.is_err()),
                    "{malformed:?}"
                );
                assert_eq!(malformed[1], Err(Error::Signature));
            }
        }

        #[test]
        fn known_results_are_not_computed_again_and_the_oldest_are_dropped() {
            let mut results = Results::new();
            let hash = |number: usize| tagged(tags::STAND_IN_MEMO, &[&number.to_be_bytes()]);
            let mut computed = 0;
            for number in (0..3 * MOST).chain(2 * MOST..3 * MOST).chain([0]) {
                let result = results.get(hash(number), || {
                    computed += 1;
                    Err(Error::Mismatch)
                });
                assert_eq!(result, Err(Error::Mismatch));
                assert!(results.young.len() + results.old.len() <= 2 * MOST);
            }
            assert_eq!(computed, 3 * MOST + 1);
        }
    }
}

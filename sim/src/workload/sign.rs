//! Signing of valid and invalid transactions.

use alloy_consensus::crypto::SECP256K1N_HALF;
use alloy_consensus::{
    SignableTransaction, Signed, TxEip1559, TxEip2930, TxEip7702, TxEnvelope, TxLegacy,
};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use k256::ecdsa::SigningKey;

use crate::params::accounts::CHAIN_ID;
use crate::params::transactions::Form;

/// The price that a transaction offers for gas, in wei per unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// The maximum, including the base fee.
    pub cap: u128,
    /// The maximum above the base fee.
    pub tip: u128,
}

impl Fees {
    /// The fees as a pool sees them: forms with a single price offer all of it as a tip.
    pub const fn seen(self, form: Form) -> Self {
        match form {
            Form::Legacy | Form::AccessList => Self {
                cap: self.cap,
                tip: self.cap,
            },
            Form::DynamicFee => self,
        }
    }

    /// Raises both fees by more than a quarter, which is enough for a pool to replace a
    /// transaction.
    pub const fn raised(self) -> Self {
        Self {
            cap: self.cap + self.cap / 4 + 1,
            tip: self.tip + self.tip / 4 + 1,
        }
    }
}

/// A transaction to be signed.
#[derive(Debug, Clone)]
pub struct Draft {
    pub form: Form,
    pub nonce: u64,
    /// The chain's id; a foreign one or `None` in invalid transactions. Only [`Form::Legacy`] can
    /// have `None`.
    pub chain_id: Option<u64>,
    pub fees: Fees,
    /// In units of gas.
    pub gas_limit: u64,
    /// The recipient, or the creation of a contract.
    pub to: TxKind,
    /// In wei.
    pub value: U256,
    /// Call data or init code.
    pub input: Bytes,
}

/// A signed transaction.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The Keccak-256 hash of `bytes`.
    pub hash: B256,
    /// The EIP-2718 encoding.
    pub bytes: Bytes,
}

impl Raw {
    /// Takes any bytes as if they were a transaction.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self {
            hash: keccak256(&bytes),
            bytes: bytes.into(),
        }
    }
}

impl Draft {
    /// A draft without value and call data.
    pub fn new(form: Form, nonce: u64, fees: Fees, to: Address) -> Self {
        Self {
            form,
            nonce,
            chain_id: Some(CHAIN_ID),
            fees,
            gas_limit: 21_000,
            to: TxKind::Call(to),
            value: U256::ZERO,
            input: Bytes::new(),
        }
    }

    /// Signs with `key`.
    pub fn sign(self, key: &SigningKey) -> Raw {
        self.seal(key, |signature| signature)
    }

    /// Signs with the high-s variant of the signature, which recovers to the same key and is
    /// forbidden by EIP-2.
    pub fn sign_malleably(self, key: &SigningKey) -> Raw {
        let order = SECP256K1N_HALF * U256::from(2) + U256::from(1);
        self.seal(key, |signature| {
            Signature::new(signature.r(), order - signature.s(), !signature.v())
        })
    }

    /// Signs an EIP-7702 transaction, a type that this chain does not support.
    pub fn sign_for_authorizations(self, key: &SigningKey) -> Raw {
        let tx = TxEip7702 {
            chain_id: self.chain_id.unwrap_or(CHAIN_ID),
            nonce: self.nonce,
            gas_limit: self.gas_limit,
            max_fee_per_gas: self.fees.cap,
            max_priority_fee_per_gas: self.fees.tip,
            to: self.to.to().copied().unwrap_or_default(),
            value: self.value,
            access_list: AccessList::default(),
            authorization_list: Vec::new(),
            input: self.input,
        };
        Raw::from(TxEnvelope::from(sealed(tx, key, |signature| signature)))
    }

    fn seal(self, key: &SigningKey, change: impl FnOnce(Signature) -> Signature) -> Raw {
        let Self {
            form,
            nonce,
            chain_id,
            fees,
            gas_limit,
            to,
            value,
            input,
        } = self;
        let chain = chain_id.unwrap_or(CHAIN_ID);
        let envelope: TxEnvelope = match form {
            Form::Legacy => {
                let gas_price = fees.cap;
                sealed(
                    TxLegacy {
                        chain_id,
                        nonce,
                        gas_price,
                        gas_limit,
                        to,
                        value,
                        input,
                    },
                    key,
                    change,
                )
                .into()
            }
            Form::AccessList => {
                let list = to.to().map(|to| AccessListItem {
                    address: *to,
                    storage_keys: vec![B256::ZERO],
                });
                let tx = TxEip2930 {
                    chain_id: chain,
                    nonce,
                    gas_price: fees.cap,
                    gas_limit: gas_limit + ACCESS_LIST_GAS,
                    to,
                    value,
                    access_list: AccessList(list.into_iter().collect()),
                    input,
                };
                sealed(tx, key, change).into()
            }
            Form::DynamicFee => {
                let tx = TxEip1559 {
                    chain_id: chain,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: fees.cap,
                    max_priority_fee_per_gas: fees.tip,
                    to,
                    value,
                    access_list: Default::default(),
                    input,
                };
                sealed(tx, key, change).into()
            }
        };
        Raw::from(envelope)
    }
}

impl From<TxEnvelope> for Raw {
    fn from(envelope: TxEnvelope) -> Self {
        Self {
            hash: *envelope.tx_hash(),
            bytes: envelope.encoded_2718().into(),
        }
    }
}

/// Gas for an access list of one account with one storage slot.
pub const ACCESS_LIST_GAS: u64 = 2_400 + 1_900;

fn sealed<T: SignableTransaction<Signature>>(
    tx: T,
    key: &SigningKey,
    change: impl FnOnce(Signature) -> Signature,
) -> Signed<T> {
    let hash = tx.signature_hash();
    let signed = key.sign_prehash_recoverable(hash.as_slice());
    let signed = signed.expect("a hash has the length that is signed");
    tx.into_signed(change(Signature::from(signed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::accounts::{user_address, user_key};
    use alloy_consensus::Transaction;
    use alloy_consensus::transaction::SignerRecoverable;
    use alloy_eips::eip2718::Decodable2718;

    #[test]
    fn every_form_is_signed_by_its_user() {
        let fees = Fees { cap: 50, tip: 2 };
        for form in Form::ALL {
            let raw = Draft::new(form, 7, fees, user_address(1)).sign(&user_key(0));
            let envelope =
                TxEnvelope::decode_2718(&mut raw.bytes.as_ref()).expect("it is well-formed");
            assert_eq!(envelope.recover_signer().ok(), Some(user_address(0)));
            assert_eq!((*envelope.tx_hash(), envelope.nonce()), (raw.hash, 7));
            let seen = fees.seen(form);
            assert_eq!(
                (envelope.max_fee_per_gas(), envelope.priority_fee_or_price()),
                (seen.cap, seen.tip)
            );
        }
    }

    #[test]
    fn a_mirrored_signature_is_another_transaction_that_nobody_signed() {
        let draft = Draft::new(
            Form::DynamicFee,
            0,
            Fees { cap: 9, tip: 1 },
            user_address(1),
        );
        let good = draft.clone().sign(&user_key(0));
        let bad = draft.sign_malleably(&user_key(0));
        assert_ne!(good.hash, bad.hash);
        let envelope = TxEnvelope::decode_2718(&mut bad.bytes.as_ref()).expect("it is well-formed");
        assert!(envelope.recover_signer().is_err());
    }
}

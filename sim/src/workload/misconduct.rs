//! What users hand in that no client may take.

use alloy_primitives::{Bytes, TxKind, U256};
use alys_integrations::http::HttpClient;

use super::sign::{Draft, Fees, Raw};
use super::{GWEI, USUAL, User};
use crate::invariants::Violation;
use crate::params::accounts::{CHAIN_ID, sink_address, user_funds, user_key};
use crate::params::transactions::Form;

/// Longest garbage, in bytes.
const MOST_GARBAGE: u64 = 300;
/// One byte more than a pool takes.
const OVERSIZED: usize = 128 * 1024 + 1;
/// One byte more than a deployment may carry (EIP-3860).
const LONG_INIT_CODE: usize = 2 * 24_576 + 1;

impl User {
    /// Hands in something that can never be valid. It must be refused, and never be final.
    pub(super) async fn sign_badly(&mut self, clients: &[HttpClient]) -> Result<(), Violation> {
        let (raw, why) = self.bad();
        if let Some(why) = why {
            self.judge.look().ledger.never.insert(raw.hash, why);
        }
        self.send(clients, &raw).await?;
        if why.is_none() {
            // A client that is behind may take it: only afterwards it is told that it can never be final.
            self.judge
                .look()
                .ledger
                .never
                .insert(raw.hash, "its nonce was used before it was signed");
        }
        Ok(())
    }

    /// Something bad, and why no client may take it; `None`: a client that is behind may.
    fn bad(&mut self) -> (Raw, Option<&'static str>) {
        let key = user_key(self.index);
        let form = self.form();
        let good = Draft::new(form, self.desk.nonce, USUAL, sink_address(self.index));
        let dynamic = Draft {
            form: Form::DynamicFee,
            ..good.clone()
        };
        match self.rng.below(13) {
            0 => {
                let chain_id = Some(CHAIN_ID + 1 + self.rng.below(1_000));
                (
                    Draft { chain_id, ..good }.sign(&key),
                    Some("it is of another chain"),
                )
            }
            1 => (
                good.sign_malleably(&key),
                Some("its signature is a mirror image"),
            ),
            2 => {
                let draft = Draft {
                    form: Form::Legacy,
                    chain_id: None,
                    ..good
                };
                (draft.sign(&key), Some("it names no chain"))
            }
            3 => {
                let length = 1 + self.rng.below(MOST_GARBAGE);
                let bytes = (0..length).map(|_| self.rng.below(256) as u8).collect();
                (Raw::of(bytes), Some("it is garbage"))
            }
            4 => {
                // Cut off: a wallet that died while it wrote.
                let mut bytes = good.sign(&key).bytes.to_vec();
                bytes.truncate(1 + self.rng.below(bytes.len() as u64 - 1) as usize);
                (Raw::of(bytes), Some("it is cut off"))
            }
            5 => {
                let fees = Fees {
                    cap: GWEI,
                    tip: 2 * GWEI,
                };
                (
                    Draft { fees, ..dynamic }.sign(&key),
                    Some("its tip is above its cap"),
                )
            }
            6 => (
                Draft {
                    gas_limit: 20_999,
                    ..dynamic
                }
                .sign(&key),
                Some("it cannot pay for itself"),
            ),
            7 => {
                let gas_limit = self.plan.block_gas + 1;
                (
                    Draft {
                        gas_limit,
                        ..dynamic
                    }
                    .sign(&key),
                    Some("it does not fit into a block"),
                )
            }
            8 => {
                let input = Bytes::from(vec![0; LONG_INIT_CODE]);
                let gas_limit = self.plan.block_gas;
                let draft = Draft {
                    to: TxKind::Create,
                    input,
                    gas_limit,
                    ..dynamic
                };
                (draft.sign(&key), Some("its init code is too long"))
            }
            9 => {
                let draft = Draft {
                    input: Bytes::from(vec![0; OVERSIZED]),
                    ..dynamic
                };
                (draft.sign(&key), Some("it is too large"))
            }
            10 => {
                let value = user_funds() + U256::from(1);
                (
                    Draft { value, ..good }.sign(&key),
                    Some("its sender never had as much"),
                )
            }
            11 => (
                dynamic.sign_for_authorizations(&key),
                Some("its type is not known here"),
            ),
            _ => match self.desk.last_final {
                // Another transaction than the final one: nobody sends a wei to a sink at this price.
                Some(nonce) => {
                    let fees = USUAL.raised();
                    (
                        Draft {
                            nonce,
                            fees,
                            value: U256::from(1),
                            ..good
                        }
                        .sign(&key),
                        None,
                    )
                }
                None => (
                    Raw::of(vec![0x03, 0xc0]),
                    Some("it is a blob transaction, and empty"),
                ),
            },
        }
    }
}

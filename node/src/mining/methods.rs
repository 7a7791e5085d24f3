//! The methods of the miners' JSON-RPC.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use alys_integrations::http::{Args, RpcError, RpcHandler};
use alys_pow::reversed;
use alys_types::limits::MAX_AUXPOW_BYTES;
use alys_types::{Address, Hash, Height};
use serde_json::{Value, json};

use super::Miners;
use super::answers::{self, ADDRESS, DESERIALIZATION, INVALID_PARAMETER, MISC, WARMUP};
use crate::actors::auxpow::DeskError;
use crate::actors::auxpow::desk::{NoWork, Submission};
use crate::actors::storage::BlockQuery;

/// The methods, with the names of their parameters.
pub const METHODS: [(&str, &[&str]); 9] = [
    ("createauxblock", &["address"]),
    ("submitauxblock", &["hash", "auxpow"]),
    ("getauxblock", &["hash", "auxpow"]),
    ("getdepositaddress", &[]),
    ("getheadblock", &[]),
    ("getblockbyheight", &["height"]),
    ("getblockbyhash", &["hash"]),
    ("getqueuedpow", &[]),
    ("alys_workStatus", &["hash"]),
];

/// Most characters of a caller's text that an error repeats.
const MAX_SHOWN: usize = 80;

/// The handler. There is no node while it starts.
pub(super) struct Methods {
    miners: Arc<Mutex<Option<Miners>>>,
}

impl Methods {
    pub fn new(miners: Arc<Mutex<Option<Miners>>>) -> Methods {
        Methods { miners }
    }

    fn miners(&self) -> Result<Miners, RpcError> {
        let miners = self.miners.lock().unwrap_or_else(PoisonError::into_inner);
        miners
            .clone()
            .ok_or_else(|| RpcError::new(WARMUP, "the node is starting"))
    }
}

impl RpcHandler for Methods {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let known = METHODS.iter().find(|(name, _)| *name == method);
        let Some((_, names)) = known else {
            return Err(unknown(method));
        };
        let mut args = positional(params, names)?;
        let miners = self.miners()?;
        match method {
            "createauxblock" => {
                let address = args.optional()?;
                miners.create(address).await
            }
            "submitauxblock" => {
                let (hash, auxpow) = (args.required()?, args.required()?);
                miners.submit(hash, auxpow).await
            }
            "getauxblock" => match args.given() {
                0 => miners.create(None).await,
                2 => {
                    let (hash, auxpow) = (args.required()?, args.required()?);
                    miners.submit(hash, auxpow).await
                }
                given => Err(RpcError::invalid_params(format!(
                    "getauxblock takes no arguments, to create work, or two (hash, auxpow), to \
                     submit it; found {given}; createauxblock takes an address"
                ))),
            },
            "getdepositaddress" => Err(RpcError::new(
                MISC,
                "there is no deposit address: the two-way peg of this chain is not built yet",
            )),
            "getheadblock" => miners.block(BlockQuery::Head).await,
            "getblockbyheight" => {
                let height = height(args.required()?)?;
                miners.block(BlockQuery::Height(height)).await
            }
            "getblockbyhash" => {
                let text: String = args.required()?;
                let hash = parse(&text, "hash", "64 hex digits", INVALID_PARAMETER)?;
                miners.block(BlockQuery::Hash(hash)).await
            }
            "getqueuedpow" => miners.queued().await,
            "alys_workStatus" => miners.status(args.required()?).await,
            _ => Err(unknown(method)),
        }
    }
}

impl Miners {
    async fn create(&self, address: Option<String>) -> Result<Value, RpcError> {
        let address = address.filter(|text| !text.is_empty());
        let miner = address.as_deref().map(evm_address).transpose()?;
        match self.desk.create(miner).await.map_err(unanswered)? {
            Ok(handed) => Ok(answers::work(&handed)),
            Err(reason) => Err(no_work(reason)),
        }
    }

    async fn submit(&self, hash: String, auxpow: String) -> Result<Value, RpcError> {
        let hash: Hash = parse(&hash, "hash", "64 hex digits", INVALID_PARAMETER)?;
        let bytes = auxpow_bytes(&auxpow)?;
        let submission = self.desk.submit(reversed(hash), bytes).await;
        match submission.map_err(unanswered)? {
            Submission::Accepted(_) => Ok(true.into()),
            Submission::Stale(stale) => Err(answers::stale(&stale)),
            Submission::Refused(refused) => Err(answers::refused(&refused)),
            Submission::Unknown { is_reversed } => Err(answers::unknown_work(hash, is_reversed)),
        }
    }

    async fn status(&self, hash: String) -> Result<Value, RpcError> {
        let hash: Hash = parse(&hash, "hash", "64 hex digits", INVALID_PARAMETER)?;
        let status = self.desk.status(reversed(hash)).await.map_err(unanswered)?;
        let status = status.ok_or_else(|| answers::unknown_work(hash, false))?;
        Ok(answers::status(&status))
    }

    async fn queued(&self) -> Result<Value, RpcError> {
        let queue = self.desk.queue().await.map_err(unanswered)?;
        let next = queue.next.as_deref();
        Ok(next.map_or(Value::Null, answers::queued))
    }

    async fn block(&self, query: BlockQuery) -> Result<Value, RpcError> {
        let genesis = &self.genesis;
        let is_genesis = match query {
            BlockQuery::Head => false,
            BlockQuery::Height(height) => height == genesis.header().height,
            BlockQuery::Hash(hash) => hash == genesis.hash(),
        };
        if is_genesis {
            return Ok(answers::genesis(genesis));
        }
        let found = self.blocks.find(query).await;
        let found = found.map_err(|error| {
            RpcError::new(MISC, format!("the storage does not answer: {error}"))
        })?;
        match (found, query) {
            (Some(found), _) => Ok(answers::block(&found)),
            (None, BlockQuery::Head) => Ok(answers::genesis(genesis)),
            (None, BlockQuery::Height(height)) => Err(answers::no_block(format!(
                "there is no final block at height {height} (yet)"
            ))),
            (None, BlockQuery::Hash(hash)) => Err(answers::no_block(format!(
                "no block with hash {hash} is stored; hashes of the execution client's blocks are \
                 others"
            ))),
        }
    }
}

/// The parameters by position. Named ones are sorted into the order of `names`.
fn positional(params: Value, names: &[&str]) -> Result<Args, RpcError> {
    let Value::Object(mut named) = params else {
        return Args::new(params, names.len());
    };
    let mut values = Vec::new();
    for name in names {
        values.push(named.remove(*name).unwrap_or(Value::Null));
    }
    if let Some(other) = named.keys().next() {
        let shown = shown(other);
        return Err(RpcError::invalid_params(format!(
            "there is no parameter {shown:?}; expected {names:?}"
        )));
    }
    while values.last() == Some(&Value::Null) {
        values.pop();
    }
    Args::new(Value::Array(values), names.len())
}

fn unknown(method: &str) -> RpcError {
    let names = METHODS.map(|(name, _)| name);
    let RpcError { message, .. } = RpcError::method_not_found(method);
    RpcError::new(
        RpcError::METHOD_NOT_FOUND,
        format!("{message}; this port has {}", names.join(", ")),
    )
}

/// The beginning of a caller's text.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

fn parse<T: FromStr>(text: &str, field: &str, expected: &str, code: i64) -> Result<T, RpcError> {
    text.trim().parse().map_err(|_| {
        let found = shown(text);
        let message = format!("{field}: expected {expected}, found {found:?}");
        RpcError::new(code, message).with_data(json!({
            "field": field, "expected": expected, "found": found,
        }))
    })
}

/// An EVM address. One in mixed case has to have the checksum of EIP-55, which finds mistyped ones.
fn evm_address(text: &str) -> Result<Address, RpcError> {
    let expected = "an EVM address: 0x and 40 hex digits";
    let address: Address = parse(text, "address", expected, ADDRESS)?;
    let digits = text.trim().trim_start_matches("0x");
    let has_case = |is: fn(&u8) -> bool| digits.as_bytes().iter().any(is);
    let is_mixed = has_case(u8::is_ascii_lowercase) && has_case(u8::is_ascii_uppercase);
    let checksummed = alloy_primitives::Address::from(address).to_checksum(None);
    if is_mixed && checksummed.trim_start_matches("0x") != digits {
        let message = format!(
            "address: expected the checksum of EIP-55, as in {checksummed}, found {}: is a digit \
             mistyped?",
            shown(text)
        );
        return Err(RpcError::new(ADDRESS, message));
    }
    Ok(address)
}

fn auxpow_bytes(text: &str) -> Result<Vec<u8>, RpcError> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let limit = 2 * MAX_AUXPOW_BYTES;
    if digits.len() > limit {
        let found = digits.len();
        let message = format!("auxpow: expected at most {limit} hex digits, found {found}");
        return Err(RpcError::new(DESERIALIZATION, message));
    }
    hex::decode(digits).map_err(|error| {
        let message = format!("auxpow: expected the AuxPoW in hex: {error}");
        RpcError::new(DESERIALIZATION, message)
    })
}

/// A number, or its digits in a string.
fn height(value: Value) -> Result<Height, RpcError> {
    let number = match &value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_u64(),
    };
    number.map(Height).ok_or_else(|| {
        let found = shown(&value.to_string());
        RpcError::invalid_params(format!("height: expected a number, found {found}"))
    })
}

fn unanswered(error: DeskError) -> RpcError {
    let code = match &error {
        DeskError::Busy { .. } => RpcError::BUSY,
        DeskError::Ask(_) => MISC,
    };
    RpcError::new(code, error.to_string())
}

fn no_work(reason: NoWork) -> RpcError {
    let code = match reason {
        NoWork::Starting | NoWork::Covered => answers::NO_WORK,
        NoWork::NoAddress => ADDRESS,
    };
    RpcError::new(code, reason.to_string())
}

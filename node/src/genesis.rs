//! The two files that all nodes of a chain share: `chain.toml`, the chain spec, and
//! `execution-genesis.json`, block 0 of the execution chain in Geth's format.
//!
//! Guarantees that a new pair of files belongs together, that Geth, Reth, ethrex and EthereumJS
//! accept the execution genesis unmodified, that its blob schedule permits no blobs, and that a pair
//! of different chains is refused.

mod spec_text;

use std::path::Path;
use std::sync::Arc;

use alloy_eips::eip4788::{BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE};
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::U256;
use alys_integrations::embedded::execution::{CoreConfig, Error as ExecutionError, ExecutionCore};
use alys_runtime::disk::Dir;
use alys_types::bls::PublicKeyBytes;
use alys_types::limits::MAX_GAS_LIMIT;
use alys_types::peg::{BitcoinKey, FederationScript};
use alys_types::spec::{AuxPowSpec, BitcoinNetwork, BitcoinSpec, GovernanceSpec, SpecError};
use alys_types::{Address, Authority, ChainSpec, FaultModel, Genesis, Hash, Slot};
use serde_json::{Map, Value, json};

use crate::files::{self, FileError};
use crate::toml_text::{self, TomlError};

pub const CHAIN_FILE: &str = "chain.toml";
pub const EXECUTION_FILE: &str = "execution-genesis.json";

/// The execution rules from the first block on.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionFork {
    /// Withdrawals.
    Shanghai,
    /// Transient storage, MCOPY, the parent block's root (no blobs).
    #[default]
    Cancun,
}

/// Parameters of a new chain.
#[derive(Debug, Clone)]
pub struct NewChain {
    pub chain_id: u64,
    /// First slot, see [`ChainSpec::start_slot`].
    pub start_slot: Slot,
    /// 1000 or more.
    pub slot_duration_ms: u64,
    pub fault_model: FaultModel,
    /// 1 to 15, in order.
    pub authorities: Vec<Authority>,
    /// The keys that change the federation.
    pub governance: GovernanceSpec,
    pub fork: ExecutionFork,
    /// Network, start and first script of deposits. Regtest makes a development chain.
    pub bitcoin: BitcoinSpec,
    /// Balances at genesis, in wei. Development only.
    pub funded: Vec<(Address, U256)>,
}

/// The content of the two files, checked.
#[derive(Debug, Clone)]
pub struct ChainFiles {
    pub genesis: Arc<Genesis>,
    pub execution: alloy_genesis::Genesis,
}

/// Reason for which there is no chain.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Toml(#[from] TomlError),
    #[error("{place}{source}")]
    Spec { place: String, source: SpecError },
    #[error("{file}: not a Geth genesis file: {reason}")]
    Json { file: String, reason: String },
    /// The execution genesis has rules that the node lacks.
    #[error("{file}: {source}")]
    Execution {
        file: String,
        source: ExecutionError,
    },
    /// Every block would break the rule on its gas limit.
    #[error("{file}: gasLimit {found} is above max_gas_limit of the chain spec, which is {limit}")]
    GasLimit {
        file: String,
        limit: u64,
        found: u64,
    },
    /// An account that no bitcoin stands behind, on a chain that is not for development.
    #[error(
        "{file}: alloc of {address} {reason}: only a development chain (bitcoin.network = \
         \"regtest\") allocates other accounts than contracts without balance"
    )]
    Allocation {
        file: String,
        address: Address,
        reason: &'static str,
    },
    /// The files belong to different chains, by the hash of block 0.
    #[error(
        "{file} gives block 0 the hash {found}, but {spec} expects {expected}: the two files \
         belong to different chains"
    )]
    OtherExecution {
        file: String,
        spec: String,
        found: Hash,
        expected: Hash,
    },
    /// The files belong to different chains, by chain id.
    #[error("{file} is for chain id {found}, but {spec} has evm_chain_id = {expected}")]
    OtherChainId {
        file: String,
        spec: String,
        found: u64,
        expected: u64,
    },
    #[error("{path} exists: a chain is never overwritten; use another --out")]
    Exists { path: String },
}

impl ChainFiles {
    /// Creates a chain.
    ///
    /// # Errors
    /// [`GenesisError::Spec`].
    pub fn new(new: &NewChain) -> Result<(ChainFiles, Texts), GenesisError> {
        let spec_error = |source| GenesisError::Spec {
            place: String::new(),
            source,
        };
        let execution_text = execution_json(new);
        let execution = parse_execution(EXECUTION_FILE, &execution_text)?;
        let hash = execution_hash(EXECUTION_FILE, &execution)?;
        let development = ChainSpec::development(
            new.chain_id,
            new.start_slot,
            new.slot_duration_ms,
            hash,
            new.authorities.clone(),
        );
        let auxpow = if new.bitcoin.network.is_development() {
            development.auxpow.clone()
        } else {
            AuxPowSpec::of_slots(new.slot_duration_ms)
        };
        let spec = ChainSpec {
            fault_model: new.fault_model,
            governance: new.governance.clone(),
            bitcoin: new.bitcoin.clone(),
            auxpow,
            ..development
        };
        check_execution(EXECUTION_FILE, &execution, &spec)?;
        let genesis = Arc::new(Genesis::new(spec).map_err(spec_error)?);
        let texts = Texts {
            chain: spec_text::chain_toml(&genesis),
            execution: execution_text,
        };
        Ok((ChainFiles { genesis, execution }, texts))
    }

    /// Reads and checks both files.
    ///
    /// # Errors
    /// Any [`GenesisError`] but `Exists`.
    pub fn load(spec_path: &Path, execution_path: &Path) -> Result<ChainFiles, GenesisError> {
        let spec_name = spec_path.display().to_string();
        let file = execution_path.display().to_string();
        let genesis = parse_chain(&spec_name, &files::read_text(spec_path)?)?;
        let execution = parse_execution(&file, &files::read_text(execution_path)?)?;
        let found = execution.config.chain_id;
        let expected = genesis.spec().evm_chain_id;
        if found != expected {
            return Err(GenesisError::OtherChainId {
                file,
                spec: spec_name,
                found,
                expected,
            });
        }
        check_execution(&file, &execution, genesis.spec())?;
        let found = execution_hash(&file, &execution)?;
        let expected = genesis.spec().execution_genesis_hash;
        if found != expected {
            return Err(GenesisError::OtherExecution {
                file,
                spec: spec_name,
                found,
                expected,
            });
        }
        if let Some(max) = permitted_blobs(&execution) {
            tracing::warn!(
                %file, max,
                "the execution genesis permits blob transactions, which no node accepts: set \
                 target and max of config.blobSchedule.cancun to 0 and give the file to the \
                 execution client again, else its blocks may be refused"
            );
        }
        Ok(ChainFiles {
            genesis: Arc::new(genesis),
            execution,
        })
    }
}

/// The number of blobs in a block that the execution genesis permits. Without a schedule, clients
/// use the one of Ethereum's main chain. The schedule is no part of block 0, so an operator may
/// correct it.
fn permitted_blobs(execution: &alloy_genesis::Genesis) -> Option<u64> {
    execution.config.cancun_time?;
    let schedule = &execution.config.blob_schedule;
    let cancun = schedule.get("cancun").copied();
    let max = cancun.unwrap_or_else(BlobParams::cancun).max_blob_count;
    (max > 0).then_some(max)
}

/// The texts of the two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    pub chain: String,
    pub execution: String,
}

impl Texts {
    /// Writes both files into `dir`, the spec last.
    ///
    /// # Errors
    /// [`GenesisError::Exists`], [`GenesisError::File`].
    pub fn write(&self, dir: &Dir) -> Result<(), GenesisError> {
        for name in [CHAIN_FILE, EXECUTION_FILE] {
            if dir.exists(name).map_err(FileError::from)? {
                return Err(GenesisError::Exists {
                    path: dir.path().join(name).display().to_string(),
                });
            }
        }
        dir.write_atomic(EXECUTION_FILE, self.execution.as_bytes())
            .map_err(FileError::from)?;
        dir.write_atomic(CHAIN_FILE, self.chain.as_bytes())
            .map_err(FileError::from)?;
        Ok(())
    }
}

/// Reads a chain spec and checks its keys, proofs and ranges.
///
/// # Errors
/// [`GenesisError::Toml`] and [`GenesisError::Spec`], prefixed with the name of the file.
pub fn parse_chain(file: &str, text: &str) -> Result<Genesis, GenesisError> {
    let spec: ChainSpec = toml_text::read(file, text)?;
    Genesis::new(spec).map_err(|source| GenesisError::Spec {
        place: format!("{file}: "),
        source,
    })
}

/// Reads an execution genesis.
///
/// # Errors
/// [`GenesisError::Json`].
pub fn parse_execution(file: &str, text: &str) -> Result<alloy_genesis::Genesis, GenesisError> {
    serde_json::from_str(text).map_err(|error| GenesisError::Json {
        file: file.to_owned(),
        reason: error.to_string(),
    })
}

/// Rules 2.1 and 2.5 of the protocol: the gas limit of block 0 is one that blocks may have, and
/// outside of development only contracts without balance are allocated.
fn check_execution(
    file: &str,
    execution: &alloy_genesis::Genesis,
    spec: &ChainSpec,
) -> Result<(), GenesisError> {
    let limit = spec.max_gas_limit;
    if execution.gas_limit > limit {
        return Err(GenesisError::GasLimit {
            file: file.to_owned(),
            limit,
            found: execution.gas_limit,
        });
    }
    if spec.bitcoin.network.is_development() {
        return Ok(());
    }
    for (address, account) in &execution.alloc {
        let has_code = account.code.as_ref().is_some_and(|code| !code.is_empty());
        let reason = if !account.balance.is_zero() {
            "has a balance"
        } else if !has_code {
            "has no code"
        } else {
            continue;
        };
        return Err(GenesisError::Allocation {
            file: file.to_owned(),
            address: (*address).into(),
            reason,
        });
    }
    Ok(())
}

/// The hash of execution block 0.
///
/// # Errors
/// [`GenesisError::Execution`] for rules that the node does not have.
pub fn execution_hash(file: &str, genesis: &alloy_genesis::Genesis) -> Result<Hash, GenesisError> {
    let store = Arc::new(alys_storage::MemoryStore::new());
    let core =
        alys_runtime::blocking(|| ExecutionCore::open(store, genesis, CoreConfig::default()))
            .map_err(|source| GenesisError::Execution {
                file: file.to_owned(),
                source,
            })?;
    Ok(core.genesis_hash().into())
}

/// The execution genesis in Geth's format, with the keys that EthereumJS and ethrex require. Its
/// time is that of the first slot, because the first block is in a later one.
fn execution_json(new: &NewChain) -> String {
    let mut config = json!({
        "chainId": new.chain_id,
        "homesteadBlock": 0,
        "eip150Block": 0,
        "eip155Block": 0,
        "eip158Block": 0,
        "byzantiumBlock": 0,
        "constantinopleBlock": 0,
        "petersburgBlock": 0,
        "istanbulBlock": 0,
        "berlinBlock": 0,
        "londonBlock": 0,
        "mergeNetsplitBlock": 0,
        "terminalTotalDifficulty": 0,
        "terminalTotalDifficultyPassed": true,
        "shanghaiTime": 0,
        // ethrex requires it, and no fork of the chain uses it.
        "depositContractAddress": Address::default(),
    });
    let mut alloc = Map::new();
    for (address, wei) in &new.funded {
        alloc.insert(
            address.to_string(),
            json!({ "balance": format!("{wei:#x}") }),
        );
    }
    if new.fork == ExecutionFork::Cancun {
        config["cancunTime"] = json!(0);
        // The protocol refuses blob transactions, so clients must not take them into their pools.
        // The fraction is Cancun's, because it must not be 0.
        config["blobSchedule"] =
            json!({ "cancun": { "target": 0, "max": 0, "baseFeeUpdateFraction": 3_338_477 } });
        // EIP-4788: the system call of every block needs this contract.
        let contract =
            json!({ "balance": "0x0", "nonce": "0x1", "code": BEACON_ROOTS_CODE.to_string() });
        alloc.insert(Address::from(BEACON_ROOTS_ADDRESS).to_string(), contract);
    }
    let genesis = json!({
        "config": config,
        "nonce": "0x0",
        "timestamp": format!("{:#x}", new.start_slot.timestamp(new.slot_duration_ms)),
        "extraData": "0x",
        "gasLimit": format!("{MAX_GAS_LIMIT:#x}"),
        "difficulty": "0x0",
        "mixHash": Hash::ZERO,
        "coinbase": Address::default(),
        "alloc": Value::Object(alloc),
    });
    format!("{genesis:#}\n")
}

/// Parses `--authority PUBKEY:PROOF:FEE_ADDRESS`.
///
/// # Errors
/// A sentence about the part that is wrong.
pub fn parse_authority(text: &str) -> Result<Authority, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [public_key, proof, fee_address] = parts[..] else {
        return Err(format!(
            "expected PUBKEY:PROOF:FEE_ADDRESS (`alys keys show` prints it), found {} part(s) \
             between colons",
            parts.len()
        ));
    };
    Ok(Authority {
        public_key: public_key.parse().map_err(|e| format!("public key: {e}"))?,
        proof_of_possession: proof
            .parse()
            .map_err(|e| format!("proof of possession: {e}"))?,
        fee_address: fee_address
            .parse()
            .map_err(|e| format!("fee address: {e}"))?,
    })
}

/// Parses `--fund ADDRESS=ETHER` into a balance in wei.
///
/// # Errors
/// A sentence about the part that is wrong.
pub fn parse_fund(text: &str) -> Result<(Address, U256), String> {
    let (address, ether) = text
        .split_once('=')
        .ok_or("expected ADDRESS=ETHER, for example 0xf39F..2266=100")?;
    let address = address.parse().map_err(|e| format!("address: {e}"))?;
    let wei = Some(ether)
        .filter(|ether| ether.starts_with(|c: char| c.is_ascii_digit()))
        .and_then(|ether| alloy_primitives::utils::parse_ether(ether).ok())
        .ok_or_else(|| format!("{ether:?} is not an amount of ether, for example 100 or 0.5"))?;
    // 2^128 wei are 10^20 ether; more overflows the arithmetic of some clients.
    if wei.bit_len() > 128 {
        return Err(format!("{ether} ether are too many"));
    }
    Ok((address, wei))
}

/// The governance of a chain; `threshold` defaults to more than half of the keys.
pub fn governance(keys: Vec<PublicKeyBytes>, threshold: Option<u8>) -> GovernanceSpec {
    GovernanceSpec {
        threshold: threshold.unwrap_or(majority(keys.len())),
        keys,
    }
}

/// The Bitcoin chain of a spec; `threshold` defaults to more than half of the keys. Without keys the
/// script is that of development on regtest, and none elsewhere, which the spec refuses.
pub fn bitcoin(
    network: BitcoinNetwork,
    start: u32,
    keys: Vec<BitcoinKey>,
    threshold: Option<u8>,
) -> BitcoinSpec {
    let development = BitcoinSpec::regtest();
    let epoch_0 = if keys.is_empty() && network.is_development() {
        development.epoch_0
    } else {
        FederationScript {
            threshold: threshold.unwrap_or(majority(keys.len())),
            keys,
        }
    };
    BitcoinSpec {
        network,
        start,
        epoch_0,
        ..development
    }
}

/// More than half of a number of keys; 0 of none.
fn majority(keys: usize) -> u8 {
    if keys == 0 {
        return 0;
    }
    u8::try_from(keys / 2 + 1).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PublicAuthority;
    use alys_types::bls::SecretKey;

    pub(super) fn new_chain(fork: ExecutionFork) -> NewChain {
        let authority = |i| {
            let key = SecretKey::derive(&[i; 32]);
            PublicAuthority::of(&key, Some(Address([i; 20]))).complete()
        };
        NewChain {
            chain_id: 1337,
            start_slot: Slot(900_000_000),
            slot_duration_ms: 2000,
            fault_model: FaultModel::Byzantine,
            authorities: (1..=4).map(authority).collect(),
            governance: GovernanceSpec::default(),
            fork,
            bitcoin: BitcoinSpec::regtest(),
            funded: vec![
                parse_fund("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266=10000").expect("right"),
            ],
        }
    }

    fn written(fork: ExecutionFork) -> (tempfile::TempDir, ChainFiles, Texts) {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let (files, texts) = ChainFiles::new(&new_chain(fork)).expect("a good chain");
        texts
            .write(&Dir::open(temporary.path()).expect("a directory"))
            .expect("an empty directory");
        (temporary, files, texts)
    }

    fn load(dir: &Path) -> Result<ChainFiles, GenesisError> {
        ChainFiles::load(&dir.join(CHAIN_FILE), &dir.join(EXECUTION_FILE))
    }

    #[test]
    fn what_is_written_is_read_back() {
        // Files that people name are the operating system's.
        if alys_runtime::is_simulated() {
            return;
        }
        for fork in [ExecutionFork::Shanghai, ExecutionFork::Cancun] {
            let (temporary, files, texts) = written(fork);
            let again = load(temporary.path()).expect("own files");
            assert_eq!(again.genesis.hash(), files.genesis.hash());
            assert_eq!(again.genesis.spec(), files.genesis.spec());
            assert_eq!(again.execution, files.execution);
            assert_eq!(
                again.execution.config.cancun_time.is_some(),
                fork == ExecutionFork::Cancun
            );
            assert_eq!(again.execution.timestamp, 1_800_000_000);
            let refused = texts.write(&Dir::open(temporary.path()).expect("a directory"));
            assert!(matches!(refused, Err(GenesisError::Exists { .. })));
        }
    }

    #[test]
    fn a_new_chain_permits_no_blobs_and_the_highest_gas_limit() {
        let (files, texts) =
            ChainFiles::new(&new_chain(ExecutionFork::Cancun)).expect("a good chain");
        let text: Value = serde_json::from_str(&texts.execution).expect("JSON");
        let cancun = &text["config"]["blobSchedule"]["cancun"];
        assert_eq!((&cancun["target"], &cancun["max"]), (&json!(0), &json!(0)));
        assert_ne!(cancun["baseFeeUpdateFraction"], json!(0));
        assert_eq!(files.execution.gas_limit, MAX_GAS_LIMIT);
    }

    /// Chains of earlier versions have the schedule of Ethereum's main chain.
    #[test]
    fn a_genesis_that_permits_blobs_is_noticed() {
        let fraction = "baseFeeUpdateFraction";
        let schedule =
            |max: u64| json!({ "cancun": { "target": 0, "max": max, fraction: 3_338_477 } });
        for (fork, schedule, permitted) in [
            (ExecutionFork::Cancun, Some(schedule(0)), None),
            (ExecutionFork::Cancun, Some(schedule(6)), Some(6)),
            (ExecutionFork::Cancun, Some(json!({})), Some(6)),
            (ExecutionFork::Cancun, None, Some(6)),
            (ExecutionFork::Shanghai, None, None),
        ] {
            let mut file: Value =
                serde_json::from_str(&execution_json(&new_chain(fork))).expect("JSON");
            file["config"]["blobSchedule"] = schedule.clone().unwrap_or_default();
            if schedule.is_none() {
                file["config"]
                    .as_object_mut()
                    .expect("a table")
                    .remove("blobSchedule");
            }
            let execution = parse_execution(EXECUTION_FILE, &file.to_string()).expect("a genesis");
            assert_eq!(permitted_blobs(&execution), permitted, "{schedule:?}");
            let hash = execution_hash(EXECUTION_FILE, &execution).expect("its rules are known");
            let unchanged = parse_execution(EXECUTION_FILE, &execution_json(&new_chain(fork)));
            let unchanged = execution_hash(EXECUTION_FILE, &unchanged.expect("a genesis"));
            assert_eq!(
                hash,
                unchanged.expect("its rules are known"),
                "the same chain"
            );
        }
    }

    #[test]
    fn the_execution_genesis_has_the_keys_that_single_clients_require() {
        for fork in [ExecutionFork::Shanghai, ExecutionFork::Cancun] {
            let (_, texts) = ChainFiles::new(&new_chain(fork)).expect("a good chain");
            let text: Value = serde_json::from_str(&texts.execution).expect("JSON");
            // EthereumJS, then ethrex.
            for key in ["eip155Block", "eip158Block", "depositContractAddress"] {
                assert!(!text["config"][key].is_null(), "{key} of {fork:?}");
            }
        }
    }

    #[test]
    fn bad_specs_are_refused_with_place_and_advice() {
        let (_, texts) = ChainFiles::new(&new_chain(ExecutionFork::Cancun)).expect("a good chain");
        let table = [
            (
                "slot_duration_ms",
                "slot_duraton_ms",
                "did you mean `slot_duration_ms`?",
            ),
            (
                "slot_duration_ms = 2000",
                "slot_duration_ms = 20",
                "from 1000 to 60000",
            ),
            ("\"byzantine\"", "\"byzantin\"", "did you mean `byzantine`?"),
            (
                "proof_of_possession = \"0x",
                "proof_of_possession = \"0xz",
                "expected 192 hex digits",
            ),
            (
                "evm_chain_id = 1337",
                "evm_chain_id = \"x\"",
                "expected u64",
            ),
            ("evm_chain_id = 1337", "", "missing field `evm_chain_id`"),
            (
                "evm_chain_id = 1337",
                "evm_chain_id = 0",
                "evm_chain_id: must be above 0",
            ),
            ("threshold = 0", "threshold = 3", "governance.threshold"),
            (
                "network = \"regtest\"",
                "network = \"regtst\"",
                "did you mean `regtest`?",
            ),
            (
                "network = \"regtest\"",
                "network = \"main\"",
                "governance.threshold",
            ),
            (
                "min_deposit = 100000",
                "min_deposit = 1",
                "peg.min_deposit: must be at least 10000, found 1",
            ),
            (
                "chain_id = 21212",
                "chain_id = 8193",
                "auxpow.chain_id: must be outside of 0x2000..0x3fff",
            ),
        ];
        for (from, to, expected) in table {
            let edited = texts.chain.replacen(from, to, 1);
            assert_ne!(edited, texts.chain, "{from} occurs");
            let error = parse_chain("chain.toml", &edited)
                .expect_err(to)
                .to_string();
            assert!(
                error.starts_with("chain.toml:") && error.contains(expected),
                "{error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
        // The proof of another key.
        let proofs: Vec<&str> = texts
            .chain
            .lines()
            .filter(|line| line.starts_with("proof_of_possession"))
            .collect();
        let error = parse_chain("chain.toml", &texts.chain.replace(proofs[0], proofs[1]))
            .expect_err("stolen");
        assert!(
            error
                .to_string()
                .contains("authorities[0].proof_of_possession"),
            "{error}"
        );
    }

    /// A chain for Bitcoin's main chain, with these balances.
    fn main_chain(funded: Vec<(Address, U256)>) -> NewChain {
        let key = SecretKey::derive(&[9; 32]).public_key().to_bytes();
        NewChain {
            governance: governance(vec![key], None),
            bitcoin: BitcoinSpec {
                network: BitcoinNetwork::Main,
                start: 900_000,
                ..BitcoinSpec::regtest()
            },
            funded,
            ..new_chain(ExecutionFork::Cancun)
        }
    }

    #[test]
    fn only_a_development_chain_allocates_balances() {
        let (files, _) = ChainFiles::new(&main_chain(Vec::new())).expect("contracts only");
        let spec = files.genesis.spec();
        assert_eq!(spec.auxpow.max_blocks_without_pow, 600);
        let address = Address([1; 20]);
        for (wei, reason) in [(1u64, "has a balance"), (0, "has no code")] {
            let refused = ChainFiles::new(&main_chain(vec![(address, U256::from(wei))]));
            let refused = refused.map(drop).expect_err(reason);
            assert!(
                matches!(&refused, GenesisError::Allocation { reason: found, .. } if *found == reason),
                "{refused}"
            );
            assert!(
                refused.to_string().contains(&address.to_string()),
                "{refused}"
            );
        }
        let (development, _) = ChainFiles::new(&new_chain(ExecutionFork::Cancun)).expect("good");
        let auxpow = &development.genesis.spec().auxpow;
        assert_eq!((auxpow.spacing, auxpow.max_blocks_without_pow), (20, 0));
    }

    #[test]
    fn files_of_different_chains_are_refused() {
        // Files that people name are the operating system's.
        if alys_runtime::is_simulated() {
            return;
        }
        let (temporary, _, texts) = written(ExecutionFork::Cancun);
        let dir = Dir::open(temporary.path()).expect("a directory");
        let replace = |from: &str, to: &str| {
            let edited = texts.execution.replace(from, to);
            assert_ne!(edited, texts.execution, "{from} occurs");
            dir.write_atomic(EXECUTION_FILE, edited.as_bytes())
                .expect("writable");
            load(temporary.path()).expect_err(to)
        };
        assert!(matches!(
            replace("\"chainId\": 1337", "\"chainId\": 1338"),
            GenesisError::OtherChainId { .. }
        ));
        assert!(matches!(
            replace("\"nonce\": \"0x0\"", "\"nonce\": \"0x2\""),
            GenesisError::OtherExecution { .. }
        ));
        assert!(matches!(
            replace("0x1c9c380", "0x7fffffff"),
            GenesisError::GasLimit { .. }
        ));
        assert!(matches!(
            replace(
                "\"shanghaiTime\": 0",
                "\"shanghaiTime\": 0, \"pragueTime\": 0"
            ),
            GenesisError::Execution { .. }
        ));
        assert!(matches!(
            replace("\"config\"", "config"),
            GenesisError::Json { .. }
        ));
        dir.remove(EXECUTION_FILE).expect("writable");
        let missing = load(temporary.path()).expect_err("removed");
        assert!(
            matches!(missing, GenesisError::File(FileError::Missing { .. })),
            "{missing}"
        );
    }

    #[test]
    fn arguments_are_checked() {
        let authority = new_chain(ExecutionFork::Cancun).authorities[0].clone();
        let text = format!(
            "{}:{}:{}",
            authority.public_key, authority.proof_of_possession, authority.fee_address
        );
        assert_eq!(parse_authority(&text), Ok(authority));
        for (text, expected) in [
            ("a:b", "2 part(s)"),
            ("0x00:b:c", "public key: expected 96 hex digits"),
        ] {
            let error = parse_authority(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
        let address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        let funds = |ether: &str| parse_fund(&format!("{address}={ether}")).map(|(_, wei)| wei);
        assert_eq!(funds("1.5"), Ok(U256::from(1_500_000_000_000_000_000u64)));
        for bad in ["", "x", "1.2.3", "1e400", "999999999999999999999999999"] {
            assert!(funds(bad).is_err(), "{bad}");
        }
        assert!(parse_fund(address).is_err());
    }
}

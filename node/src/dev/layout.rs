//! The directory of a development network.
//!
//! ```text
//! dev.toml                parameters; written last, so a network with this file is complete
//! chain.toml              the chain spec
//! execution-genesis.json
//! validator-<i>/          the data directory of an `alys node`; the password is "dev"
//! ```

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use alys_runtime::clock;
use alys_runtime::disk::Dir;
use alys_runtime::net::Listener;
use alys_types::bls::SecretKey;
use alys_types::spec::BitcoinSpec;
use alys_types::{Address, FaultModel, Slot};
use serde::{Deserialize, Serialize};

use super::accounts::{ACCOUNTS, ETHER};
use crate::files::FileError;
use crate::genesis::{
    CHAIN_FILE, ChainFiles, EXECUTION_FILE, ExecutionFork, GenesisError, NewChain, parse_fund,
};
use crate::keys::{self, KeysError, Password, PublicAuthority, ScryptCost};
use crate::toml_text::{self, TomlError};

const FILE: &str = "dev.toml";
/// No secret, because the keys are for a network on one machine.
const PASSWORD: &str = "dev";
/// Version of the layout that this program writes.
const VERSION: u32 = 2;

/// Parameters of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    version: u32,
    /// 1 to 15.
    pub validators: u8,
    pub slot_ms: u64,
    pub chain_id: u64,
    pub fork: ExecutionFork,
    /// Port of each validator for its peers, on loopback.
    pub peer_ports: Vec<u16>,
}

/// Parameters from the command line; `None` is the remembered value, or the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    pub validators: Option<u8>,
    pub slot_ms: Option<u64>,
    pub chain_id: Option<u64>,
    pub fork: Option<ExecutionFork>,
}

/// An opened network.
#[derive(Debug, Clone)]
pub struct Network {
    pub remembered: Remembered,
    pub chain: ChainFiles,
    /// In the order of the federation.
    pub validators: Vec<Validator>,
    /// Created by this start.
    pub is_new: bool,
}

#[derive(Debug, Clone)]
pub struct Validator {
    pub dir: Dir,
    pub key: SecretKey,
}

/// Reason for which a directory has no usable network.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error(
        "{} is not empty and was not made by `alys dev`; use another --datadir", path.display()
    )]
    Foreign { path: PathBuf },
    #[error(
        "{} holds a network with {field} {found}, asked is {asked}; leave the option out to \
         continue it, or use another --datadir for a new one", path.display()
    )]
    Differs {
        path: PathBuf,
        field: &'static str,
        found: String,
        asked: String,
    },
    #[error(
        "{} was made by another version of `alys dev` (layout {found}, this is {VERSION}); use \
         another --datadir", path.display()
    )]
    Version { path: PathBuf, found: u32 },
    /// `dev.toml` was edited.
    #[error("{0}")]
    Toml(#[from] TomlError),
    /// The chain files of an earlier start are damaged.
    #[error(
        "{source}; delete {} to start a new network there, or use another --datadir", path.display()
    )]
    Spoiled { path: PathBuf, source: GenesisError },
    /// The directory of a validator was deleted.
    #[error(
        "{name} is missing in {}; delete that directory to start a new network there, or use \
         another --datadir",
        path.display()
    )]
    Incomplete { path: PathBuf, name: String },
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("data directory: {0}")]
    Io(#[from] std::io::Error),
}

/// Opens the network in `dir`, or creates it.
///
/// # Errors
/// Any [`LayoutError`].
pub async fn open_or_make(dir: &Dir, wanted: Wanted) -> Result<Network, LayoutError> {
    match dir.read(FILE)? {
        Some(bytes) => open(dir, &bytes, wanted).await,
        None => make(dir, wanted).await,
    }
}

async fn open(dir: &Dir, bytes: &[u8], wanted: Wanted) -> Result<Network, LayoutError> {
    let name = dir.path().join(FILE).display().to_string();
    let text = std::str::from_utf8(bytes).map_err(|_| FileError::NoText {
        path: dir.path().join(FILE),
    });
    let mut remembered: Remembered = toml_text::read(&name, text.map_err(GenesisError::from)?)?;
    if remembered.version != VERSION {
        return Err(LayoutError::Version {
            path: dir.path().to_owned(),
            found: remembered.version,
        });
    }
    check_same(
        dir.path(),
        "validators",
        remembered.validators,
        wanted.validators,
    )?;
    check_same(dir.path(), "slot-ms", remembered.slot_ms, wanted.slot_ms)?;
    check_same(dir.path(), "chain-id", remembered.chain_id, wanted.chain_id)?;
    let fork = |fork: ExecutionFork| format!("{fork:?}").to_lowercase();
    check_same(
        dir.path(),
        "fork",
        fork(remembered.fork),
        wanted.fork.map(fork),
    )?;
    let chain = ChainFiles::load(
        &dir.path().join(CHAIN_FILE),
        &dir.path().join(EXECUTION_FILE),
    )
    .map_err(|source| LayoutError::Spoiled {
        path: dir.path().to_owned(),
        source,
    })?;
    let validators = open_validators(dir, remembered.validators, MissingKey::Refuse)?;
    let ports = free_ports(&remembered.peer_ports, usize::from(remembered.validators)).await?;
    if ports != remembered.peer_ports {
        remembered.peer_ports = ports;
        remember(dir, &remembered)?;
    }
    Ok(Network {
        remembered,
        chain,
        validators,
        is_new: false,
    })
}

async fn make(dir: &Dir, wanted: Wanted) -> Result<Network, LayoutError> {
    // Only files of a start that was interrupted before the network was complete.
    let own = |name: &String| {
        name == alys_runtime::disk::LOCK_FILE
            || name == CHAIN_FILE
            || name == EXECUTION_FILE
            || name.starts_with("validator-")
    };
    if !dir.list()?.iter().all(own) {
        return Err(LayoutError::Foreign {
            path: dir.path().to_owned(),
        });
    }
    let validators_wanted = wanted.validators.unwrap_or(4);
    let validators = open_validators(dir, validators_wanted, MissingKey::Make)?;
    let slot_ms = wanted.slot_ms.unwrap_or(2000);
    let fee_address = |index: usize| ACCOUNTS[index % ACCOUNTS.len()].address.parse::<Address>();
    let authorities = validators.iter().enumerate().map(|(index, validator)| {
        let fee_address = fee_address(index).expect("the accounts are checked by a test");
        PublicAuthority::of(&validator.key, Some(fee_address)).complete()
    });
    let fund = |account: &super::accounts::Account| {
        parse_fund(&format!("{}={ETHER}", account.address))
            .expect("the accounts are checked by a test")
    };
    let new = NewChain {
        chain_id: wanted.chain_id.unwrap_or(super::DEFAULT_CHAIN_ID),
        start_slot: Slot::at(clock::wall_ms(), slot_ms),
        slot_duration_ms: slot_ms,
        fault_model: FaultModel::Byzantine,
        authorities: authorities.collect(),
        governance: Default::default(),
        fork: wanted.fork.unwrap_or_default(),
        bitcoin: BitcoinSpec::regtest(),
        funded: ACCOUNTS.iter().map(fund).collect(),
    };
    let (chain, texts) = ChainFiles::new(&new)?;
    for name in [CHAIN_FILE, EXECUTION_FILE] {
        dir.remove(name)?;
    }
    texts.write(dir)?;
    let peer_ports = free_ports(&[], validators.len()).await?;
    let remembered = Remembered {
        version: VERSION,
        validators: validators_wanted,
        slot_ms,
        chain_id: new.chain_id,
        fork: new.fork,
        peer_ports,
    };
    remember(dir, &remembered)?;
    Ok(Network {
        remembered,
        chain,
        validators,
        is_new: true,
    })
}

/// Handling of a validator without a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MissingKey {
    /// The network is new.
    Make,
    /// The chain spec contains the lost key, and a new one would be no authority.
    Refuse,
}

fn open_validators(
    dir: &Dir,
    count: u8,
    missing: MissingKey,
) -> Result<Vec<Validator>, LayoutError> {
    let password = Password::new(PASSWORD);
    let open = |index: u8| {
        let name = format!("validator-{index}");
        if missing == MissingKey::Refuse && !dir.exists(&name)? {
            return Err(LayoutError::Incomplete {
                path: dir.path().to_owned(),
                name,
            });
        }
        let dir = dir.sub(&name)?;
        if missing == MissingKey::Make && !dir.exists(keys::KEYSTORE)? {
            keys::create(&dir, &password, ScryptCost::DEVELOPMENT, None)?;
        }
        let key = keys::unlock(&dir, keys::KEYSTORE, &password)?;
        Ok(Validator { dir, key })
    };
    (0..count).map(open).collect()
}

fn remember(dir: &Dir, remembered: &Remembered) -> Result<(), LayoutError> {
    let body = toml::to_string(remembered).expect("numbers and a word have a TOML form");
    Ok(dir.write_atomic(
        FILE,
        format!("# Made by `alys dev`; not for editing.\n{body}").as_bytes(),
    )?)
}

fn check_same<T: PartialEq + ToString>(
    path: &Path,
    field: &'static str,
    found: T,
    asked: Option<T>,
) -> Result<(), LayoutError> {
    match asked {
        Some(asked) if asked != found => Err(LayoutError::Differs {
            path: path.to_owned(),
            field,
            found: found.to_string(),
            asked: asked.to_string(),
        }),
        _ => Ok(()),
    }
}

/// `count` free ports of this machine: the remembered ones where they are still free.
async fn free_ports(remembered: &[u16], count: usize) -> std::io::Result<Vec<u16>> {
    // All are held until the last one is found, so that they are distinct.
    let mut held = Vec::with_capacity(count);
    for index in 0..count {
        let port = remembered.get(index).copied().unwrap_or(0);
        let listener = match Listener::bind(loopback(port)).await {
            Ok(listener) => listener,
            Err(_) => Listener::bind(loopback(0)).await?,
        };
        held.push(listener);
    }
    Ok(held
        .iter()
        .map(|listener| listener.local_addr().port())
        .collect())
}

/// True if the address can be bound.
pub async fn is_free(addr: SocketAddr) -> bool {
    Listener::bind(addr).await.is_ok()
}

/// An address that only this machine reaches.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_dir<F: Future<Output = ()> + Send + 'static>(
        test: impl FnOnce(Dir) -> F + Send + 'static,
    ) {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("dev");
        alys_runtime::block_on_main(
            async move { test(Dir::open(path).expect("a directory")).await },
        );
    }

    #[test]
    fn a_network_is_created_once_and_reopened() {
        // Paths of the command line are not on the simulated disk.
        if alys_runtime::is_simulated() {
            return;
        }
        with_dir(|dir| async move {
            let wanted = Wanted {
                validators: Some(3),
                slot_ms: Some(1000),
                ..Wanted::default()
            };
            let made = open_or_make(&dir, wanted)
                .await
                .expect("an empty directory");
            assert!(made.is_new);
            assert_eq!(made.chain.genesis.set().len(), 3);
            let again = open_or_make(&dir, Wanted::default())
                .await
                .expect("made above");
            assert!(!again.is_new);
            assert_eq!(again.remembered, made.remembered);
            assert_eq!(again.chain.genesis.hash(), made.chain.genesis.hash());
            for (index, validator) in again.validators.iter().enumerate() {
                let key = validator.key.public_key().to_bytes();
                assert_eq!(again.chain.genesis.set().index_of(&key), Some(index as u8));
                assert!(keys::is_new(&validator.dir, &key).expect("readable"));
            }
            let other = open_or_make(
                &dir,
                Wanted {
                    validators: Some(4),
                    ..Wanted::default()
                },
            )
            .await;
            let text = other.expect_err("another network").to_string();
            assert!(text.contains("validators 3, asked is 4"), "{text}");
            dir.sub("validator-1")
                .and_then(|one| one.remove(keys::KEYSTORE))
                .expect("writable");
            let robbed = open_or_make(&dir, Wanted::default())
                .await
                .expect_err("a key is gone")
                .to_string();
            assert!(
                robbed.contains("validator-1/keystore.json does not exist"),
                "{robbed}"
            );
        });
    }

    #[test]
    fn an_interrupted_creation_is_completed() {
        with_dir(|dir| async move {
            let made = open_or_make(&dir, Wanted::default())
                .await
                .expect("an empty directory");
            dir.remove(FILE).expect("writable");
            let again = open_or_make(&dir, Wanted::default())
                .await
                .expect("the files of an interrupted start");
            assert!(again.is_new);
            let keys = |network: &Network| -> Vec<_> {
                network
                    .validators
                    .iter()
                    .map(|v| v.key.public_key().to_bytes())
                    .collect()
            };
            assert_eq!(keys(&again), keys(&made));
        });
    }

    #[test]
    fn a_foreign_directory_is_left_unchanged() {
        with_dir(|dir| async move {
            dir.write_atomic("thesis.txt", b"x").expect("writable");
            let refused = open_or_make(&dir, Wanted::default()).await;
            assert!(matches!(refused, Err(LayoutError::Foreign { .. })));
            assert_eq!(dir.list().expect("readable"), ["thesis.txt"]);
        });
    }

    #[test]
    fn an_occupied_port_is_replaced() {
        with_dir(|_| async {
            let taken = Listener::bind(loopback(0)).await.expect("a free port");
            let port = taken.local_addr().port();
            let ports = free_ports(&[port], 2).await.expect("free ports");
            assert!(
                ports.len() == 2 && ports[0] != port && ports[1] != port && ports[0] != ports[1]
            );
            drop(taken);
            assert_eq!(free_ports(&ports, 2).await.expect("free ports"), ports);
        });
    }
}

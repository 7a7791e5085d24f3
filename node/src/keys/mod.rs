//! The keys of a node and their files in its data directory.
//!
//! ```text
//! keystore.json    block-signing BLS key, encrypted (EIP-2335)          secret
//! identity.key     network identity: an ed25519 seed as hex             secret
//! authority.toml   public key, proof of possession, fee address: for `alys genesis new`
//! votes.new        marks a public key that never voted; removed before its first vote
//! ```
//!
//! Owns creating and reading these files. Guarantees that a key is never overwritten, that only the
//! owner can read secrets, that `keystore.json` is written last, so that a directory with one is
//! complete, and that the marker of a key that never voted is written once. Never keeps a secret
//! longer than its caller.

pub mod keystore;
pub mod password;

use std::io;

use alys_net::NodeKey;
use alys_runtime::disk::Dir;
use alys_types::bls::{PublicKeyBytes, SecretKey};
use alys_types::spec::vault_address;
use alys_types::{Address, Authority};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use keystore::{Keystore, KeystoreError, ScryptCost};
pub use password::{Password, PasswordError, Purpose};

/// The encrypted block-signing key.
pub const KEYSTORE: &str = "keystore.json";
/// The network identity.
pub const IDENTITY: &str = "identity.key";
/// The public parts of the key, for the chain spec.
pub const AUTHORITY: &str = "authority.toml";
/// The marker of a key that never voted; the node removes it.
pub const VOTES_NEW: &str = crate::node::FRESH_VOTES_FILE;
/// Directory of the chain and the vote state.
pub const STORE: &str = "chain";
/// Directory of the embedded execution client.
pub const EXECUTION_STORE: &str = "execution";

/// Reason for which keys cannot be created or read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("{path} exists: a key is never overwritten; use another --datadir")]
    Exists { path: String },
    /// The directory belongs to another key.
    #[error("{path} holds the chain and the votes of another key; use another --datadir")]
    Used { path: String },
    #[error("{path} does not exist; make a key with `alys keys new --datadir {datadir}`")]
    Missing { path: String, datadir: String },
    #[error("{path}: {source}")]
    Keystore { path: String, source: KeystoreError },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: String, reason: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The public parts of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicParts {
    /// The entry of the chain spec.
    pub authority: PublicAuthority,
    /// The libp2p identity.
    pub peer_id: String,
}

/// An authority whose fee address may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicAuthority {
    pub public_key: PublicKeyBytes,
    pub proof_of_possession: alys_types::bls::Signature,
    /// EVM address that receives its share of the fees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_address: Option<Address>,
}

/// The content of `authority.toml`; several in one file are a federation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthoritiesFile {
    /// In the order of the federation.
    pub authorities: Vec<PublicAuthority>,
}

impl PublicAuthority {
    /// The authority of a secret key.
    pub fn of(key: &SecretKey, fee_address: Option<Address>) -> PublicAuthority {
        PublicAuthority {
            public_key: key.public_key().to_bytes(),
            proof_of_possession: key.prove_possession(),
            fee_address,
        }
    }

    /// The argument of `alys genesis new --authority`.
    pub fn to_argument(&self) -> String {
        let fee_address = self
            .fee_address
            .map_or("FEE_ADDRESS".to_owned(), |address| address.to_string());
        format!(
            "{}:{}:{fee_address}",
            self.public_key, self.proof_of_possession
        )
    }

    /// The entry of a chain spec. Without a fee address the authority's share stays in the vault
    /// that collects all fees.
    pub fn complete(&self) -> Authority {
        let PublicAuthority {
            public_key,
            proof_of_possession,
            fee_address,
        } = *self;
        Authority {
            public_key,
            proof_of_possession,
            fee_address: fee_address.unwrap_or_else(vault_address),
        }
    }
}

/// Creates a block-signing key and, unless there is one, a network identity in `dir`.
///
/// # Errors
/// [`KeysError::Exists`], [`KeysError::Used`], [`KeysError::Io`].
pub fn create(
    dir: &Dir,
    password: &Password,
    cost: ScryptCost,
    fee_address: Option<Address>,
) -> Result<PublicParts, KeysError> {
    let _lock = dir.lock()?;
    if dir.exists(KEYSTORE)? {
        return Err(KeysError::Exists {
            path: path_of(dir, KEYSTORE),
        });
    }
    if dir.exists(STORE)? {
        return Err(KeysError::Used {
            path: path_of(dir, STORE),
        });
    }
    let mut entropy = Zeroizing::new([0; 32]);
    alys_runtime::rand::fill(&mut *entropy);
    let key = SecretKey::derive(&entropy);
    let mut random = [0; 64];
    alys_runtime::rand::fill(&mut random);
    let keystore =
        alys_runtime::blocking(|| Keystore::encrypt(&key, password.as_str(), cost, &random));
    let identity = identity_or_new(dir)?;
    let peer_id = NodeKey::from_bytes(*identity).peer_id().to_string();
    let authority = PublicAuthority::of(&key, fee_address);
    dir.write_atomic(VOTES_NEW, format!("{}\n", authority.public_key).as_bytes())?;
    dir.write_atomic(AUTHORITY, authority_toml(&authority, &peer_id).as_bytes())?;
    // Last, so that every other failure happens before there is a key.
    dir.write_atomic_private(KEYSTORE, keystore.to_json().as_bytes())?;
    Ok(PublicParts { authority, peer_id })
}

/// Reads the public parts of the keys in `dir`, without a password.
///
/// # Errors
/// [`KeysError::Missing`], [`KeysError::Damaged`], [`KeysError::Io`].
pub fn show(dir: &Dir) -> Result<PublicParts, KeysError> {
    let public_key = read_keystore(dir, KEYSTORE)?.public_key();
    let public_key = public_key.map_err(|source| KeysError::Keystore {
        path: path_of(dir, KEYSTORE),
        source,
    })?;
    let identity = identity(dir)?.ok_or_else(|| missing(dir, IDENTITY))?;
    let text = dir
        .read(AUTHORITY)?
        .ok_or_else(|| missing(dir, AUTHORITY))?;
    let damaged = |reason: String| KeysError::Damaged {
        path: path_of(dir, AUTHORITY),
        reason,
    };
    let file: AuthoritiesFile = std::str::from_utf8(&text)
        .map_err(|error| damaged(error.to_string()))
        .and_then(|text| {
            toml::from_str(text).map_err(|error| damaged(error.message().to_owned()))
        })?;
    match file.authorities.as_slice() {
        [authority] if authority.public_key == public_key => Ok(PublicParts {
            authority: authority.clone(),
            peer_id: NodeKey::from_bytes(*identity).peer_id().to_string(),
        }),
        _ => Err(damaged(format!(
            "it is not about the key {public_key} of {KEYSTORE}"
        ))),
    }
}

/// Decrypts the keystore `name` in `dir`.
///
/// # Errors
/// [`KeysError::Missing`], [`KeysError::Keystore`], [`KeysError::Io`].
pub fn unlock(dir: &Dir, name: &str, password: &Password) -> Result<SecretKey, KeysError> {
    let keystore = read_keystore(dir, name)?;
    alys_runtime::blocking(|| keystore.decrypt(password.as_str())).map_err(|source| {
        KeysError::Keystore {
            path: path_of(dir, name),
            source,
        }
    })
}

/// Reads the network identity in `dir`, or creates one.
///
/// # Errors
/// [`KeysError::Damaged`], [`KeysError::Io`].
pub fn identity_or_new(dir: &Dir) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    if let Some(seed) = identity(dir)? {
        return Ok(seed);
    }
    let mut seed = Zeroizing::new([0; 32]);
    alys_runtime::rand::fill(&mut *seed);
    // 64 digits and a line break, in one place that is wiped.
    let mut text = Zeroizing::new([b'\n'; 65]);
    hex::encode_to_slice(*seed, &mut text[..64]).expect("two digits for each byte");
    dir.write_atomic_private(IDENTITY, &*text)?;
    Ok(seed)
}

/// True if the key of `dir` never voted, by the marker of [`create`].
///
/// # Errors
/// The marker cannot be read.
pub fn is_new(dir: &Dir, key: &PublicKeyBytes) -> Result<bool, KeysError> {
    let marker = dir.read(VOTES_NEW)?;
    // The marker of another key, or a damaged one, says nothing about this key.
    let marked = marker.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim_end().parse().ok());
    Ok(marked == Some(*key))
}

fn identity(dir: &Dir) -> Result<Option<Zeroizing<[u8; 32]>>, KeysError> {
    let Some(bytes) = dir.read(IDENTITY)? else {
        return Ok(None);
    };
    let bytes = Zeroizing::new(bytes);
    let reason =
        match std::str::from_utf8(&bytes).map(|text| alys_types::bytes::from_hex(text.trim())) {
            Ok(Ok(seed)) => return Ok(Some(Zeroizing::new(seed))),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
    Err(KeysError::Damaged {
        path: path_of(dir, IDENTITY),
        reason,
    })
}

fn read_keystore(dir: &Dir, name: &str) -> Result<Keystore, KeysError> {
    let bytes = dir.read(name)?.ok_or_else(|| missing(dir, name))?;
    Keystore::parse(&bytes).map_err(|source| KeysError::Keystore {
        path: path_of(dir, name),
        source,
    })
}

fn authority_toml(authority: &PublicAuthority, peer_id: &str) -> String {
    let file = AuthoritiesFile {
        authorities: vec![authority.clone()],
    };
    let entry = toml::to_string(&file).expect("a list of tables of hex strings has a TOML form");
    let fee = match authority.fee_address {
        Some(_) => "",
        None => {
            "# Add the address for the authority's share of the fees:\n# fee_address = \"0x...\"\n"
        }
    };
    format!(
        "# An authority of an Alys federation; nothing here is secret. Concatenate the files of \
         all members,\n# in the same order for everybody, and give the result to `alys genesis new \
         --authorities-file`.\n# Peer id of its node: {peer_id}\n\n{entry}{fee}"
    )
}

fn missing(dir: &Dir, name: &str) -> KeysError {
    KeysError::Missing {
        path: path_of(dir, name),
        datadir: dir.path().display().to_string(),
    }
}

fn path_of(dir: &Dir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_new_dir(test: impl FnOnce(Dir) + Send + 'static) {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("node");
        alys_runtime::block_on_main(async move { test(Dir::open(path).expect("a directory")) });
    }

    fn make(dir: &Dir) -> PublicParts {
        let password = Password::new("pw");
        create(
            dir,
            &password,
            ScryptCost::DEVELOPMENT,
            Some(Address([7; 20])),
        )
        .expect("an empty directory")
    }

    #[test]
    fn keys_are_created_once_and_found_again() {
        in_new_dir(|dir| {
            let parts = make(&dir);
            assert_eq!(show(&dir).expect("made above"), parts);
            let key = unlock(&dir, KEYSTORE, &Password::new("pw")).expect("the same password");
            assert_eq!(
                PublicAuthority::of(&key, Some(Address([7; 20]))),
                parts.authority
            );
            let wrong = unlock(&dir, KEYSTORE, &Password::new("PW"))
                .expect_err("another password")
                .to_string();
            assert!(wrong.contains("wrong password"), "{wrong}");
            let again = create(&dir, &Password::new("pw"), ScryptCost::DEVELOPMENT, None);
            assert!(matches!(again, Err(KeysError::Exists { .. })));
            let set = alys_types::AuthoritySet::new(
                vec![parts.authority.complete()],
                alys_types::FaultModel::Byzantine,
            );
            assert!(set.is_ok(), "{set:?}");
        });
    }

    #[test]
    fn fees_of_an_authority_without_an_address_stay_in_the_vault() {
        let key = SecretKey::derive(&[1; 32]);
        let own = Address([7; 20]);
        for (fee_address, expected) in [(Some(own), own), (None, vault_address())] {
            let authority = PublicAuthority::of(&key, fee_address);
            assert_eq!(authority.complete().fee_address, expected);
        }
    }

    #[test]
    fn secrets_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        // The simulated disk has no owners.
        if alys_runtime::is_simulated() {
            return;
        }
        in_new_dir(|dir| {
            make(&dir);
            for (name, mode) in [(KEYSTORE, 0o600), (IDENTITY, 0o600)] {
                let metadata = dir.path().join(name).metadata().expect(name);
                assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
            }
        });
    }

    #[test]
    fn the_marker_of_a_new_key_is_bound_to_it() {
        in_new_dir(|dir| {
            let key = make(&dir).authority.public_key;
            let other = SecretKey::derive(&[9; 32]).public_key().to_bytes();
            assert!(is_new(&dir, &key).expect("readable"));
            assert!(!is_new(&dir, &other).expect("readable"));
            dir.remove(VOTES_NEW).expect("writable");
            assert!(!is_new(&dir, &key).expect("readable"));
        });
    }

    #[test]
    fn a_used_or_an_empty_directory_is_refused() {
        in_new_dir(|dir| {
            assert!(matches!(show(&dir), Err(KeysError::Missing { .. })));
            dir.sub(STORE)
                .expect("a directory in it")
                .write_atomic("x", b"x")
                .expect("writable");
            let refused = create(&dir, &Password::new("pw"), ScryptCost::DEVELOPMENT, None);
            assert!(matches!(refused, Err(KeysError::Used { .. })));
        });
    }

    #[test]
    fn authority_files_of_several_nodes_can_be_concatenated() {
        in_new_dir(|dir| {
            let nodes = ["a", "b", "c"].map(|name| dir.sub(name).expect("a directory"));
            let expected: Vec<_> = nodes.iter().map(|dir| make(dir).authority).collect();
            let read = |dir: &Dir| dir.read(AUTHORITY).expect("readable").expect("made");
            let text = String::from_utf8(nodes.iter().flat_map(read).collect()).expect("text");
            let all: AuthoritiesFile = toml::from_str(&text).expect("concatenated files are one");
            assert_eq!(all.authorities, expected);
        });
    }
}

//! EIP-2335: a BLS secret key in a JSON file, encrypted with a password.
//!
//! Writes scrypt and AES-128-CTR, and reads pbkdf2 as well. Memory and rounds that a file may
//! demand are bounded, because a keystore can come from a stranger.

use aes::cipher::{KeyIvInit, StreamCipher};
use alys_types::bls::{PublicKeyBytes, SecretKey};
use alys_types::bytes::HexError;
use hmac::Hmac;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

type Aes128Ctr = ctr::Ctr128BE<aes::Aes128>;

/// Largest keystore file in bytes; real ones have about 700.
const MAX_FILE_BYTES: usize = 16 * 1024;
/// Most memory that scrypt may take: four times the EIP's own parameters.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// Most lanes of scrypt; they only multiply the time.
const MAX_SCRYPT_P: u32 = 16;
/// Most rounds of pbkdf2: the EIP's own parameters have 2^18.
const MAX_PBKDF2_ROUNDS: u32 = 1 << 24;
/// Most bytes of salt.
const MAX_SALT_BYTES: usize = 1024;

/// Cost of one guess at the password: scrypt's `n`, a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScryptCost {
    log_n: u8,
}

impl ScryptCost {
    /// The EIP's value: 256 MiB and about a second.
    pub const STANDARD: ScryptCost = ScryptCost { log_n: 18 };
    /// No protection, for the public keys of development networks.
    pub const DEVELOPMENT: ScryptCost = ScryptCost { log_n: 1 };

    /// A cost of `n`, a power of two from 2 to 2^20.
    ///
    /// # Errors
    /// [`KeystoreError::Cost`] for any other number.
    pub fn new(n: u64) -> Result<ScryptCost, KeystoreError> {
        let log_n = n.trailing_zeros();
        if !n.is_power_of_two() || !(1..=20).contains(&log_n) {
            return Err(KeystoreError::Cost { n });
        }
        Ok(ScryptCost { log_n: log_n as u8 })
    }
}

/// A keystore file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Keystore {
    crypto: Crypto,
    #[serde(default)]
    description: String,
    /// Hex without `0x`.
    pubkey: String,
    #[serde(default)]
    path: String,
    uuid: String,
    version: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Crypto {
    kdf: Kdf,
    checksum: Checksum,
    cipher: Cipher,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "function", rename_all = "lowercase")]
enum Kdf {
    Scrypt {
        params: ScryptParams,
        message: String,
    },
    Pbkdf2 {
        params: Pbkdf2Params,
        message: String,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ScryptParams {
    dklen: u32,
    n: u64,
    p: u32,
    r: u32,
    salt: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pbkdf2Params {
    dklen: u32,
    c: u32,
    prf: String,
    salt: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Checksum {
    function: String,
    #[serde(default)]
    params: serde_json::Value,
    message: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cipher {
    function: String,
    params: CipherParams,
    message: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

/// Reason for which a keystore file yields no key. No variant contains a password or a secret key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    #[error("not an EIP-2335 keystore: {reason}")]
    Malformed { reason: String },
    #[error("keystore version {found}: only version 4 (EIP-2335) is known")]
    Version { found: u32 },
    /// A function that the EIP does not have.
    #[error("{place} {found:?} of the keystore is not supported; it must be {expected:?}")]
    Function {
        place: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("parameter {name} of the keystore is {found}; it must be {expected}")]
    Parameter {
        name: &'static str,
        found: u64,
        expected: &'static str,
    },
    #[error("{name} of the keystore is not hex: {source}")]
    Hex {
        name: &'static str,
        source: HexError,
    },
    /// The checksum does not match.
    #[error("wrong password for the keystore of {public_key}")]
    Password { public_key: String },
    /// The checksum matches, but the content is no BLS key, or that of another public key.
    #[error(
        "the keystore decrypts, but not to the secret key of {public_key}: it is damaged or was \
         edited"
    )]
    Key { public_key: String },
    #[error(
        "--scrypt-n {n}: it must be a power of two from 2 to 1048576; 262144 protects a key, \
         less does not"
    )]
    Cost { n: u64 },
}

impl Keystore {
    /// Encrypts a key. `random` is 64 bytes of randomness: salt, initialisation vector, uuid.
    pub fn encrypt(
        key: &SecretKey,
        password: &str,
        cost: ScryptCost,
        random: &[u8; 64],
    ) -> Keystore {
        let salt = &random[..32];
        let iv = &random[32..48];
        let uuid = &random[48..];
        let params = ScryptParams {
            dklen: 32,
            n: 1 << cost.log_n,
            p: 1,
            r: 8,
            salt: hex::encode(salt),
        };
        let derived = scrypt(&normalise(password), salt, &params)
            .expect("parameters of ours are within the bounds of both scrypt and this file");
        let mut message = key.to_bytes();
        apply_cipher(&derived, iv, &mut *message);
        Keystore {
            crypto: Crypto {
                kdf: Kdf::Scrypt {
                    params,
                    message: String::new(),
                },
                checksum: Checksum {
                    function: "sha256".to_owned(),
                    params: serde_json::json!({}),
                    message: hex::encode(checksum(&derived, &*message)),
                },
                cipher: Cipher {
                    function: "aes-128-ctr".to_owned(),
                    params: CipherParams {
                        iv: hex::encode(iv),
                    },
                    message: hex::encode(*message),
                },
            },
            description: "Alys block-signing key".to_owned(),
            pubkey: hex::encode(key.public_key().to_bytes().0),
            path: String::new(),
            uuid: uuid_v4(uuid),
            version: 4,
        }
    }

    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("strings and numbers have a JSON form");
        text.push('\n');
        text
    }

    /// Parses the file without decrypting it.
    ///
    /// # Errors
    /// [`KeystoreError::Malformed`] and [`KeystoreError::Version`].
    pub fn parse(bytes: &[u8]) -> Result<Keystore, KeystoreError> {
        if bytes.len() > MAX_FILE_BYTES {
            let reason = format!(
                "the file has {} bytes, a keystore at most {MAX_FILE_BYTES}",
                bytes.len()
            );
            return Err(KeystoreError::Malformed { reason });
        }
        let keystore: Keystore =
            serde_json::from_slice(bytes).map_err(|error| KeystoreError::Malformed {
                reason: error.to_string(),
            })?;
        match keystore.version {
            4 => Ok(keystore),
            found => Err(KeystoreError::Version { found }),
        }
    }

    /// The public key in the file, which [`Keystore::decrypt`] checks.
    ///
    /// # Errors
    /// [`KeystoreError::Hex`].
    pub fn public_key(&self) -> Result<PublicKeyBytes, KeystoreError> {
        self.pubkey.parse().map_err(|source| KeystoreError::Hex {
            name: "pubkey",
            source,
        })
    }

    /// Decrypts the key. The parameters of the file decide how long that takes.
    ///
    /// # Errors
    /// Any [`KeystoreError`] but `Version` and `Cost`.
    pub fn decrypt(&self, password: &str) -> Result<SecretKey, KeystoreError> {
        let Crypto {
            kdf,
            checksum: expected,
            cipher,
        } = &self.crypto;
        supported("checksum", &expected.function, "sha256")?;
        supported("cipher", &cipher.function, "aes-128-ctr")?;
        let public_key = self.public_key()?;
        let iv: [u8; 16] = hex_array("cipher iv", &cipher.params.iv)?;
        let expected: [u8; 32] = hex_array("checksum message", &expected.message)?;
        let mut message = Zeroizing::new(hex_array::<32>("cipher message", &cipher.message)?);
        let password = normalise(password);
        let derived = match kdf {
            Kdf::Scrypt { params, .. } => scrypt(&password, &salt(&params.salt)?, params)?,
            Kdf::Pbkdf2 { params, .. } => pbkdf2(&password, &salt(&params.salt)?, params)?,
        };
        if checksum(&derived, &*message) != expected {
            return Err(KeystoreError::Password {
                public_key: public_key.to_string(),
            });
        }
        apply_cipher(&derived, &iv, &mut *message);
        match SecretKey::from_bytes(&message) {
            Ok(key) if key.public_key().to_bytes() == public_key => Ok(key),
            _ => Err(KeystoreError::Key {
                public_key: public_key.to_string(),
            }),
        }
    }
}

/// Normalizes a password as the EIP demands: NFKD, without control characters, as UTF-8.
fn normalise(password: &str) -> Zeroizing<Vec<u8>> {
    let text: Zeroizing<String> =
        Zeroizing::new(password.nfkd().filter(|c| !c.is_control()).collect());
    Zeroizing::new(text.as_bytes().to_vec())
}

fn scrypt(
    password: &[u8],
    salt: &[u8],
    params: &ScryptParams,
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let out_of_bounds = |name, found, expected| {
        Err(KeystoreError::Parameter {
            name,
            found,
            expected,
        })
    };
    let ScryptParams { dklen, n, p, r, .. } = params;
    if *dklen != 32 {
        return out_of_bounds("dklen", u64::from(*dklen), "32");
    }
    if !n.is_power_of_two() || *n < 2 {
        return out_of_bounds("n", *n, "a power of two");
    }
    if *p == 0 || *p > MAX_SCRYPT_P {
        return out_of_bounds("p", u64::from(*p), "from 1 to 16");
    }
    let memory = n.saturating_mul(u64::from(*r)).saturating_mul(128);
    if *r == 0 || memory > MAX_SCRYPT_BYTES {
        return out_of_bounds("r", u64::from(*r), "from 1, with n * r * 128 at most 1 GiB");
    }
    let malformed = |error: &dyn std::fmt::Display| KeystoreError::Malformed {
        reason: error.to_string(),
    };
    let log_n = n.trailing_zeros() as u8;
    let params = scrypt::Params::new(log_n, *r, *p, 32).map_err(|error| malformed(&error))?;
    let mut derived = Zeroizing::new([0; 32]);
    scrypt::scrypt(password, salt, &params, &mut *derived).map_err(|error| malformed(&error))?;
    Ok(derived)
}

fn pbkdf2(
    password: &[u8],
    salt: &[u8],
    params: &Pbkdf2Params,
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    supported("prf", &params.prf, "hmac-sha256")?;
    let out_of_bounds = |name, found, expected| {
        Err(KeystoreError::Parameter {
            name,
            found,
            expected,
        })
    };
    if params.dklen != 32 {
        return out_of_bounds("dklen", u64::from(params.dklen), "32");
    }
    if params.c == 0 || params.c > MAX_PBKDF2_ROUNDS {
        return out_of_bounds("c", u64::from(params.c), "from 1 to 16777216");
    }
    let mut derived = Zeroizing::new([0; 32]);
    pbkdf2::pbkdf2::<Hmac<Sha256>>(password, salt, params.c, &mut *derived).map_err(|error| {
        KeystoreError::Malformed {
            reason: error.to_string(),
        }
    })?;
    Ok(derived)
}

fn checksum(derived: &[u8; 32], message: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(&derived[16..])
        .chain_update(message)
        .finalize()
        .into()
}

/// Encrypts and decrypts: the cipher is an exclusive or.
fn apply_cipher(derived: &[u8; 32], iv: &[u8], message: &mut [u8]) {
    let mut cipher = Aes128Ctr::new_from_slices(&derived[..16], iv)
        .expect("the key is 16 bytes of the 32, the vector 16 by its type at both callers");
    cipher.apply_keystream(message);
}

fn supported(
    place: &'static str,
    found: &str,
    expected: &'static str,
) -> Result<(), KeystoreError> {
    if found != expected {
        return Err(KeystoreError::Function {
            place,
            found: found.chars().take(32).collect(),
            expected,
        });
    }
    Ok(())
}

fn hex_array<const N: usize>(name: &'static str, text: &str) -> Result<[u8; N], KeystoreError> {
    alys_types::bytes::from_hex(text).map_err(|source| KeystoreError::Hex { name, source })
}

fn salt(text: &str) -> Result<Vec<u8>, KeystoreError> {
    if text.len() > 2 * MAX_SALT_BYTES {
        let found = (text.len() / 2) as u64;
        return Err(KeystoreError::Parameter {
            name: "salt",
            found,
            expected: "at most 1024 bytes",
        });
    }
    hex::decode(text).map_err(|_| KeystoreError::Hex {
        name: "salt",
        source: HexError::Digit,
    })
}

fn uuid_v4(random: &[u8]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(random);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑";
    const SECRET: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";

    /// The EIP's first test vector.
    const SCRYPT: &str = concat!(
        r#"{
        "crypto": {
            "kdf": {"function": "scrypt", "params": {"dklen": 32, "n": 262144, "p": 1, "r": 8,
                "salt": "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"},
                "message": ""},
            "checksum": {"function": "sha256", "params": {},
                "message": "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484"},
            "cipher": {"function": "aes-128-ctr",
                "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
                "message": "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f"}
        },
        "description": "This is a test keystore that uses scrypt to secure the secret.",
        "pubkey": "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27"#,
        r#"f4ae4040902382ae2910c15e2b420d07",
        "path": "m/12381/60/3141592653/589793238",
        "uuid": "1d85ae20-35c5-4611-98e8-aa14a633906f",
        "version": 4
    }"#
    );

    /// The EIP's second test vector.
    const PBKDF2: &str = concat!(
        r#"{
        "crypto": {
            "kdf": {"function": "pbkdf2", "params": {"dklen": 32, "c": 262144, "prf": "hmac-sha256",
                "salt": "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"},
                "message": ""},
            "checksum": {"function": "sha256", "params": {},
                "message": "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1"},
            "cipher": {"function": "aes-128-ctr",
                "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
                "message": "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad"}
        },
        "description": "This is a test keystore that uses PBKDF2 to secure the secret.",
        "pubkey": "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27"#,
        r#"f4ae4040902382ae2910c15e2b420d07",
        "path": "m/12381/60/0/0",
        "uuid": "64625def-3331-4eea-ab6f-782f3ed16a83",
        "version": 4
    }"#
    );

    #[test]
    fn the_vectors_of_the_eip_decrypt() {
        for vector in [SCRYPT, PBKDF2] {
            let key = Keystore::parse(vector.as_bytes())
                .and_then(|k| k.decrypt(PASSWORD))
                .expect(vector);
            assert_eq!(hex::encode(*key.to_bytes()), SECRET);
        }
    }

    #[test]
    fn the_password_is_normalised_as_the_eip_says() {
        assert_eq!(
            hex::encode(&*normalise(PASSWORD)),
            "7465737470617373776f7264f09f9491"
        );
        assert_eq!(normalise("a\u{0}b\u{7f}\u{80}c\n"), normalise("abc"));
        // A letter and its accent, in one or in two.
        assert_eq!(normalise("\u{e9}"), normalise("e\u{301}"));
    }

    fn development() -> (SecretKey, Keystore) {
        let key = SecretKey::derive(&[3; 32]);
        let random = std::array::from_fn(|i| i as u8);
        let keystore = Keystore::encrypt(&key, "correct horse", ScryptCost::DEVELOPMENT, &random);
        (key, keystore)
    }

    #[test]
    fn what_is_encrypted_decrypts_with_the_same_password_only() {
        let (key, keystore) = development();
        let keystore =
            Keystore::parse(keystore.to_json().as_bytes()).expect("own files are readable");
        let again = keystore
            .decrypt("correct horse")
            .expect("the password is right");
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(keystore.uuid, "30313233-3435-4637-b839-3a3b3c3d3e3f");
        let wrong = keystore.decrypt("battery staple");
        assert!(
            matches!(wrong, Err(KeystoreError::Password { .. })),
            "{wrong:?}"
        );
        assert!(!keystore.to_json().contains(&hex::encode(*key.to_bytes())));
    }

    #[test]
    fn bad_keystores_are_refused_with_the_reason() {
        let json = development().1.to_json();
        let table = [
            ("\"version\": 4", "\"version\": 3", "version 3"),
            ("\"scrypt\"", "\"argon\"", "argon"),
            ("\"n\": 2", "\"n\": 3", "power of two"),
            ("\"n\": 2", "\"n\": 1073741824", "1 GiB"),
            ("\"p\": 1", "\"p\": 1000", "from 1 to 16"),
            ("\"dklen\": 32", "\"dklen\": 16", "dklen"),
            ("\"sha256\"", "\"md5\"", "\"md5\""),
            ("aes-128-ctr", "rot13", "rot13"),
            ("\"iv\": \"20", "\"iv\": \"2", "expected 32 hex digits"),
            ("\"salt\": \"00", "\"salt\": \"xx", "salt"),
        ];
        for (from, to, expected) in table {
            let edited = json.replace(from, to);
            assert_ne!(edited, json, "{from} occurs");
            let error = Keystore::parse(edited.as_bytes())
                .and_then(|k| k.decrypt("correct horse"))
                .expect_err(to)
                .to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        let other = hex::encode(SecretKey::derive(&[4; 32]).public_key().to_bytes().0);
        let own = hex::encode(development().0.public_key().to_bytes().0);
        let swapped =
            Keystore::parse(json.replace(&own, &other).as_bytes()).expect("still a keystore");
        assert!(matches!(
            swapped.decrypt("correct horse"),
            Err(KeystoreError::Key { .. })
        ));
    }

    #[test]
    fn costs_are_powers_of_two() {
        assert_eq!(ScryptCost::new(262_144), Ok(ScryptCost::STANDARD));
        for n in [0, 1, 3, 1 << 21, u64::MAX] {
            assert_eq!(ScryptCost::new(n), Err(KeystoreError::Cost { n }));
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)
        ) {
            let _ = Keystore::parse(&bytes);
        }
    }
}

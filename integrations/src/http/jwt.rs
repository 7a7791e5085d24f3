//! Authentication of the Engine API: an HS256 JWT with a fresh `iat`, signed with a shared secret.
//!
//! Implemented here because it needs one HMAC only, while a JWT library brings its own
//! cryptography.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Tolerance of `iat` against the verifier's clock in both directions, as the Engine API specifies.
pub const IAT_WINDOW_SECS: u64 = 60;

/// Longest accepted token in bytes. Ours has about 130; tokens with the optional claims `id` and
/// `clv` fit.
const MAX_TOKEN_BYTES: usize = 4096;

/// `{"alg":"HS256","typ":"JWT"}` in base64url.
const HEADER_HS256: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The 32-byte secret that a node and its execution client share. Wiped from memory when dropped;
/// its `Debug` output hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSecret(Zeroizing<[u8; 32]>);

/// A secret file that does not parse. The error never contains its text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JwtSecretError {
    /// The number of hex digits is wrong.
    #[error(
        "the JWT secret must be 32 bytes, that is 64 hex digits (0x in front is allowed), but it \
         has {digits}"
    )]
    Length {
        /// Characters without `0x` and surrounding white space.
        digits: usize,
    },
    /// A character is not a hex digit.
    #[error("the JWT secret must be hex: the character at position {position} is not a hex digit")]
    NotHex {
        /// Counted from zero, without `0x`.
        position: usize,
    },
}

/// A refused token. The text is part of the HTTP answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JwtError {
    /// The request has no `Authorization` header.
    #[error("missing token: the request has no Authorization header")]
    Missing,
    /// The header is not `Bearer <token>`, or the token is not three base64url parts with the
    /// claims of a JWT.
    #[error("malformed token: {reason}")]
    Malformed { reason: &'static str },
    /// The token names another algorithm, such as `none`.
    #[error("unsupported token algorithm: only HS256 is accepted")]
    Algorithm,
    /// The signature does not match because the two sides have different secrets.
    #[error("signature mismatch: the secrets differ")]
    Signature,
    /// `iat` is outside the tolerance: the token is replayed, or the clocks differ.
    #[error(
        "stale token: iat differs from this clock by {drift_secs} s, allowed are \
         {IAT_WINDOW_SECS} s"
    )]
    Stale {
        /// Token time minus own time.
        drift_secs: i64,
    },
    /// The token has an `exp` in the past.
    #[error("expired token")]
    Expired,
}

impl JwtSecret {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Parses the contents of a secret file: 64 hex digits, with optional `0x` and surrounding
    /// white space.
    pub fn parse(text: &str) -> Result<Self, JwtSecretError> {
        let text = text.trim();
        let digits = text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(text);
        if let Some(position) = digits.chars().position(|c| !c.is_ascii_hexdigit()) {
            return Err(JwtSecretError::NotHex { position });
        }
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut *bytes).map_err(|_| JwtSecretError::Length {
            digits: digits.len(),
        })?;
        Ok(Self(bytes))
    }

    /// The secret in the format of a secret file: 64 hex digits without prefix.
    pub fn to_hex(&self) -> String {
        hex::encode(*self.0)
    }

    /// A token with `iat` at `now_secs` (Unix time).
    pub fn token(&self, now_secs: u64) -> String {
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"iat\":{now_secs}}}"));
        let signed = format!("{HEADER_HS256}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.mac(signed.as_bytes()).finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    /// Verifies the value of an `Authorization` header at `now_secs` (Unix time). The signature is
    /// compared in constant time, and before any claim is evaluated.
    pub fn verify_header(&self, header: Option<&[u8]>, now_secs: u64) -> Result<(), JwtError> {
        let header = header.ok_or(JwtError::Missing)?;
        let header = std::str::from_utf8(header).map_err(|_| JwtError::Malformed {
            reason: "it is not text",
        })?;
        let (scheme, token) = header.split_once(' ').ok_or(JwtError::Malformed {
            reason: "it is not `Bearer <token>`",
        })?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(JwtError::Malformed {
                reason: "it is not `Bearer <token>`",
            });
        }
        self.verify(token.trim(), now_secs)
    }

    /// Verifies a bare token, as [`JwtSecret::verify_header`] does.
    pub fn verify(&self, token: &str, now_secs: u64) -> Result<(), JwtError> {
        #[derive(serde::Deserialize)]
        struct Header {
            alg: String,
        }
        #[derive(serde::Deserialize)]
        struct Claims {
            iat: Option<u64>,
            exp: Option<u64>,
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::Malformed {
                reason: "it is too long",
            });
        }
        let not_three = JwtError::Malformed {
            reason: "it does not have three parts",
        };
        let Some((signed, signature)) = token.rsplit_once('.') else {
            return Err(not_three);
        };
        let Some((header, claims)) = signed.split_once('.') else {
            return Err(not_three);
        };
        let header: Header = decode(header, "its header is not base64url of JSON with `alg`")?;
        if header.alg != "HS256" {
            return Err(JwtError::Algorithm);
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| JwtError::Malformed {
                reason: "its signature is not base64url",
            })?;
        self.mac(signed.as_bytes())
            .verify_slice(&signature)
            .map_err(|_| JwtError::Signature)?;
        let claims: Claims = decode(claims, "its claims are not base64url of JSON")?;
        let iat = claims.iat.ok_or(JwtError::Malformed {
            reason: "it has no iat",
        })?;
        if iat.abs_diff(now_secs) > IAT_WINDOW_SECS {
            let drift_secs =
                i64::try_from(i128::from(iat) - i128::from(now_secs)).unwrap_or(i64::MAX);
            return Err(JwtError::Stale { drift_secs });
        }
        match claims.exp {
            Some(exp) if exp <= now_secs => Err(JwtError::Expired),
            Some(_) | None => Ok(()),
        }
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes a key of any length");
        mac.update(message);
        mac
    }
}

impl std::fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JwtSecret(..)")
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str, reason: &'static str) -> Result<T, JwtError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtError::Malformed { reason })?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn secret() -> JwtSecret {
        JwtSecret::new([7; 32])
    }

    /// The expected token was computed with Python's `hmac`, so it detects an error that signer and
    /// verifier share.
    #[test]
    fn tokens_match_an_independent_implementation() {
        let token = secret().token(NOW);
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(
            URL_SAFE_NO_PAD.decode(parts[0]).unwrap(),
            br#"{"alg":"HS256","typ":"JWT"}"#
        );
        assert_eq!(
            URL_SAFE_NO_PAD.decode(parts[1]).unwrap(),
            br#"{"iat":1700000000}"#
        );
        assert_eq!(
            token,
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3MDAwMDAwMDB9.\
             q7vdxvYJozZ6UoScEnMgFSivYb-nzMGBXN-k-GD5t_8"
        );
    }

    #[test]
    fn only_fresh_tokens_of_the_same_secret_are_accepted() {
        let own = secret();
        let other = JwtSecret::new([8; 32]);
        let header = |alg: &str| URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{alg}\"}}"));
        let signed = |header: &str, claims: &str| {
            let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
            let signature =
                URL_SAFE_NO_PAD.encode(own.mac(signed.as_bytes()).finalize().into_bytes());
            format!("Bearer {signed}.{signature}")
        };
        let bearer = |secret: &JwtSecret, iat| format!("Bearer {}", secret.token(iat));
        let malformed = |reason| Err(JwtError::Malformed { reason });
        let cases = [
            (Some(bearer(&own, NOW)), Ok(())),
            (Some(bearer(&own, NOW - 60)), Ok(())),
            (Some(bearer(&own, NOW + 60)), Ok(())),
            (Some(bearer(&own, NOW).replace("Bearer", "bearer")), Ok(())),
            (
                Some(bearer(&own, NOW - 61)),
                Err(JwtError::Stale { drift_secs: -61 }),
            ),
            (
                Some(bearer(&own, NOW + 61)),
                Err(JwtError::Stale { drift_secs: 61 }),
            ),
            (
                Some(bearer(&own, u64::MAX)),
                Err(JwtError::Stale {
                    drift_secs: i64::MAX,
                }),
            ),
            (Some(bearer(&other, NOW)), Err(JwtError::Signature)),
            (None, Err(JwtError::Missing)),
            (
                Some(format!("Basic {}", own.token(NOW))),
                malformed("it is not `Bearer <token>`"),
            ),
            (
                Some(own.token(NOW)),
                malformed("it is not `Bearer <token>`"),
            ),
            (
                Some("Bearer abc".into()),
                malformed("it does not have three parts"),
            ),
            (
                Some("Bearer a.b".into()),
                malformed("it does not have three parts"),
            ),
            (
                Some(format!("Bearer {}", "x".repeat(5000))),
                malformed("it is too long"),
            ),
            (
                Some(signed(&header("none"), "{\"iat\":1700000000}")),
                Err(JwtError::Algorithm),
            ),
            (
                Some(signed(&header("HS256"), "{}")),
                malformed("it has no iat"),
            ),
            (
                Some(signed(&header("HS256"), "[1")),
                malformed("its claims are not base64url of JSON"),
            ),
            (
                Some(signed(
                    &header("HS256"),
                    "{\"iat\":1700000000,\"exp\":1699999999}",
                )),
                Err(JwtError::Expired),
            ),
            (
                Some(signed(
                    &header("HS256"),
                    "{\"iat\":1700000000,\"exp\":1700000001,\"id\":\"x\"}",
                )),
                Ok(()),
            ),
        ];
        for (header, expected) in cases {
            let verified = own.verify_header(header.as_deref().map(str::as_bytes), NOW);
            assert_eq!(verified, expected, "{header:?}");
        }
    }

    #[test]
    fn secret_files_allow_prefix_and_white_space_only() {
        let hex = "0707070707070707070707070707070707070707070707070707070707070707";
        for text in [hex.to_owned(), format!("0x{hex}\n"), format!("  {hex}\r\n")] {
            assert_eq!(JwtSecret::parse(&text), Ok(secret()), "{text}");
        }
        assert_eq!(JwtSecret::parse(&secret().to_hex()), Ok(secret()));
        assert_eq!(
            JwtSecret::parse(""),
            Err(JwtSecretError::Length { digits: 0 })
        );
        assert_eq!(
            JwtSecret::parse(&hex[2..]),
            Err(JwtSecretError::Length { digits: 62 })
        );
        assert_eq!(
            JwtSecret::parse(&format!("{hex}00")),
            Err(JwtSecretError::Length { digits: 66 })
        );
        assert_eq!(
            JwtSecret::parse(&hex[1..]),
            Err(JwtSecretError::Length { digits: 63 })
        );
        assert_eq!(
            JwtSecret::parse("0xzz"),
            Err(JwtSecretError::NotHex { position: 0 })
        );
        assert_eq!(
            JwtSecret::parse(&hex.replace("7", "ß")),
            Err(JwtSecretError::NotHex { position: 1 })
        );
        assert_eq!(format!("{:?}", secret()), "JwtSecret(..)");
    }
}

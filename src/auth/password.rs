//! `PasswordHash`: what is kept of a password, in the three forms that RabbitMQ has.
//!
//! ```text
//!  ┌────────┬────────────────────────────┐
//!  │ salt 4 │ digest of salt, password   │     SHA-256 32 bytes, SHA-512 64, MD5 16
//!  └────────┴────────────────────────────┘
//! ```
//!
//! Definitions carry it in base64. An empty hash stands for a user without a password, who cannot log in with one.

use std::fmt;
use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};

use super::Password;

/// Bytes of a salt.
const SALT_BYTES: usize = 4;

/// The digest that a hash is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HashAlgorithm {
    /// `rabbit_password_hashing_sha256`, RabbitMQ's default.
    Sha256 = 0,
    /// `rabbit_password_hashing_sha512`.
    Sha512 = 1,
    /// `rabbit_password_hashing_md5`, of files that were written by RabbitMQ before 3.6.
    Md5 = 2,
}

impl HashAlgorithm {
    /// Every one, with RabbitMQ's name.
    pub const ALL: [(HashAlgorithm, &'static str); 3] = [
        (HashAlgorithm::Sha256, "rabbit_password_hashing_sha256"),
        (HashAlgorithm::Sha512, "rabbit_password_hashing_sha512"),
        (HashAlgorithm::Md5, "rabbit_password_hashing_md5"),
    ];

    /// The algorithm of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find_map(|(algorithm, known)| (known == name).then_some(algorithm))
    }

    /// The name that `parse` takes.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn digest(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        fn of<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
            D::new()
                .chain_update(salt)
                .chain_update(password)
                .finalize()
                .to_vec()
        }
        match self {
            HashAlgorithm::Sha256 => of::<Sha256>(salt, password),
            HashAlgorithm::Sha512 => of::<Sha512>(salt, password),
            HashAlgorithm::Md5 => of::<Md5>(salt, password),
        }
    }

    fn digest_bytes(self) -> usize {
        match self {
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha512 => 64,
            HashAlgorithm::Md5 => 16,
        }
    }
}

/// A text that is no hash of its algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// It is not base64.
    #[error("text that is not base64")]
    NotBase64,
    /// It has not the length of a salt and a digest.
    #[error("{found} bytes in base64, where {} has {expected}", algorithm.name())]
    Length {
        /// The algorithm.
        algorithm: HashAlgorithm,
        /// Bytes it writes.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

/// A salted digest of a password; empty when no password will do. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    algorithm: HashAlgorithm,
    bytes: Box<[u8]>,
}

impl PasswordHash {
    /// The hash of `password`.
    pub fn of(algorithm: HashAlgorithm, salt: [u8; SALT_BYTES], password: &[u8]) -> Self {
        let bytes = [&salt[..], &algorithm.digest(&salt, password)].concat();
        Self {
            algorithm,
            bytes: bytes.into(),
        }
    }

    /// The hash of a password that a client or a file has told.
    pub fn salted(algorithm: HashAlgorithm, salt: [u8; SALT_BYTES], password: &Password) -> Self {
        Self::of(algorithm, salt, password.as_bytes())
    }

    /// The hash that a user without a password has.
    pub fn none() -> Self {
        Self {
            algorithm: HashAlgorithm::Sha256,
            bytes: Box::default(),
        }
    }

    /// The hash of these bytes: salt and digest, or nothing.
    pub fn from_bytes(algorithm: HashAlgorithm, bytes: &[u8]) -> Result<Self, PasswordHashError> {
        let expected = SALT_BYTES + algorithm.digest_bytes();
        match bytes.len() {
            0 => Ok(Self {
                algorithm,
                bytes: Box::default(),
            }),
            found if found != expected => Err(PasswordHashError::Length {
                algorithm,
                expected,
                found,
            }),
            _ => Ok(Self {
                algorithm,
                bytes: bytes.into(),
            }),
        }
    }

    /// The hash that `text` writes in base64.
    pub fn from_base64(algorithm: HashAlgorithm, text: &str) -> Result<Self, PasswordHashError> {
        let bytes = STANDARD.decode(text).map_err(|_| PasswordHashError::NotBase64)?;
        Self::from_bytes(algorithm, &bytes)
    }

    /// The text that `from_base64` takes.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// The digest's algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Salt and digest, or nothing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is the hash of `password`. The time it takes tells nothing of how much was right.
    pub fn fits(&self, password: &Password) -> bool {
        let (salt, digest) = self.bytes.split_at(SALT_BYTES.min(self.bytes.len()));
        let claimed = self.algorithm.digest(salt, password.as_bytes());
        let pairs = claimed.iter().zip(digest);
        let difference = pairs.fold(0, |difference, (a, b)| difference | black_box(a ^ b));
        digest.len() == claimed.len() && black_box(difference) == 0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_rabbitmq_wrote_fits_its_password_alone() {
        // What RabbitMQ 3.10 exports of the user guest.
        let text = "y+oQT3Y5/I+1c/qcimU5trRtleYYhtu0SVIk0XBDieMyskDg";
        let hash = PasswordHash::from_base64(HashAlgorithm::Sha256, text).expect("well formed");
        assert!(hash.fits(&Password::new(b"guest")));
        assert!(!hash.fits(&Password::new(b"Guest")) && !hash.fits(&Password::new(b"")));
        assert_eq!(hash.to_base64(), text);
    }

    #[test]
    fn every_algorithm_fits_what_it_hashed() {
        for (algorithm, name) in HashAlgorithm::ALL {
            let hash = PasswordHash::of(algorithm, *b"salt", b"secret");
            assert!(hash.fits(&Password::new(b"secret")) && !hash.fits(&Password::new(b"other")));
            assert_eq!(PasswordHash::from_base64(algorithm, &hash.to_base64()), Ok(hash));
            assert_eq!(HashAlgorithm::parse(name), Some(algorithm));
        }
    }

    #[test]
    fn no_password_fits_an_empty_hash() {
        let hash = PasswordHash::from_base64(HashAlgorithm::Sha256, "").expect("a user without a password");
        assert!(!hash.fits(&Password::new(b"")));
    }

    #[test]
    fn a_hash_of_another_length_is_refused() {
        let refused = PasswordHash::from_base64(HashAlgorithm::Md5, "AAAA").expect_err("three bytes");
        assert_eq!(
            refused.to_string(),
            "3 bytes in base64, where rabbit_password_hashing_md5 has 20"
        );
        let refused = PasswordHash::from_base64(HashAlgorithm::Md5, "zz!").expect_err("no base64");
        assert_eq!(refused, PasswordHashError::NotBase64);
    }
}

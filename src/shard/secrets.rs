//! `Secrets`: what only this core can tell, and nobody can guess who has seen others.

use std::hash::Hasher;

/// A keyed one-way function: SipHash-2-4, whose key is 128 random bits and never leaves the core.
///
/// [`Random`](super::settings::Random) would not do: each of its numbers tells all that follow, and clients see them in
/// generated names.
#[derive(Clone, Copy)]
pub struct Secrets {
    key: u128,
}

impl Secrets {
    /// The function of `key`.
    pub fn keyed(key: u128) -> Self {
        Self { key }
    }

    /// The secret that belongs to `place`.
    pub fn of(&self, place: u128) -> u128 {
        u128::from(self.half(place, 0)) << 64 | u128::from(self.half(place, 1))
    }

    #[expect(
        deprecated,
        reason = "std has no other hash whose key can be chosen; this one is made for secrets"
    )]
    fn half(&self, place: u128, half: u8) -> u64 {
        let mut hasher = std::hash::SipHasher::new_with_keys((self.key >> 64) as u64, self.key as u64);
        hasher.write(&place.to_le_bytes());
        hasher.write(&[half]);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_belongs_to_its_key_and_its_place() {
        let secrets = Secrets::keyed(7);
        assert_eq!(secrets.of(1), Secrets::keyed(7).of(1));
        assert_ne!(secrets.of(1), secrets.of(2));
        assert_ne!(secrets.of(1), Secrets::keyed(8).of(1));
        assert_ne!(secrets.of(1) >> 64, secrets.of(1) & u128::from(u64::MAX));
    }
}

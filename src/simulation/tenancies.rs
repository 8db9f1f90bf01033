//! `Tenancies`: auto-delete queues ("houses"), each let to one client at a time.
//!
//! ```text
//!   free ── taken ─▶ let ── its last consumer's cancel is answered ─▶ free, and certainly empty
//!                     │  └─ its channel is closed in order ─────────▶ free once more; its consumer may still be leaving
//!                     └──── its connection breaks, the broker dies ─▶ pulled down, and another built
//! ```
//!
//! Whoever takes a house after its cancel was answered begins anew: what the broker promises this client cannot be
//! taken away by the end of the one before.

use super::copies::SessionId;

/// Houses of a run.
const HOUSES: u64 = 2;

/// A house as its tenant knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct House {
    /// Its number, never used again once it is pulled down.
    pub number: u64,
    /// Whether nothing of the tenant before is under way.
    pub is_certain: bool,
}

impl House {
    /// The queue's name.
    pub fn name(self) -> String {
        format!("house-{}", self.number)
    }

    /// Whether the queue survives a restart.
    pub fn is_durable(self) -> bool {
        self.number.is_multiple_of(2)
    }

    /// The core it asks for.
    pub fn lane(self) -> i32 {
        (self.number / 2 % 2) as i32
    }
}

/// All houses.
#[derive(Debug)]
pub struct Tenancies {
    houses: Vec<(House, Option<SessionId>)>,
    built: u64,
}

impl Default for Tenancies {
    fn default() -> Self {
        let houses = (0..HOUSES).map(|number| (new_house(number), None));
        Self {
            houses: houses.collect(),
            built: HOUSES,
        }
    }
}

impl Tenancies {
    /// Lets the first free house to `tenant`.
    pub fn take(&mut self, tenant: SessionId) -> Option<House> {
        let (house, of) = self.houses.iter_mut().find(|(_, of)| of.is_none())?;
        *of = Some(tenant);
        Some(*house)
    }

    /// The cancel of the last consumer was answered; the tenant goes. It cannot know whether the one before is gone.
    pub fn leave(&mut self, tenant: SessionId) {
        let is_certain = |(house, of): &(House, _)| house.is_certain && *of == Some(tenant);
        match self.houses.iter_mut().find(|house| is_certain(house)) {
            Some((_, of)) => *of = None,
            None => self.pull_down(tenant),
        }
    }

    /// The tenant's channel was closed in order.
    pub fn close(&mut self, tenant: SessionId) {
        for (house, of) in &mut self.houses {
            if of.take_if(|of| *of == tenant).is_some() {
                house.is_certain = false;
            }
        }
    }

    /// The tenant's connection has broken: nobody knows what becomes of the house.
    pub fn pull_down(&mut self, tenant: SessionId) {
        for (house, of) in &mut self.houses {
            if of.take_if(|of| *of == tenant).is_some() {
                *house = new_house(self.built);
                self.built += 1;
            }
        }
    }

    /// The broker has died: what was decided and not yet durable may be undone.
    pub fn pull_all_down(&mut self) {
        for house in &mut self.houses {
            *house = (new_house(self.built), None);
            self.built += 1;
        }
    }
}

fn new_house(number: u64) -> House {
    House {
        number,
        is_certain: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_house_has_one_tenant_and_is_built_anew_after_a_break() {
        let mut tenancies = Tenancies::default();
        let first = tenancies.take(7).expect("all are free");
        assert_ne!(tenancies.take(8).map(|house| house.number), Some(first.number));
        assert_eq!(tenancies.take(9), None);
        tenancies.close(7);
        let again = tenancies.take(9).expect("one is free");
        assert_eq!((again.number, again.is_certain), (first.number, false));
        tenancies.pull_down(9);
        let new = tenancies.take(7).expect("another was built");
        assert!(new.number > first.number && new.is_certain);
    }
}

//! `CoreSet`: the cores that become lanes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Cores by the kernel's numbers, as `cores` and `--cores` name them: "all", or a list such as "0-3,5".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CoreSet {
    /// Every core the process may run on, by its affinity mask.
    #[default]
    All,
    /// These cores, at least one, in rising order.
    Listed(BTreeSet<u16>),
}

/// A text that names no set of cores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected \"all\" or core numbers from 0 to 1023 such as \"0-3,5\", found \"{found}\"")]
pub struct NotCores {
    found: String,
}

const CORE_MAX: u16 = 1023;

impl CoreSet {
    /// The cores of this set among `allowed`, the process's affinity mask, or those it asks for and may not have.
    pub fn within(&self, allowed: &BTreeSet<u16>) -> Result<BTreeSet<u16>, BTreeSet<u16>> {
        match self {
            CoreSet::All => Ok(allowed.clone()),
            CoreSet::Listed(cores) if cores.is_subset(allowed) => Ok(cores.clone()),
            CoreSet::Listed(cores) => Err(cores.difference(allowed).copied().collect()),
        }
    }
}

impl FromStr for CoreSet {
    type Err = NotCores;

    fn from_str(text: &str) -> Result<Self, NotCores> {
        if text.trim() == "all" {
            return Ok(CoreSet::All);
        }
        let mut cores = BTreeSet::new();
        for item in text.split(',') {
            cores.extend(parse_range(item).ok_or_else(|| NotCores {
                found: text.to_owned(),
            })?);
        }
        Ok(CoreSet::Listed(cores))
    }
}

fn parse_range(item: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let first: u16 = first.trim().parse().ok()?;
    let last: u16 = last.trim().parse().ok()?;
    (first <= last && last <= CORE_MAX).then_some(first..=last)
}

impl fmt::Display for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CoreSet::Listed(cores) = self else {
            return f.write_str("all");
        };
        let mut separator = "";
        for (first, last) in runs(cores) {
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

/// The set as runs of neighbours, each by its first and last core.
fn runs(cores: &BTreeSet<u16>) -> Vec<(u16, u16)> {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for &core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => runs.push((core, core)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(cores: &[u16]) -> CoreSet {
        CoreSet::Listed(cores.iter().copied().collect())
    }

    #[test]
    fn a_list_of_cores_is_read_and_written_with_its_ranges() {
        for (text, cores, written) in [
            ("0", listed(&[0]), "0"),
            ("0-3,5", listed(&[0, 1, 2, 3, 5]), "0-3,5"),
            (" 2 , 1 ,0", listed(&[0, 1, 2]), "0-2"),
            ("all", CoreSet::All, "all"),
        ] {
            assert_eq!(text.parse(), Ok(cores.clone()), "{text}");
            assert_eq!(cores.to_string(), written);
        }
    }

    #[test]
    fn what_names_no_core_is_refused() {
        for text in ["", "none", "3-1", "-1", "0-", "0,,1", "1024", "0-70000"] {
            assert!(text.parse::<CoreSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_core_outside_the_affinity_mask_is_named() {
        let allowed = BTreeSet::from([0, 1]);
        assert_eq!(CoreSet::All.within(&allowed), Ok(allowed.clone()));
        assert_eq!(listed(&[1, 5]).within(&allowed), Err(BTreeSet::from([5])));
    }
}

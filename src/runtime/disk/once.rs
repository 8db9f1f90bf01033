//! `OnceFailed`: a syncer that never again succeeds after it has failed.

use super::Syncer;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Runs one sync at a time and remembers a failure.
///
/// The kernel tells of a failed write-back once for each open file: whoever syncs next is told of success, though what
/// was lost is lost. Two threads that sync one file would so hide its failure from each other.
pub(super) struct OnceFailed<S> {
    syncer: S,
    has_failed: Mutex<bool>,
}

impl<S> OnceFailed<S> {
    pub(super) fn new(syncer: S) -> Self {
        Self {
            syncer,
            has_failed: Mutex::new(false),
        }
    }
}

impl<S: Syncer> Syncer for OnceFailed<S> {
    fn sync(&self) -> io::Result<()> {
        let mut has_failed = self.has_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_failed {
            return Err(io::Error::other("an earlier sync of it has failed"));
        }
        let result = self.syncer.sync();
        *has_failed = result.is_err();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Fails in its second sync alone.
    struct Flaky(AtomicU32);

    impl Syncer for Flaky {
        fn sync(&self) -> io::Result<()> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                1 => Err(io::Error::from_raw_os_error(5)),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn a_sync_that_failed_once_fails_from_then_on() {
        let syncer = OnceFailed::new(Flaky(AtomicU32::new(0)));
        assert!(syncer.sync().is_ok());
        assert_eq!(syncer.sync().unwrap_err().raw_os_error(), Some(5));
        assert!(syncer.sync().is_err());
    }
}

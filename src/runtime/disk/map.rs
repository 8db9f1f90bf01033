//! `FileMap`: a file's bytes as a slice.

use memmap2::MmapRaw;
use std::ops::Range;
use std::sync::Arc;

/// A read-only view of a whole file; clones share it. It stays valid when the file is renamed or removed.
#[derive(Clone)]
pub struct FileMap(Arc<MmapRaw>);

impl FileMap {
    pub(super) fn new(map: MmapRaw) -> Self {
        Self(Arc::new(map))
    }

    pub(super) fn raw(&self) -> &MmapRaw {
        &self.0
    }

    /// Size of the file in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The bytes of `range`, which the caller knows to have been written and not to be written again while the slice
    /// lives.
    ///
    /// # Panics
    /// If the range leaves the file.
    #[inline]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(
            range.start <= range.end && range.end <= self.0.len(),
            "a record lies inside its file"
        );
        // SAFETY: the range lies inside the mapping, which lives as long as `self`. The file is never truncated (its
        // directory is locked), and the log appends: it writes no byte twice but the padding behind its last
        // record, which no caller asks for, so nothing changes behind the slice.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(range.start), range.end - range.start) }
    }
}

//! Files of the log, real or simulated: a directory of fixed-size files that are written by position, synced by
//! whoever holds a `Syncer`, and read through a map.
//!
//! ```text
//!   Disk ──create/open──▶ SegmentFile ──map────▶ FileMap    bytes already written, without a copy
//!    │                        │  └──syncer─────▶ Syncer     fdatasync, on any thread
//!    │                        └─ write_at, read_at          positioned; errors are values
//!    └──directory_syncer──▶ Syncer                          makes names durable
//! ```
//!
//! `RealDisk` is a directory of the machine. `MemoryDisk` behaves the same for the simulator, keeps what was synced
//! apart from what was only written, and can crash. A file's size never changes after `create`; a name is durable
//! after the directory's sync, contents after the file's. The folder knows nothing of what the bytes mean.

mod map;
mod memory;
mod once;
mod real;

pub use map::FileMap;
pub use memory::{Faults, MemoryDisk};
pub use real::RealDisk;

use std::io;
use std::sync::Arc;

/// A directory of files. Every handle made by `share` sees the same directory.
pub trait Disk: Send {
    /// Another handle on the same directory, for a helper thread.
    fn share(&self) -> Box<dyn Disk>;

    /// Names of the files, in no order; the lock file is not among them.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a sparse file of `size` bytes, all zero. Its name is durable after the directory's sync.
    ///
    /// # Errors
    /// `AlreadyExists`, or whatever the system says.
    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn SegmentFile>>;

    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, or whatever the system says.
    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentFile>>;

    /// Gives a file another name; files already open stay so.
    ///
    /// # Errors
    /// `NotFound`, or whatever the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// `NotFound`, or whatever the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable: what was created, renamed and removed before `sync` stays so.
    fn directory_syncer(&self) -> Arc<dyn Syncer>;

    /// Bytes that can still be written here.
    ///
    /// # Errors
    /// Whatever the system says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Syncs the directory here and now.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync_directory(&self) -> io::Result<()> {
        self.directory_syncer().sync()
    }
}

/// An open file of fixed size.
pub trait SegmentFile: Send {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Fills `into` with what lies at `byte`.
    ///
    /// # Errors
    /// `UnexpectedEof` past the file's end, or whatever the system says; a damaged sector is an error here, where a
    /// read through the map would be a signal.
    fn read_at(&self, byte: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `byte`. Afterwards readers and the map see them; a power cut may still undo them.
    ///
    /// # Errors
    /// `StorageFull`, or whatever the system says; how much was written is then unknown.
    fn write_at(&self, byte: u64, bytes: &[u8]) -> io::Result<()>;

    /// Lets the next read and the map made after it come from the medium rather than from memory, but for what was
    /// written since the last sync.
    ///
    /// # Errors
    /// Whatever the system says.
    fn forget_cached(&self) -> io::Result<()>;

    /// A read-only view of the whole file, kept up to date by writes.
    ///
    /// # Errors
    /// Whatever the system says, such as too many maps.
    fn map(&self) -> io::Result<FileMap>;

    /// Makes contents durable; may be used on any thread, also after the file was renamed or this value dropped.
    fn syncer(&self) -> Arc<dyn Syncer>;
}

/// Makes what was written before the call durable.
pub trait Syncer: Send + Sync {
    /// Returns once it is durable. Callers on several threads take turns.
    ///
    /// # Errors
    /// Whatever the system says. What is durable is then unknown: stop. Asking again fails, too, in this process.
    fn sync(&self) -> io::Result<()>;
}

//! `RealDisk`: a directory of this machine.

use super::once::OnceFailed;
use super::{Disk, FileMap, SegmentFile, Syncer};
use memmap2::MmapOptions;
use rustix::fs::{Advice, FlockOperation, fadvise, fdatasync, flock, fstatvfs, fsync};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK_NAME: &str = "lock";

/// A directory that this process has locked for itself.
pub struct RealDisk(Arc<Directory>);

struct Directory {
    path: PathBuf,
    handle: Arc<File>,
    /// The one syncer of all handles.
    syncer: Arc<OnceFailed<DirectorySyncer>>,
    /// Held for its flock, which ends with the process.
    _lock: File,
}

struct RealFile {
    file: Arc<File>,
    size: u64,
    /// The one syncer of the file, as long as it is open.
    syncer: Arc<OnceFailed<FileSyncer>>,
}

struct FileSyncer(Arc<File>);
struct DirectorySyncer(Arc<File>);

impl RealDisk {
    /// Opens the directory at `path`, made if missing, and locks it until the last handle is dropped.
    ///
    /// # Errors
    /// `ResourceBusy` when another process holds the lock, with its pid in the text; otherwise what the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let path = path.canonicalize()?;
        let lock = lock(&path)?;
        let handle = Arc::new(File::open(&path)?);
        fsync(&*handle)?;
        if let Some(parent) = path.parent() {
            fsync(File::open(parent)?)?;
        }
        Ok(Self(Arc::new(Directory {
            path,
            syncer: Arc::new(OnceFailed::new(DirectorySyncer(handle.clone()))),
            handle,
            _lock: lock,
        })))
    }
}

fn lock(directory: &Path) -> io::Result<File> {
    let path = directory.join(LOCK_NAME);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        file.read_to_string(&mut holder)?;
        let text = format!(
            "{} is in use by process {}: stop that broker, or start this one with another data directory",
            directory.display(),
            if holder.trim().is_empty() {
                "(unknown)"
            } else {
                holder.trim()
            },
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

impl Disk for RealDisk {
    fn share(&self) -> Box<dyn Disk> {
        Box::new(Self(self.0.clone()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0.path)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name != LOCK_NAME
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.0.path.join(name))?;
        file.set_len(size)?;
        Ok(Box::new(RealFile::new(file, size)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.0.path.join(name))?;
        let size = file.metadata()?.len();
        Ok(Box::new(RealFile::new(file, size)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.path.join(from), self.0.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.path.join(name))
    }

    fn directory_syncer(&self) -> Arc<dyn Syncer> {
        self.0.syncer.clone()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let facts = fstatvfs(&*self.0.handle)?;
        Ok(facts.f_bavail * facts.f_frsize)
    }
}

impl RealFile {
    fn new(file: File, size: u64) -> Self {
        let file = Arc::new(file);
        let syncer = Arc::new(OnceFailed::new(FileSyncer(file.clone())));
        Self { file, size, syncer }
    }
}

impl SegmentFile for RealFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, byte: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, byte)
    }

    fn write_at(&self, mut byte: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&*self.file, bytes, byte))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            byte += written as u64;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(fadvise(&*self.file, 0, None, Advice::DontNeed)?)
    }

    fn map(&self) -> io::Result<FileMap> {
        MmapOptions::new()
            .len(self.size as usize)
            .map_raw_read_only(&*self.file)
            .map(FileMap::new)
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        self.syncer.clone()
    }
}

impl Syncer for FileSyncer {
    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&*self.0)?)
    }
}

impl Syncer for DirectorySyncer {
    fn sync(&self) -> io::Result<()> {
        Ok(fsync(&*self.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TestDirectory(PathBuf);

    impl TestDirectory {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("lanemq-disk-{name}-{}", std::process::id())))
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("the test made it");
        }
    }

    #[test]
    fn what_is_written_shows_in_the_map_and_after_reopening() {
        let directory = TestDirectory::new("map");
        let disk = RealDisk::open(&directory.0).unwrap();
        let file = disk.create("a", 8192).unwrap();
        let map = file.map().unwrap();
        file.write_at(
            4000,
            b"across a page's end, perhaps; surely not a short write"
                .repeat(4)
                .as_slice(),
        )
        .unwrap();
        file.syncer().sync().unwrap();
        assert!(map.bytes(4000..4016) == b"across a page's ");
        disk.rename("a", "b").unwrap();
        disk.sync_directory().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        let mut read = [0; 6];
        disk.open("b").unwrap().read_at(4000, &mut read).unwrap();
        assert_eq!(&read, b"across");
        assert!(disk.free_bytes().unwrap() > 0);
        assert_eq!(
            disk.create("b", 1).err().unwrap().kind(),
            io::ErrorKind::AlreadyExists
        );
    }

    #[test]
    fn a_directory_serves_one_owner_at_a_time() {
        let directory = TestDirectory::new("lock");
        let disk = RealDisk::open(&directory.0).unwrap();
        let refused = RealDisk::open(&directory.0).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert!(
            refused
                .to_string()
                .contains(&format!("process {}:", std::process::id())),
            "{refused}"
        );
        let shared = disk.share();
        drop(disk);
        assert!(
            RealDisk::open(&directory.0).is_err(),
            "a shared handle holds the lock"
        );
        drop(shared);
        RealDisk::open(&directory.0).unwrap();
    }
}

//! `MemoryDisk`: a directory that lives in memory and can lose power.
//!
//! Written is not durable: each file keeps its durable bytes apart, and which 512-byte sectors differ. A crash keeps,
//! loses or tears each of these on its own; of the changes to names since the last sync of the directory it keeps
//! the first few, as a journalling file system does. Handles from before a crash are those of a dead process: they
//! fail. A failed sync leaves what it should have written in memory alone, no longer to be written, as Linux does:
//! readers see it, the next life's syncs succeed without it, and a power cut loses it. For the simulator and tests; a
//! lock guards it, since simulated helpers may be real threads.

use super::{Disk, FileMap, SegmentFile, Syncer};
use memmap2::{MmapMut, MmapRaw};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR_BYTES: usize = 512;

/// A handle on the directory, of one life of the process.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Arc<Mutex<State>>,
    life: u64,
}

/// What shall go wrong; a counter at zero fails every call from now on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Writes that still succeed.
    pub writes_left: Option<u64>,
    /// Syncs that still succeed.
    pub syncs_left: Option<u64>,
    /// Names that can still be created, renamed or removed.
    pub names_left: Option<u64>,
}

#[derive(Default)]
struct State {
    life: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    faults: Faults,
    /// Files whose sync has failed in this life; `None` stands for the names.
    failed_syncs: BTreeSet<Option<u64>>,
    capacity: Option<u64>,
}

enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

struct Content {
    map: FileMap,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    has_durable_size: bool,
}

struct MemoryFile {
    disk: MemoryDisk,
    id: u64,
    size: u64,
    map: Option<FileMap>,
}

struct ContentSyncer {
    disk: MemoryDisk,
    id: u64,
}

struct NamesSyncer(MemoryDisk);

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDisk {
    /// An empty directory.
    pub fn new() -> Self {
        Self {
            shared: Arc::default(),
            life: 0,
        }
    }

    /// Cuts the power: what was not synced is kept, lost or torn as `seed` decides. Returns the next life's handle.
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = self.shared.lock().expect("no holder panics");
        state.lose_power(&mut Random(seed));
        state.begin_life();
        Self {
            shared: self.shared.clone(),
            life: state.life,
        }
    }

    /// Kills the process: everything written stays, synced or not. Returns the next life's handle.
    pub fn kill(&self) -> Self {
        let mut state = self.shared.lock().expect("no holder panics");
        state.begin_life();
        Self {
            shared: self.shared.clone(),
            life: state.life,
        }
    }

    /// Whether a sync has failed in this life: what it was to make durable is gone, though memory still has it.
    pub fn has_failed_sync(&self) -> bool {
        let state = self.shared.lock().expect("no holder panics");
        !state.failed_syncs.is_empty()
    }

    /// Says what shall go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().expect("no holder panics").faults = faults;
    }

    /// Bounds what all files together may hold, counting each at its full size.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.lock().expect("no holder panics").capacity = Some(bytes);
    }

    /// Flips the bits of `mask` in a byte of a file, on the medium: durably, unnoticed, whoever has it open.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn damage(&self, name: &str, byte: usize, mask: u8) {
        let mut state = self.shared.lock().expect("no holder panics");
        let content = state.content_named(name);
        let damaged = content.map.bytes(byte..byte + 1)[0] ^ mask;
        content.write(byte, &[damaged]);
        content.durable[byte] ^= mask;
    }

    /// Cuts a file, on the medium.
    ///
    /// # Panics
    /// If there is no such file, or it is shorter.
    pub fn truncate(&self, name: &str, size: usize) {
        let mut state = self.shared.lock().expect("no holder panics");
        let content = state.content_named(name);
        let kept = content.map.bytes(0..size).to_vec();
        *content = Content::new(kept);
    }

    fn lock(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.shared.lock().expect("no holder panics");
        if state.life != self.life {
            return Err(io::Error::other("this handle belongs to a process that has died"));
        }
        Ok(state)
    }

    fn file(&self, id: u64, content: &Content) -> Box<dyn SegmentFile> {
        let size = content.durable.len() as u64;
        Box::new(MemoryFile {
            disk: self.clone(),
            id,
            size,
            map: (size > 0).then(|| content.map.clone()),
        })
    }
}

impl State {
    fn content_named(&mut self, name: &str) -> &mut Content {
        let id = self.names[name];
        self.files.get_mut(&id).expect("a named file has contents")
    }

    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        spend(&mut self.faults.names_left)?;
        change.apply(&mut self.names);
        self.name_changes.push(change);
        Ok(())
    }

    /// Counts a sync of a file, or of the names, towards its fault; one that failed fails for this life.
    fn spend_sync(&mut self, file: Option<u64>) -> io::Result<()> {
        if !self.failed_syncs.contains(&file) && spend(&mut self.faults.syncs_left).is_ok() {
            return Ok(());
        }
        self.failed_syncs.insert(file);
        Err(fault())
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.capacity
            .is_none_or(|capacity| self.used() + bytes <= capacity)
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .map(|id| self.files[id].durable.len() as u64)
            .sum()
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.faults = Faults::default();
        self.failed_syncs.clear();
    }

    fn lose_power(&mut self, random: &mut Random) {
        let kept = random.below(self.name_changes.len() as u64 + 1) as usize;
        for change in self.name_changes.drain(..).take(kept) {
            change.apply(&mut self.durable_names);
        }
        self.name_changes.clear();
        self.names = self.durable_names.clone();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        for content in self.files.values_mut() {
            *content = content.after_power_cut(random);
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Create(name, id) => {
                names.insert(name.clone(), *id);
            }
            NameChange::Rename(from, to) => {
                let id = names.remove(from).expect("only files that are there are renamed");
                names.insert(to.clone(), id);
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Content {
    fn new(durable: Vec<u8>) -> Self {
        let mut map =
            MmapMut::map_anon(durable.len().max(1)).expect("the machine has memory for the simulated disk");
        map[..durable.len()].copy_from_slice(&durable);
        Self {
            map: FileMap::new(MmapRaw::from(map)),
            durable,
            dirty: BTreeSet::new(),
            has_durable_size: true,
        }
    }

    fn write(&mut self, byte: usize, bytes: &[u8]) {
        assert!(
            byte + bytes.len() <= self.durable.len(),
            "writes stay inside the file"
        );
        // SAFETY: the range lies inside the mapping, which is private to this disk and writable; the disk's lock is
        // held, so no other write runs. Slices of it follow the rule of `FileMap::bytes`.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.raw().as_mut_ptr().add(byte), bytes.len())
        };
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector * SECTOR_BYTES..self.durable.len().min((sector + 1) * SECTOR_BYTES);
            self.durable[range.clone()].copy_from_slice(self.map.bytes(range));
        }
        self.has_durable_size = true;
    }

    fn forget_cached(&mut self) {
        for begin in (0..self.durable.len()).step_by(SECTOR_BYTES) {
            if !self.dirty.contains(&(begin / SECTOR_BYTES)) {
                let end = self.durable.len().min(begin + SECTOR_BYTES);
                let sector = self.durable[begin..end].to_vec();
                self.write(begin, &sector);
            }
        }
    }

    fn after_power_cut(&self, random: &mut Random) -> Self {
        if !self.has_durable_size && random.below(2) == 0 {
            return Self::new(Vec::new());
        }
        let mut bytes = self.durable.clone();
        for &sector in &self.dirty {
            let range = sector * SECTOR_BYTES..bytes.len().min((sector + 1) * SECTOR_BYTES);
            let kept = match random.below(4) {
                0 => 0,
                1 => random.below(range.len() as u64) as usize,
                _ => range.len(),
            };
            let kept = range.start..range.start + kept;
            bytes[kept.clone()].copy_from_slice(self.map.bytes(kept));
        }
        Self::new(bytes)
    }
}

impl Disk for MemoryDisk {
    fn share(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut state = self.lock()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !state.has_room(size) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = state.next_file;
        state.change_names(NameChange::Create(name.to_owned(), id))?;
        state.next_file += 1;
        let content = Content {
            has_durable_size: false,
            ..Content::new(vec![0; size as usize])
        };
        let file = self.file(id, &content);
        state.files.insert(id, content);
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        let state = self.lock()?;
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(id, &state.files[&id]))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Remove(name.to_owned()))
    }

    fn directory_syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(NamesSyncer(self.clone()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock()?;
        Ok(state
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

impl SegmentFile for MemoryFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, byte: u64, into: &mut [u8]) -> io::Result<()> {
        let state = self.disk.lock()?;
        let end = byte as usize + into.len();
        if end > self.size as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(content) = state.files.get(&self.id) {
            into.copy_from_slice(content.map.bytes(byte as usize..end));
        }
        Ok(())
    }

    fn write_at(&self, byte: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock()?;
        spend(&mut state.faults.writes_left)?;
        let content = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        content.write(byte as usize, bytes);
        let sectors = byte as usize / SECTOR_BYTES..(byte as usize + bytes.len()).div_ceil(SECTOR_BYTES);
        content.dirty.extend(sectors);
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = self.disk.lock()?;
        if let Some(content) = state.files.get_mut(&self.id) {
            content.forget_cached();
        }
        Ok(())
    }

    fn map(&self) -> io::Result<FileMap> {
        self.map.clone().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(ContentSyncer {
            disk: self.disk.clone(),
            id: self.id,
        })
    }
}

impl Syncer for ContentSyncer {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock()?;
        let spent = state.spend_sync(Some(self.id));
        if let Some(content) = state.files.get_mut(&self.id) {
            match spent {
                Ok(()) => content.sync(),
                Err(_) => content.dirty.clear(),
            }
        }
        spent
    }
}

impl Syncer for NamesSyncer {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock()?;
        state.spend_sync(None)?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }
}

/// Counts a call towards its fault.
fn spend(left: &mut Option<u64>) -> io::Result<()> {
    match left {
        Some(0) => Err(fault()),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

fn fault() -> io::Error {
    io::Error::other("a fault of the simulated disk")
}

/// SplitMix64: which way each sector goes is decided by the crash's seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(disk: &MemoryDisk, name: &str) -> Vec<u8> {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.size() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_mixes_the_rest() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..64 {
            let disk = MemoryDisk::new();
            let file = disk.create("a", 2048).unwrap();
            file.write_at(0, &[1; 512]).unwrap();
            file.syncer().sync().unwrap();
            disk.sync_directory().unwrap();
            file.write_at(512, &[2; 1024]).unwrap();
            let disk = disk.crash(seed);
            let bytes = content(&disk, "a");
            assert_eq!(bytes[..512], [1; 512]);
            assert_eq!(bytes[1536..], [0; 512]);
            outcomes.insert((bytes[512], bytes[1023], bytes[1024], bytes[1535]));
            assert!(file.write_at(0, &[9]).is_err(), "the old process is dead");
        }
        assert!(outcomes.len() >= 5, "{outcomes:?}");
    }

    #[test]
    fn names_survive_a_crash_in_the_order_they_were_changed() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..32 {
            let disk = MemoryDisk::new();
            disk.create("a", 512).unwrap();
            disk.sync_directory().unwrap();
            disk.rename("a", "b").unwrap();
            disk.create("c", 512).unwrap();
            outcomes.insert(disk.crash(seed).list().unwrap());
        }
        let expected =
            [vec!["a"], vec!["b"], vec!["b", "c"]].map(|names| names.into_iter().map(String::from).collect());
        assert_eq!(outcomes, BTreeSet::from(expected));
    }

    #[test]
    fn a_killed_process_loses_nothing_it_wrote() {
        let disk = MemoryDisk::new();
        disk.create("a", 512).unwrap().write_at(0, b"written").unwrap();
        let disk = disk.kill();
        assert_eq!(&content(&disk, "a")[..7], b"written");
        disk.set_faults(Faults {
            writes_left: Some(0),
            ..Faults::default()
        });
        assert!(disk.open("a").unwrap().write_at(0, b"x").is_err());
    }
}

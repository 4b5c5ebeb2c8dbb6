//! What the last load has read: files that are still the same are not read again, and files that have changed are told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files of a folder of tenants at most.
const MAX_TENANTS: usize = 100_000;
/// Longest file of a tenant, in bytes.
const MAX_TENANT: u64 = 64 << 10;
/// Bytes of all of them together: they are kept, so that a reload reads none that is the same.
const MAX_ALL: u64 = 256 << 20;
/// A file may change again within a tick of its file system's clock, and look the same: it is read again until it is older.
const TICK: Duration = Duration::from_secs(1);

/// What tells that a file is another one than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
    inode: u64,
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
            length: file.len(),
            inode: file.ino(),
        }
    }

    /// Of the file at this path; `None`: there is none, or it cannot be looked at.
    fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|file| Self::of(&file))
    }

    /// Whether whoever changes the file from now on leaves another stamp.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        [self.modified, self.changed].into_iter().all(|(seconds, nanos)| {
            let Ok(seconds) = u64::try_from(seconds) else { return true };
            Duration::new(seconds, u32::try_from(nanos).unwrap_or(0)) + TICK < now
        })
    }
}

/// Files, and what they were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// Folders of tenants: what comes in or goes counts too.
    folders: BTreeSet<PathBuf>,
}

impl Look {
    /// The same files and folders as they are now.
    fn again(&self) -> Self {
        let mut now = Self { files: BTreeMap::new(), folders: self.folders.clone() };
        for path in self.files.keys() {
            now.files.insert(path.clone(), Stamp::at(path));
        }
        for folder in &self.folders {
            match tenant_files(folder) {
                Ok(listed) => {
                    now.files.remove(folder);
                    for (_, path) in listed {
                        let stamp = Stamp::at(&path);
                        now.files.insert(path, stamp);
                    }
                }
                Err(_) => drop(now.files.insert(folder.clone(), None)),
            }
        }
        now
    }
}

/// One tenant's file.
#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    /// The stamp tells of every later change.
    settled: bool,
    text: String,
}

/// What was read, and what it was.
#[derive(Debug, Default)]
struct Known {
    look: Look,
    tenants: HashMap<PathBuf, Kept>,
    /// Files of tenants that were read, not taken from memory.
    reads: u64,
}

/// What the last load has read.
#[derive(Debug, Default)]
pub struct Memory {
    known: Mutex<Known>,
}

impl Memory {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A load begins: what it reads is what counts from now on.
    pub(super) fn begin(&self) {
        self.known().look = Look::default();
    }

    /// What the files of the last load are now; `None`: what they were.
    pub(super) fn changed(&self) -> Option<Look> {
        // Not under the lock: a folder of thousands of files takes its time.
        let then = self.known().look.clone();
        Some(then.again()).filter(|now| *now != then)
    }

    /// Files of tenants that were read so far, not taken from memory.
    #[cfg(test)]
    pub(super) fn reads(&self) -> u64 {
        self.known().reads
    }

    /// Reads a file of at most so many bytes.
    pub(super) fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let opened = File::open(path).and_then(|file| Ok((Stamp::of(&file.metadata()?), file)));
        self.known().look.files.insert(path.to_owned(), opened.as_ref().ok().map(|(stamp, _)| *stamp));
        bytes_of(&opened?.1, most)
    }

    /// The files `NAME.toml` of a folder, sorted by name, each with its text. Read is what has changed.
    pub(super) fn tenants(&self, folder: &Path) -> Result<Vec<(String, String)>, String> {
        let mut known = self.known();
        let Known { look, tenants, reads } = &mut *known;
        look.folders.insert(folder.to_owned());
        let listed = match tenant_files(folder) {
            Ok(listed) => listed,
            Err(cause) => {
                look.files.insert(folder.to_owned(), None);
                return Err(cause.to_string());
            }
        };
        let mut before = std::mem::take(tenants);
        let (mut all, mut bytes, mut wrong) = (Vec::with_capacity(listed.len()), 0, None);
        for (name, path) in listed {
            let stamp = Stamp::at(&path);
            look.files.insert(path.clone(), stamp);
            // Gone since the folder was listed.
            let Some(stamp) = stamp else { continue };
            let kept = match before.remove(&path).filter(|kept| kept.settled && kept.stamp == stamp) {
                Some(kept) => kept,
                None => {
                    *reads += 1;
                    match kept(&path, stamp) {
                        Ok(kept) => kept,
                        Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
                        Err(cause) => {
                            wrong.get_or_insert_with(|| format!("{name}.toml: {cause}"));
                            continue;
                        }
                    }
                }
            };
            bytes += kept.text.len() as u64;
            if bytes > MAX_ALL {
                wrong.get_or_insert_with(|| "the files take more than 256 MiB together".to_owned());
                continue;
            }
            all.push((name, kept.text.clone()));
            tenants.insert(path, kept);
        }
        wrong.map_or(Ok(all), Err)
    }
}

fn kept(path: &Path, stamp: Stamp) -> io::Result<Kept> {
    let settled = stamp.is_settled(SystemTime::now());
    let bytes = bytes_of(&File::open(path)?, MAX_TENANT)?;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"));
    Ok(Kept { stamp, settled, text: text? })
}

fn bytes_of(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let size = if most >= 1 << 20 { format!("{} MiB", most >> 20) } else { format!("{} KiB", most >> 10) };
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {size}")));
    }
    Ok(bytes)
}

/// The files `NAME.toml` of a folder with their names, sorted. Hidden ones are passed over: editors leave such behind. So
/// is what is no file.
fn tenant_files(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(name) = name.strip_suffix(".toml").filter(|name| !name.starts_with('.') && !name.is_empty()) else {
            continue;
        };
        // A link counts as what it leads to: so are the folders made that Kubernetes mounts.
        let kind = entry.file_type()?;
        if kind.is_file() || (kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|file| file.is_file())) {
            files.push((name.to_owned(), entry.path()));
        }
        if files.len() > MAX_TENANTS {
            let why = format!("there are more than {MAX_TENANTS} files of tenants");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests;

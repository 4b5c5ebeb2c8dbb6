//! A folder of one's own that is gone afterwards.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use crate::watchdog;

/// A new folder under the system's folder for temporary files, mode 0700; removed with all that is in it on drop, and
/// when the process dies.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the folder. Its path is short enough for a Unix socket in it.
    pub fn new() -> Self {
        let name = format!("pgweir-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        watchdog::remove_at_exit(&path);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .unwrap_or_else(|error| panic!("cannot make the folder {}: {error}", path.display()));
        Self { path }
    }

    /// Hands the folder to another user, so that a server which refuses to run as root can live in it.
    pub fn give_to(&self, uid: u32, gid: u32) {
        chown(&self.path, Some(uid), Some(gid))
            .unwrap_or_else(|error| panic!("cannot give {} to user {uid}: {error}", self.path.display()));
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it and returns where.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now (a server still writing) is removed by the watchdog at the end.
        drop(fs::remove_dir_all(&self.path));
    }
}

//! What operators have said about findings, in a file that outlives the process.
//!
//! Written whole after each change: beside the old file, then in its place. Whoever reads it finds one or the other, also
//! after a crash. It holds what people wrote and fingerprints, and no statement.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use config::Mute;
use policy::finding::{Acknowledgement, Timestamp};
use serde::{Deserialize, Serialize};

use super::mutes::MAX_ADDED;

/// Acknowledgements that are kept; the latest stay.
pub(super) const MAX_ACKNOWLEDGED: usize = 5_000;
/// The longest file that is read, in bytes: more than all that may be in one.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
const NAME: &str = "findings.json";
const FORMAT: &str = "pgweir-findings";
const VERSION: u32 = 1;

/// Acknowledgements by the finding's id.
pub(super) type Acknowledged = BTreeMap<String, Acknowledgement>;

/// All that is kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    format: String,
    version: u32,
    /// The number of the mute that was added last, whether it is still there or not.
    pub(super) last_mute: u64,
    /// By age.
    pub(super) mutes: Vec<SavedMute>,
    pub(super) acknowledged: Acknowledged,
}

impl Saved {
    pub(super) fn new((last_mute, mutes): (u64, Vec<SavedMute>), acknowledged: Acknowledged) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, last_mute, mutes, acknowledged }
    }
}

/// A mute that came over the admin port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedMute {
    pub(super) id: u64,
    pub(super) created: Timestamp,
    fingerprint: Option<String>,
    kind: Option<String>,
    database: Option<String>,
    user: Option<String>,
    application: Option<String>,
    client: Option<String>,
    tenant: Option<String>,
    route: Option<String>,
    until: Option<Timestamp>,
    note: Option<String>,
}

impl SavedMute {
    pub(super) fn new(id: u64, created: Timestamp, mute: Mute) -> Self {
        let Mute { fingerprint, kind, database, user, application, client, tenant, route, until_us, note } = mute;
        let fingerprint = fingerprint.map(|fingerprint| format!("{fingerprint:016x}"));
        let until = until_us.map(Timestamp);
        Self { id, created, fingerprint, kind, database, user, application, client, tenant, route, until, note }
    }

    /// The mute, if it is one that could have come over the admin port.
    pub(super) fn mute(self) -> Result<Mute, &'static str> {
        let Self { fingerprint, kind, database, user, application, client, tenant, route, until, note, .. } = self;
        let fingerprint = fingerprint.as_deref().map(Mute::parse_fingerprint).transpose()?;
        let until_us = until.map(|until| until.0);
        let mute = Mute { fingerprint, kind, database, user, application, client, tenant, route, until_us, note };
        mute.check().map_err(|(_, sentence)| sentence)?;
        Ok(mute)
    }
}

/// The file's place.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    /// In this folder, which is made if it is not there.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// What is kept; `None`: nothing was yet.
    pub(super) fn read(&self) -> Result<Option<Saved>, String> {
        let file = match File::open(self.file()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut bytes = Vec::new();
        let length = file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if length as u64 > MAX_BYTES {
            return Err("it is too long".to_owned());
        }
        let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if saved.format != FORMAT || saved.version != VERSION {
            return Err(format!("it is {} of version {}", saved.format, saved.version));
        }
        if saved.mutes.len() > MAX_ADDED || saved.acknowledged.len() > MAX_ACKNOWLEDGED {
            return Err("it holds more than may be".to_owned());
        }
        Ok(Some(saved))
    }

    /// Takes a file that cannot be read out of the way, so that nobody writes over it; where it is now.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.folder.join(format!("{NAME}.broken"));
        fs::rename(self.file(), &aside)?;
        Ok(aside)
    }

    /// Keeps this, in the place of all that was kept before.
    pub(super) fn write(&self, saved: &Saved) -> io::Result<()> {
        let new = self.folder.join(format!("{NAME}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
        file.sync_all()?;
        fs::rename(&new, self.file())?;
        // The folder's entry too shall outlive a power cut.
        File::open(&self.folder)?.sync_all()
    }
}

/// Makes room for one more: the oldest goes.
pub(super) fn make_room(acknowledged: &mut Acknowledged) {
    if acknowledged.len() < MAX_ACKNOWLEDGED {
        return;
    }
    let oldest = acknowledged.iter().min_by_key(|(_, acknowledgement)| acknowledgement.at).map(|(id, _)| id.clone());
    if let Some(id) = oldest {
        acknowledged.remove(&id);
    }
}

//! Mutes: those of the configuration, and those that operators add while the proxy runs.

use std::fmt;

use config::Mute;
use policy::finding::Timestamp;
use serde::Serialize;

use super::saved::SavedMute;

/// Mutes that operators may add: each finding is compared with each of them.
pub(super) const MAX_ADDED: usize = 256;

/// All mutes.
#[derive(Debug, Default)]
pub(super) struct Mutes {
    configured: Vec<Entry>,
    added: Vec<Entry>,
    /// Of the latest one added.
    number: u64,
}

#[derive(Debug)]
struct Entry {
    id: String,
    mute: Mute,
    created: Option<Timestamp>,
}

/// A mute as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptMute {
    /// `config:1` for the first of the configuration, else a number.
    pub id: String,
    /// `config` or `api`.
    pub origin: &'static str,
    /// The strict fingerprint of the repeated statement, 16 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// The kind of finding.
    pub kind: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The application.
    pub application: Option<String>,
    /// The client's host.
    pub client: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// Until when; `null`: for ever.
    pub until: Option<Timestamp>,
    /// Why.
    pub note: Option<String>,
    /// When it was added; `null` for those of the configuration.
    pub created: Option<Timestamp>,
}

/// Why a mute was not added or taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MuteRefusal {
    /// There are too many.
    TooMany,
    /// There is none of this id.
    Unknown,
    /// It stands in the configuration.
    Configured,
}

impl fmt::Display for MuteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "there are 256 mutes already; delete some, or mute by kind, application or tenant",
            Self::Unknown => "there is no mute of this id; GET /api/v1/mutes lists them",
            Self::Configured => "this mute stands in the configuration; remove it there and reload",
        })
    }
}

impl Mutes {
    /// Takes those of the configuration.
    pub(super) fn configure(&mut self, mutes: &[Mute]) {
        let entry =
            |(number, mute): (u64, &Mute)| Entry { id: format!("config:{number}"), mute: mute.clone(), created: None };
        self.configured = (1..).zip(mutes).map(entry).collect();
    }

    pub(super) fn add(&mut self, mute: Mute, now: Timestamp) -> Result<KeptMute, MuteRefusal> {
        if self.added.len() >= MAX_ADDED {
            return Err(MuteRefusal::TooMany);
        }
        self.number = self.number.saturating_add(1);
        let entry = Entry { id: self.number.to_string(), mute, created: Some(now) };
        let kept = entry.show();
        self.added.push(entry);
        Ok(kept)
    }

    /// Those that operators have added, to be kept, behind the number of the last.
    pub(super) fn save(&self) -> (u64, Vec<SavedMute>) {
        let save = |entry: &Entry| Some(SavedMute::new(entry.id.parse().ok()?, entry.created?, entry.mute.clone()));
        (self.number, self.added.iter().filter_map(save).collect())
    }

    /// Takes those that were kept.
    ///
    /// # Errors
    /// What is wrong with one of them; none is taken then.
    pub(super) fn restore(&mut self, last: u64, saved: Vec<SavedMute>) -> Result<(), &'static str> {
        let number = saved.iter().map(|mute| mute.id).fold(last, u64::max);
        let entry = |saved: SavedMute| -> Result<Entry, &'static str> {
            let (id, created) = (saved.id.to_string(), Some(saved.created));
            Ok(Entry { id, mute: saved.mute()?, created })
        };
        self.added = saved.into_iter().map(entry).collect::<Result<_, _>>()?;
        self.number = number;
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<(), MuteRefusal> {
        if self.configured.iter().any(|entry| entry.id == id) {
            return Err(MuteRefusal::Configured);
        }
        let place = self.added.iter().position(|entry| entry.id == id).ok_or(MuteRefusal::Unknown)?;
        self.added.remove(place);
        Ok(())
    }

    /// Forgets those that have ended; whether there were any. Those of the configuration come back with the next
    /// reload, and have ended then as well.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.configured.len() + self.added.len();
        let runs = |entry: &Entry| entry.mute.until_us.is_none_or(|until| now.0 < until);
        self.configured.retain(runs);
        self.added.retain(runs);
        self.configured.len() + self.added.len() < before
    }

    /// Each with its id.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, &Mute)> {
        self.configured.iter().chain(&self.added).map(|entry| (entry.id.as_str(), &entry.mute))
    }

    pub(super) fn list(&self) -> Vec<KeptMute> {
        self.configured.iter().chain(&self.added).map(Entry::show).collect()
    }
}

impl Entry {
    fn show(&self) -> KeptMute {
        let mute = self.mute.clone();
        KeptMute {
            id: self.id.clone(),
            origin: if self.created.is_some() { "api" } else { "config" },
            fingerprint: mute.fingerprint.map(|fingerprint| format!("{fingerprint:016x}")),
            kind: mute.kind,
            database: mute.database,
            user: mute.user,
            application: mute.application,
            client: mute.client,
            tenant: mute.tenant,
            route: mute.route,
            until: mute.until_us.map(Timestamp),
            note: mute.note,
            created: self.created,
        }
    }
}

//! Asks a running pgweir again and again for what has changed.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::{Duration, Instant};

use policy::finding::{Kept, Kind, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::http::Admin;

/// Findings in one answer.
const PAGE: usize = 500;
/// How long judging may take to reach a fence: a burst in a trace may be open for 5 s, and another one behind it.
const FENCE_PATIENCE: Duration = Duration::from_secs(30);
const FENCE_PAUSE: Duration = Duration::from_millis(50);

/// Why a question was not answered.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nobody answers, or not whole.
    Silent(io::Error),
    /// The answer is that it may not be told.
    Refused(u16),
    /// The answer cannot be read.
    Strange(serde_json::Error),
    /// Detection is off.
    Off,
    /// Judging did not come so far.
    Late,
    /// It is another process than the one that was watched.
    Anew,
}

impl Lost {
    /// One sentence about the proxy at this address.
    pub(super) fn sentence(&self, address: &str) -> String {
        match self {
            Self::Silent(error) => format!("pgweir does not answer at {address}: {error}"),
            Self::Refused(401) => {
                format!("pgweir at {address} wants a token: set PGWEIR_ADMIN_TOKEN to one of its tokens")
            }
            Self::Refused(status) => {
                format!("pgweir at {address} answered {status}; is it a pgweir of this version?")
            }
            Self::Strange(error) => format!("the answer of pgweir at {address} cannot be read: {error}"),
            Self::Off => format!("pgweir at {address} looks for nothing: switch observe.n_plus_one on"),
            Self::Anew => {
                format!("pgweir at {address} was started anew meanwhile, and what it had found before is lost")
            }
            Self::Late => format!("pgweir at {address} has not judged everything within 30 seconds"),
        }
    }
}

/// A finding, and how many bursts of it are new.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    /// The finding; its counters since the proxy's start.
    pub(super) kept: Kept,
    /// Bursts since the last time.
    pub(super) bursts: u64,
}

/// What is new.
#[derive(Debug)]
pub(super) struct News {
    /// Findings with new bursts, by time.
    pub(super) findings: Vec<Fresh>,
    /// The proxy was started anew since the last time.
    pub(super) restarted: bool,
}

/// What the proxy has not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    /// Beyond its budget.
    pub(super) skipped: u64,
    /// Without room.
    pub(super) dropped: u64,
    /// Statements, and bursts of them, that detection left out.
    pub(super) left_out: u64,
}

impl Unseen {
    /// There is something of which nobody knows what it would have come to.
    pub(super) fn is_any(self) -> bool {
        self != Self::default()
    }

    /// What has been added since then.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            skipped: self.skipped.saturating_sub(before.skipped),
            dropped: self.dropped.saturating_sub(before.dropped),
            left_out: self.left_out.saturating_sub(before.left_out),
        }
    }
}

/// What has been seen so far.
#[derive(Debug)]
pub(super) struct Follower {
    admin: Admin,
    kinds: Vec<Kind>,
    application: Option<String>,
    started: Option<String>,
    since: u64,
    /// Bursts and statements by id.
    known: HashMap<String, (u64, u64)>,
    /// As of the last answer.
    pub(super) unseen: Unseen,
}

#[derive(Debug, Deserialize)]
struct Page {
    total: usize,
    sequence: u64,
    started: String,
    judged_until: Option<Timestamp>,
    events_skipped: u64,
    events_dropped: u64,
    detection_dropped: u64,
    findings: Vec<Kept>,
}

#[derive(Debug, Deserialize)]
struct Fence {
    moment: Timestamp,
}

impl Follower {
    /// Follows findings of these kinds (none: all), and of this application if there is one.
    pub(super) fn new(admin: Admin, kinds: Vec<Kind>, application: Option<String>) -> Self {
        let (known, unseen) = (HashMap::new(), Unseen::default());
        Self { admin, kinds, application, started: None, since: 0, known, unseen }
    }

    /// Where the proxy is.
    pub(super) fn address(&self) -> &str {
        self.admin.address()
    }

    /// How many findings are known.
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    /// Learns what is there already.
    pub(super) fn begin(&mut self) -> Result<(), Lost> {
        self.news().map(drop)
    }

    /// What is new since the last time.
    pub(super) fn news(&mut self) -> Result<News, Lost> {
        let mut restarted = false;
        let mut findings = Vec::new();
        loop {
            let page: Page = self.ask(&format!("/api/v1/findings?since={}&limit={PAGE}", self.since))?;
            if self.started.as_ref().is_some_and(|started| *started != page.started) {
                if restarted {
                    // Again, within one question: there are two of them behind one name.
                    return Err(Lost::Anew);
                }
                (restarted, self.started, self.since) = (true, None, 0);
                self.known.clear();
                continue;
            }
            self.started = Some(page.started);
            // What does not go on would be asked for without end.
            let more = page.total > page.findings.len() && page.sequence > self.since;
            self.since = page.sequence;
            let Page { events_skipped: skipped, events_dropped: dropped, detection_dropped: left_out, .. } = page;
            self.unseen = Unseen { skipped, dropped, left_out };
            findings.extend(page.findings.into_iter().filter_map(|kept| self.fresh(kept)));
            if !more {
                return Ok(News { findings, restarted });
            }
        }
    }

    fn fresh(&mut self, kept: Kept) -> Option<Fresh> {
        let finding = &kept.finding;
        let of_kind = self.kinds.is_empty() || self.kinds.contains(&finding.kind);
        let of_application = self.application.as_ref().is_none_or(|name| *name == finding.application);
        if !of_kind || !of_application {
            return None;
        }
        let now = (finding.occurrences, finding.statements);
        let before = self.known.insert(finding.id.clone(), now).filter(|before| before.0 <= now.0);
        let fresh = Fresh { bursts: now.0 - before.map_or(0, |before| before.0), kept };
        (fresh.bursts > 0).then_some(fresh)
    }

    /// Bursts and statements of all that is known, by id.
    pub(super) fn counters(&self) -> BTreeMap<String, (u64, u64)> {
        self.known.iter().map(|(id, counters)| (id.clone(), *counters)).collect()
    }

    /// All findings there are of those that are followed. One that changes meanwhile comes again: its last state counts.
    pub(super) fn all(&self) -> Result<Vec<Kept>, Lost> {
        let mut since = 0;
        let mut all = BTreeMap::new();
        loop {
            let page: Page = self.ask(&format!("/api/v1/findings?since={since}&limit={PAGE}"))?;
            if self.started.as_ref().is_some_and(|started| *started != page.started) {
                return Err(Lost::Anew);
            }
            let more = page.total > page.findings.len() && page.sequence > since;
            since = page.sequence;
            let followed = page.findings.into_iter().filter(|kept| self.known.contains_key(&kept.finding.id));
            all.extend(followed.map(|kept| (kept.finding.id.clone(), kept)));
            if !more {
                return Ok(all.into_values().collect());
            }
        }
    }

    /// Waits until everything that ended before this call is judged.
    pub(super) fn fence(&self) -> Result<(), Lost> {
        let begin = Instant::now();
        let Fence { moment } = self.ask("/api/v1/findings/fence")?;
        loop {
            let page: Page = self.ask("/api/v1/findings?limit=1")?;
            match page.judged_until {
                Some(judged) if judged >= moment => return Ok(()),
                _ if begin.elapsed() < FENCE_PATIENCE => std::thread::sleep(FENCE_PAUSE),
                Some(_) => return Err(Lost::Late),
                None => return Err(Lost::Off),
            }
        }
    }

    /// Whether the proxy looks for anything; one that has just started may need a moment to say so.
    pub(super) fn is_on(&self) -> Result<(), Lost> {
        let begin = Instant::now();
        loop {
            let page: Page = self.ask("/api/v1/findings?limit=1")?;
            if page.judged_until.is_some() {
                return Ok(());
            }
            if begin.elapsed() >= Duration::from_secs(2) {
                return Err(Lost::Off);
            }
            std::thread::sleep(FENCE_PAUSE);
        }
    }

    fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Lost> {
        let answer = self.admin.get(path).map_err(Lost::Silent)?;
        if answer.status != 200 {
            return Err(Lost::Refused(answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(Lost::Strange)
    }
}

//! A reply on its way that may be kept.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use policy::cache::{Budget, Key, Reading, Refused, Reply, weight};
use policy::tenant::TenantId;
use wire::tag::{Backend, TransactionStatus};

use super::few::Spare;
use crate::cache::flights::Flight;
use crate::cache::store::{Entry, HEAD, Refresh};

/// ReadyForQuery of no transaction.
const READY: [u8; 6] = [Backend::ReadyForQuery as u8, 0, 0, 0, 5, TransactionStatus::Idle as u8];

/// What comes of a reply that is on its way.
#[derive(Debug)]
pub struct Filling {
    /// Under what it would be kept.
    pub key: Arc<Key>,
    /// Its generations, from before it was sent.
    pub reading: Reading,
    /// Mode `observe`: what is compared with it.
    pub compared: Option<Arc<Entry>>,
    /// Instead of one that is too old, which others get meanwhile.
    pub refresh: Option<Refresh>,
    /// Others wait for it.
    pub flight: Option<Flight>,
    /// The statement's fingerprint.
    pub strict: u64,
    /// It was asked for in a transaction that is open.
    pub within: bool,
    /// Id of the description of its columns, for whoever looks at executions; 0: not known.
    pub columns: u32,
    tenant: TenantId,
    body: Vec<u8>,
    rows: u64,
    reply: Reply,
    most: u64,
    sent: Instant,
}

impl Filling {
    /// It is about to be sent. The reply is put together in `room`, which is empty.
    pub fn new(
        (key, strict, tenant): (Arc<Key>, u64, TenantId),
        reading: Reading,
        mut room: Vec<u8>,
        budget: &Budget,
        now: Instant,
    ) -> Self {
        room.extend_from_slice(&HEAD);
        Self {
            key,
            reading,
            compared: None,
            refresh: None,
            flight: None,
            strict,
            within: false,
            columns: 0,
            tenant,
            body: room,
            rows: 0,
            reply: Reply::default(),
            most: budget.max_entry,
            sent: now,
        }
    }

    /// It is not what the client gets: nothing of it is kept.
    pub fn spoil(&mut self) {
        self.reply.error = true;
        self.body = Vec::new();
        self.land();
    }

    /// Whoever waits for it looks again.
    pub fn land(&mut self) {
        self.flight.iter_mut().for_each(Flight::land);
    }

    /// The rest of a message that has not come at once, or more of it.
    pub fn take_more(&mut self, bytes: &[u8]) {
        self.keep(bytes);
    }

    /// A message has gone to the client, or the beginning of one.
    pub fn take(&mut self, tag: Backend, bytes: &[u8]) {
        let kept = match tag {
            Backend::RowDescription => true,
            Backend::DataRow => {
                self.rows += 1;
                true
            }
            Backend::CommandComplete => {
                self.reply.complete = true;
                true
            }
            Backend::ErrorResponse => {
                self.reply.error = true;
                false
            }
            Backend::NoticeResponse => {
                self.reply.notice = true;
                false
            }
            Backend::ParameterStatus => {
                self.reply.parameter_status = true;
                false
            }
            Backend::NotificationResponse => {
                self.reply.notification = true;
                false
            }
            Backend::ParseComplete | Backend::BindComplete | Backend::ReadyForQuery => false,
            // No result, an empty text, a copy, a portal that is suspended: nothing that is kept.
            _ => {
                self.reply.error = true;
                false
            }
        };
        if kept {
            self.keep(bytes);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.reply.bytes += bytes.len() as u64;
        if self.reply.bytes <= self.most && !self.reply.error {
            self.body.extend_from_slice(bytes);
        } else {
            self.body = Vec::new();
            self.land();
        }
    }

    /// ReadyForQuery: whether it is kept. `same`: the transaction is in the state that it was in before. `min_us`: what it
    /// has to have cost. What is kept takes no more memory than it has bytes; the room is for the next one.
    ///
    /// # Errors
    /// Why not.
    pub fn end(
        mut self,
        same: bool,
        min_us: u64,
        (budget, spare): (&Budget, &Spare),
        now: Instant,
    ) -> Result<(Arc<Key>, Entry), Refused> {
        let room = std::mem::take(&mut self.body);
        let ended = self.keep_whole(room.as_slice(), (same, min_us), budget, now);
        spare.put(room);
        ended
    }

    fn keep_whole(
        mut self,
        said: &[u8],
        (same, min_us): (bool, u64),
        budget: &Budget,
        now: Instant,
    ) -> Result<(Arc<Key>, Entry), Refused> {
        let cost_us = now.saturating_duration_since(self.sent).as_micros() as u64;
        self.reply.same_state = same;
        self.reply.cost_micros = if cost_us >= min_us { u64::MAX } else { 0 };
        if let Some(refused) = self.reply.refused(budget) {
            return Err(refused);
        }
        let dependencies = self.reading.admit(None)?;
        let body: Box<[u8]> = [said, &READY].concat().into();
        let weight = weight(self.key.bytes().len(), body.len(), dependencies.tables());
        let entry = Entry {
            body,
            dependencies,
            rows: self.rows,
            columns: self.columns,
            cost_us,
            tenant: self.tenant,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            refreshing: AtomicBool::new(false),
        };
        Ok((self.key, entry))
    }
}

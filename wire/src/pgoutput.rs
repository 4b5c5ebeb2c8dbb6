//! What a server streams of committed transactions: `pgoutput`, version 1, inside of logical replication.
//!
//! Read as far as somebody needs who wants to know *which relations* a transaction has changed, and no row of it. Rows
//! can be a gigabyte long; [`Reader`] keeps the first bytes of a message alone, where everything stands that is asked
//! for. Layouts: PostgreSQL documentation, "Streaming Replication Protocol" and "Logical Replication Message Formats".

use std::collections::BTreeSet;

use crate::frame::{self, BadLength, HEAD};
use crate::tag::Frontend;
use crate::view::Malformed;

/// Bytes of a message's body that are kept.
pub const MAX_KEPT: usize = 64 * 1024;

/// A transaction that has changed more relations than this is said to have changed [`Relations::Many`].
pub const MAX_RELATIONS: usize = 1_000;

/// Relations that one TRUNCATE is read with: four bytes each, less than [`MAX_KEPT`] together.
const MAX_TRUNCATED: u32 = 10_000;

/// Takes messages out of a stream wherever it is cut, and keeps no more than [`MAX_KEPT`] bytes of any.
#[derive(Debug, Default)]
pub struct Reader {
    kept: Vec<u8>,
    skip: usize,
}

impl Reader {
    /// Takes what has come. Every message is handed to `each` as its type and (the beginning of) its body.
    ///
    /// # Errors
    /// A length that no server sends, or what `each` says.
    pub fn push<E: From<BadLength>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(u8, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let wanted = match (self.skip, frame::head(&self.kept)?) {
                (0, None) => HEAD.saturating_sub(self.kept.len()),
                (0, Some(head)) => (HEAD + head.body.min(MAX_KEPT)).saturating_sub(self.kept.len()),
                (skip, _) => skip,
            };
            let (part, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            bytes = rest;
            if self.skip > 0 {
                self.skip -= part.len();
                continue;
            }
            self.kept.extend_from_slice(part);
            if let Some(head) = frame::head(&self.kept)?
                && self.kept.len() == HEAD + head.body.min(MAX_KEPT)
            {
                self.skip = head.body.saturating_sub(MAX_KEPT);
                let said = each(head.tag, self.kept.get(HEAD..).unwrap_or_default());
                self.kept.clear();
                said?;
            }
        }
        Ok(())
    }
}

/// The body of a CopyData message of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streamed<'a> {
    /// One message of the output plugin: see [`Change::read`].
    Data(&'a [u8]),
    /// The server has sent everything up to this place of its log in front of this message.
    Keepalive {
        /// The place.
        end: u64,
    },
}

impl<'a> Streamed<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// It is neither.
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        match byte(&mut body, "CopyData without a type")? {
            b'w' => {
                // Where it begins, and the end of the log, which pgoutput sets to the same; the server's clock.
                take::<24>(&mut body, "XLogData")?;
                Ok(Self::Data(body))
            }
            b'k' => {
                let end = int64(&mut body, "keepalive without a place")?;
                take::<9>(&mut body, "keepalive")?;
                if body.is_empty() { Ok(Self::Keepalive { end }) } else { Err(Malformed("keepalive")) }
            }
            _ => Err(Malformed("CopyData of unknown type")),
        }
    }
}

/// One message of `pgoutput`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A transaction begins.
    Begin {
        /// The lower 32 bits of its number.
        xid: u32,
    },
    /// It has ended; this is behind it in the log.
    Commit {
        /// The place.
        end: u64,
    },
    /// A row of this relation was inserted, updated or deleted.
    Row(u32),
    /// Relations were truncated.
    Truncate(Truncated<'a>),
    /// What a relation, a type or an origin is called: of no interest here.
    Named,
}

/// The relations of a TRUNCATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncated<'a> {
    /// Their oids, four bytes each.
    Oids(&'a [u8]),
    /// More than are read.
    Many,
}

impl<'a> Change<'a> {
    /// Reads one, of which [`MAX_KEPT`] bytes are enough.
    ///
    /// # Errors
    /// It is none of version 1, or has not the shape of its type.
    pub fn read(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let what = byte(&mut bytes, "a change without a type")?;
        match what {
            b'B' => {
                take::<16>(&mut bytes, "Begin")?;
                let xid = int32(&mut bytes, "Begin without a transaction")?;
                if bytes.is_empty() { Ok(Self::Begin { xid }) } else { Err(Malformed("Begin")) }
            }
            b'C' => {
                take::<9>(&mut bytes, "Commit")?;
                let end = int64(&mut bytes, "Commit without its end")?;
                take::<8>(&mut bytes, "Commit without a time")?;
                if bytes.is_empty() { Ok(Self::Commit { end }) } else { Err(Malformed("Commit")) }
            }
            b'I' | b'U' | b'D' => {
                let oid = int32(&mut bytes, "a row without a relation")?;
                let part = byte(&mut bytes, "a row without its values")?;
                let fits = match what {
                    b'I' => part == b'N',
                    b'U' => matches!(part, b'K' | b'O' | b'N'),
                    _ => matches!(part, b'K' | b'O'),
                };
                if fits { Ok(Self::Row(oid)) } else { Err(Malformed("a row whose values have another mark")) }
            }
            b'T' => {
                let count = int32(&mut bytes, "Truncate")?;
                byte(&mut bytes, "Truncate")?;
                if count > MAX_TRUNCATED {
                    return Ok(Self::Truncate(Truncated::Many));
                }
                let whole = u32::try_from(bytes.len()).is_ok_and(|length| length == count * 4);
                if whole { Ok(Self::Truncate(Truncated::Oids(bytes))) } else { Err(Malformed("Truncate")) }
            }
            // Relation, Type, Origin; a Message is sent to who asks for it.
            b'R' | b'Y' | b'O' | b'M' => Ok(Self::Named),
            _ => Err(Malformed("a change of unknown type")),
        }
    }
}

/// The relations that a transaction has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relations {
    /// These.
    These(BTreeSet<u32>),
    /// More than [`MAX_RELATIONS`].
    Many,
}

impl Relations {
    fn add(&mut self, oid: u32) {
        if let Self::These(oids) = self {
            oids.insert(oid);
            if oids.len() > MAX_RELATIONS {
                *self = Self::Many;
            }
        }
    }
}

/// A transaction that has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The lower 32 bits of its number.
    pub xid: u32,
    /// What it has changed.
    pub relations: Relations,
    /// The place behind it in the log.
    pub end: u64,
}

/// Puts transactions together.
#[derive(Debug, Default)]
pub struct Transactions {
    open: Option<(u32, Relations)>,
}

impl Transactions {
    /// Takes one message; a transaction when it is whole.
    ///
    /// # Errors
    /// It cannot be read, or stands where it may not: a change outside of a transaction could be anybody's.
    pub fn take(&mut self, message: &[u8]) -> Result<Option<Committed>, Malformed> {
        match (Change::read(message)?, &mut self.open) {
            (Change::Begin { xid }, open @ None) => *open = Some((xid, Relations::These(BTreeSet::new()))),
            (Change::Begin { .. }, Some(_)) => return Err(Malformed("Begin inside of a transaction")),
            (Change::Commit { end }, open) => {
                let (xid, relations) = open.take().ok_or(Malformed("Commit without Begin"))?;
                return Ok(Some(Committed { xid, relations, end }));
            }
            (Change::Named, _) => {}
            (Change::Row(oid), Some((_, relations))) => relations.add(oid),
            (Change::Truncate(Truncated::Many), Some((_, relations))) => *relations = Relations::Many,
            (Change::Truncate(Truncated::Oids(oids)), Some((_, relations))) => {
                oids.as_chunks::<4>().0.iter().for_each(|oid| relations.add(u32::from_be_bytes(*oid)));
            }
            (Change::Row(_) | Change::Truncate(_), None) => return Err(Malformed("a change outside of a transaction")),
        }
        Ok(None)
    }

    /// Whether one is being put together.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// Appends a standby status update: everything up to `place` has been taken, for good. `reply`: the server shall say how
/// far it is, at once.
pub fn status_update(out: &mut Vec<u8>, place: u64, reply: bool) {
    out.push(Frontend::CopyData.byte());
    out.extend_from_slice(&(4 + 1 + 3 * 8 + 8 + 1u32).to_be_bytes());
    out.push(b'r');
    for _ in ["written", "flushed", "applied"] {
        out.extend_from_slice(&place.to_be_bytes());
    }
    // Our clock, which the server shows and does not use.
    out.extend_from_slice(&0u64.to_be_bytes());
    out.push(u8::from(reply));
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8], what: &'static str) -> Result<&'a [u8; N], Malformed> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed(what))?;
    *bytes = rest;
    Ok(taken)
}

fn byte(bytes: &mut &[u8], what: &'static str) -> Result<u8, Malformed> {
    take::<1>(bytes, what).map(|raw| u8::from_be_bytes(*raw))
}

fn int32(bytes: &mut &[u8], what: &'static str) -> Result<u32, Malformed> {
    take::<4>(bytes, what).map(|raw| u32::from_be_bytes(*raw))
}

fn int64(bytes: &mut &[u8], what: &'static str) -> Result<u64, Malformed> {
    take::<8>(bytes, what).map(|raw| u64::from_be_bytes(*raw))
}

#[cfg(test)]
#[path = "pgoutput_tests.rs"]
mod tests;

//! The key: everything that an answer depends on besides the rows of tables, compared in full.

use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::xxh3_64;

use super::eligible::Bypass;
use super::generation::Generation;
use super::settings::SettingsId;

/// The longest key, in bytes. Texts and parameters that are longer belong to statements that never come again.
const MAX_KEY: usize = 64 * 1024;

/// By which messages a statement comes: its reply has other ones for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A Query.
    Simple,
    /// Bind and Execute.
    Extended {
        /// With a Describe of the portal, so that the reply has a RowDescription.
        described: bool,
    },
}

/// A parameter of a Bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parameter<'a> {
    /// 0: text, 1: binary. That of the Bind, given to each parameter by itself.
    pub format: i16,
    /// Its bytes; `None`: NULL.
    pub value: Option<&'a [u8]>,
}

/// The parts of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parts<'a> {
    /// [`Sources::epoch`](super::Sources::epoch): the one in which `relations` and what it depends on were told.
    pub epoch: Generation,
    /// The tenant's name. Not its number: those beyond `max_tenants` share one.
    pub tenant: &'a str,
    /// Which database of which server: where it is.
    pub place: &'a str,
    /// The pool's own name for it.
    pub database: &'a str,
    /// The statement's text, or the one that was prepared, without the comments at its ends.
    pub text: &'a [u8],
    /// By which messages it comes.
    pub protocol: Protocol,
    /// What its client may have been told of the result, where it was prepared before and the reply does not tell it: the
    /// state of the schema that it was prepared in, and the result as it was described, hashed. The server refuses what was
    /// prepared when the result was another one.
    pub prepared: Option<(u64, u64)>,
    /// The types that its Parse gave to parameters.
    pub parameter_types: &'a [u32],
    /// The parameters.
    pub parameters: &'a [Parameter<'a>],
    /// The formats of columns, as the Bind has them.
    pub result_formats: &'a [i16],
    /// The relations that its names stand for, with this session's `search_path`.
    pub relations: &'a [u32],
    /// The current role.
    pub role: &'a str,
    /// The user of the session.
    pub session_user: &'a str,
    /// The settings that policies of row-level security read, in order, and their values where they have one.
    pub inputs: &'a [(&'a str, Option<&'a str>)],
    /// All settings that may change a reply.
    pub settings: SettingsId,
    /// The rule that allows it: the version of the rules, and its place among them. What is kept promises what its own rule
    /// says of how fresh it is and of what ends it; another rule's promise is another answer.
    pub rule: (u32, u16),
}

/// A key. Two are equal when all of their bytes are; the hash only finds where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    hash: u64,
    bytes: Box<[u8]>,
}

impl Key {
    /// Puts the parts together.
    ///
    /// # Errors
    /// It would be too long.
    pub fn of(parts: &Parts<'_>) -> Result<Self, Bypass> {
        Sought::of(parts, &mut Vec::new()).map(|sought| sought.to_key())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A key that something is looked up by, in room that is used again and again: nothing is allocated for what is found. Its
/// hash is that of the [`Key`] with the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought<'a> {
    hash: u64,
    bytes: &'a [u8],
}

impl<'a> Sought<'a> {
    /// Puts the parts together in `room`, whatever stood there: numbers in their full width, everything else behind its
    /// length, so that no two lists of parts give the same bytes.
    ///
    /// # Errors
    /// It would be too long.
    pub fn of(parts: &Parts<'_>, room: &'a mut Vec<u8>) -> Result<Self, Bypass> {
        let values: usize = parts.parameters.iter().map(|parameter| parameter.value.map_or(0, <[u8]>::len)).sum();
        if parts.text.len().saturating_add(values) > MAX_KEY {
            return Err(Bypass::KeyTooLong);
        }
        room.clear();
        room.reserve(160 + parts.text.len() + values);
        let mut out = Bytes(room);
        out.number(parts.epoch.number());
        out.piece(parts.tenant.as_bytes());
        out.piece(parts.place.as_bytes());
        out.piece(parts.database.as_bytes());
        out.piece(parts.text);
        out.byte(match parts.protocol {
            Protocol::Simple => 0,
            Protocol::Extended { described: false } => 1,
            Protocol::Extended { described: true } => 2,
        });
        out.byte(u8::from(parts.prepared.is_some()));
        let (schema, result) = parts.prepared.unwrap_or_default();
        out.number(schema);
        out.number(result);
        out.list(parts.parameter_types, |out, oid| out.bytes(&oid.to_le_bytes()));
        out.list(parts.parameters, |out, Parameter { format, value }| {
            out.bytes(&format.to_le_bytes());
            out.option(*value);
        });
        out.list(parts.result_formats, |out, format| out.bytes(&format.to_le_bytes()));
        out.list(parts.relations, |out, oid| out.bytes(&oid.to_le_bytes()));
        out.piece(parts.role.as_bytes());
        out.piece(parts.session_user.as_bytes());
        out.list(parts.inputs, |out, (name, value)| {
            out.piece(name.as_bytes());
            out.option(value.map(str::as_bytes));
        });
        out.number(parts.settings.number());
        out.bytes(&parts.rule.0.to_le_bytes());
        out.bytes(&parts.rule.1.to_le_bytes());
        let bytes = &**room;
        if bytes.len() > MAX_KEY {
            return Err(Bypass::KeyTooLong);
        }
        Ok(Self { hash: xxh3_64(bytes), bytes })
    }

    /// The key itself, to keep something under.
    pub fn to_key(&self) -> Key {
        Key { hash: self.hash, bytes: self.bytes.into() }
    }

    /// Whether it is this key.
    #[inline]
    pub fn is(&self, key: &Key) -> bool {
        self.hash == key.hash && *self.bytes == *key.bytes
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The bytes of a key so far.
struct Bytes<'a>(&'a mut Vec<u8>);

impl Bytes<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn piece(&mut self, piece: &[u8]) {
        self.number(piece.len() as u64);
        self.bytes(piece);
    }

    fn option(&mut self, piece: Option<&[u8]>) {
        self.byte(u8::from(piece.is_some()));
        self.piece(piece.unwrap_or_default());
    }

    fn list<T>(&mut self, list: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number(list.len() as u64);
        list.iter().for_each(|item| each(self, item));
    }
}

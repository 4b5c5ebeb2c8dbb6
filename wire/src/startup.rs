//! What a client says first: an encryption request, a cancel request or a StartupMessage.
//!
//! [`parse`] turns one opening packet of [`frame::opening`] into a value whose rules have been
//! checked. Nothing in here was proven by anybody yet, so everything is bounded: the packet by its 10,000 bytes, its
//! settings by [`MAX_SETTINGS`].

mod options;

use std::borrow::Cow;

use crate::error::{Error, Peer, Result};
use crate::frame;

/// Settings that one StartupMessage may bring. PostgreSQL has about 350 in all; drivers send fewer than ten.
pub const MAX_SETTINGS: usize = 128;

/// Code of a CancelRequest, in the place of a protocol version (1234.5678).
pub(crate) const CANCEL_REQUEST: u32 = 80_877_102;
/// Code of an SSLRequest (1234.5679).
pub(crate) const SSL_REQUEST: u32 = 80_877_103;
/// Code of a GSSENCRequest (1234.5680).
pub(crate) const GSSENC_REQUEST: u32 = 80_877_104;

/// Content type of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Whether a connection that begins with this byte speaks TLS at once, without asking (`sslnegotiation=direct`).
/// An opening packet cannot begin with it: its length would be over 369 million.
pub fn is_direct_tls(first_byte: u8) -> bool {
    first_byte == TLS_HANDSHAKE
}

/// One opening packet, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstMessage<'a> {
    /// May this connection be encrypted with TLS?
    SslRequest,
    /// May this connection be encrypted with GSSAPI?
    GssEncRequest,
    /// Cancel what another connection is doing. It is never answered.
    Cancel(CancelRequest<'a>),
    /// Log me in.
    Startup(StartupMessage<'a>),
}

/// A request to cancel what another connection is doing.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest<'a> {
    /// The process id of that connection's BackendKeyData.
    pub process: u32,
    /// The secret of that connection's BackendKeyData: 4 bytes in protocol 3.0, 4 to 256 since 3.2.
    pub key: &'a [u8],
}

impl std::fmt::Debug for CancelRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is a credential.
        f.debug_struct("CancelRequest").field("process", &self.process).finish_non_exhaustive()
    }
}

/// A protocol version that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// 3.0: cancel keys of exactly 4 bytes.
    V3_0,
    /// 3.2 (PostgreSQL 18): cancel keys of 4 to 256 bytes.
    V3_2,
}

impl ProtocolVersion {
    /// As it is written in a StartupMessage: major in the upper 16 bits, minor in the lower.
    pub fn number(self) -> u32 {
        match self {
            Self::V3_0 => 3 << 16,
            Self::V3_2 => (3 << 16) | 2,
        }
    }

    /// The longest cancel key that may be handed to a peer of this version, in bytes.
    pub fn longest_cancel_key(self) -> usize {
        match self {
            Self::V3_0 => 4,
            Self::V3_2 => 256,
        }
    }
}

/// Which protocol a client is spoken to in, and what it must be told about that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiation<'a> {
    /// The version of this connection from here on.
    pub agreed: ProtocolVersion,
    /// The `_pq_.` options that we do not know, by name: all that were sent.
    pub unknown: Vec<&'a [u8]>,
    /// Whether a NegotiateProtocolVersion with the two above must be said, before anything else of the login.
    pub must_answer: bool,
}

/// Whether a client wants the streaming replication protocol (parameter `replication`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replication {
    /// An ordinary client.
    #[default]
    No,
    /// A physical WAL sender.
    Physical,
    /// A logical WAL sender in the database named.
    Database,
}

/// A setting that the client wants for its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<'a> {
    /// Its name as sent, `-` of a `--name` turned into `_`. Letters, digits, `_`, `$` and `.` only, so that it can be
    /// written into a SET. Compare it without regard to ASCII case, as PostgreSQL does.
    pub name: Cow<'a, str>,
    /// Its value: any bytes but NUL.
    pub value: Cow<'a, [u8]>,
}

/// A StartupMessage whose parameters have been told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupMessage<'a> {
    /// Minor version that was asked for; the major one is 3.
    pub minor: u16,
    /// Who wants to log in. Never empty.
    pub user: &'a [u8],
    /// The database asked for; the user's name where none was. Never empty.
    pub database: &'a [u8],
    /// Streaming replication, which a pooler cannot share.
    pub replication: Replication,
    /// Settings in the order in which PostgreSQL applies them: those of `options` first, then the parameters. Every
    /// name once (ASCII case aside): the last one said is the one kept.
    pub settings: Vec<Setting<'a>>,
    /// Protocol options: name with its `_pq_.`, and value. We know none yet.
    pub protocol_options: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> StartupMessage<'a> {
    /// Settles the protocol version: 3.0 and 3.2 as asked, 3.1 (which was never a version) answered with 3.0, anything
    /// newer with 3.2.
    pub fn negotiate(&self) -> Negotiation<'a> {
        let agreed = if self.minor < 2 { ProtocolVersion::V3_0 } else { ProtocolVersion::V3_2 };
        let unknown: Vec<_> = self.protocol_options.iter().map(|&(name, _)| name).collect();
        let must_answer = !unknown.is_empty() || agreed.number() != (3 << 16 | u32::from(self.minor));
        Negotiation { agreed, unknown, must_answer }
    }

    /// The value of a setting, its name compared without regard to ASCII case.
    pub fn setting(&self, name: &str) -> Option<&[u8]> {
        self.settings.iter().find(|setting| setting.name.eq_ignore_ascii_case(name)).map(|setting| &*setting.value)
    }
}

/// Parses one opening packet.
///
/// # Errors
/// Every error is the client's; after it the connection is told and closed.
pub fn parse<'a>(packet: &frame::Opening<'a>) -> Result<FirstMessage<'a>> {
    match packet.code {
        SSL_REQUEST => empty(packet, "SSLRequest").map(|()| FirstMessage::SslRequest),
        GSSENC_REQUEST => empty(packet, "GSSENCRequest").map(|()| FirstMessage::GssEncRequest),
        CANCEL_REQUEST => cancel(packet.body).map(FirstMessage::Cancel),
        version => {
            let (major, minor) = ((version >> 16) as u16, version as u16);
            if major != 3 {
                return Err(Error::UnsupportedProtocol { major, minor });
            }
            startup(minor, packet.body).map(FirstMessage::Startup)
        }
    }
}

fn empty(packet: &frame::Opening<'_>, message: &'static str) -> Result<()> {
    if packet.body.is_empty() {
        return Ok(());
    }
    Err(Error::Malformed { by: Peer::Client, message, problem: "its length is not 8" })
}

fn cancel(body: &[u8]) -> Result<CancelRequest<'_>> {
    let malformed = |problem| Error::Malformed { by: Peer::Client, message: "CancelRequest", problem };
    let Some((process, key)) = body.split_first_chunk::<4>() else {
        return Err(malformed("it has no process id"));
    };
    if !(4..=256).contains(&key.len()) {
        return Err(malformed("its key is not 4 to 256 bytes long"));
    }
    Ok(CancelRequest { process: u32::from_be_bytes(*process), key })
}

/// What the parameters have said so far. `Option`s, so that a repeated one is seen.
#[derive(Default)]
struct Parameters<'a> {
    user: Option<&'a [u8]>,
    database: Option<&'a [u8]>,
    replication: Option<&'a [u8]>,
    options: Option<&'a [u8]>,
    settings: Vec<Setting<'a>>,
    protocol_options: Vec<(&'a [u8], &'a [u8])>,
}

fn startup(minor: u16, body: &[u8]) -> Result<StartupMessage<'_>> {
    let mut parameters = Parameters::default();
    let mut rest = body;
    loop {
        let name = c_string(&mut rest)?;
        if name.is_empty() {
            break;
        }
        let value = c_string(&mut rest)?;
        parameters.add(name, value)?;
    }
    if !rest.is_empty() {
        return Err(malformed_startup("bytes follow its terminator"));
    }
    parameters.finish(minor)
}

impl<'a> Parameters<'a> {
    fn add(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<()> {
        match name {
            b"user" => once(&mut self.user, value, "user"),
            b"database" => once(&mut self.database, value, "database"),
            b"replication" => once(&mut self.replication, value, "replication"),
            b"options" => once(&mut self.options, value, "options"),
            _ if name.starts_with(b"_pq_.") => {
                if self.protocol_options.len() >= MAX_SETTINGS {
                    return Err(Error::TooMany { by: Peer::Client, what: "protocol options" });
                }
                self.protocol_options.push((name, value));
                Ok(())
            }
            _ => add_setting(&mut self.settings, Cow::Borrowed(name), Cow::Borrowed(value)),
        }
    }

    fn finish(self, minor: u16) -> Result<StartupMessage<'a>> {
        let user = self.user.filter(|user| !user.is_empty()).ok_or(Error::NoUser)?;
        let database = self.database.filter(|database| !database.is_empty()).unwrap_or(user);
        let replication = self.replication.map_or(Ok(Replication::No), replication)?;
        let mut settings = Vec::new();
        if let Some(text) = self.options {
            options::each(text, |name, value| add_setting(&mut settings, Cow::Owned(name), Cow::Owned(value)))?;
        }
        for setting in self.settings {
            merge(&mut settings, setting)?;
        }
        if let Some(setting) = settings.iter().find(|setting| is_reserved(setting.name.as_bytes())) {
            return Err(Error::ReservedSetting(cut(setting.name.as_bytes())));
        }
        Ok(StartupMessage { minor, user, database, replication, settings, protocol_options: self.protocol_options })
    }
}

/// Takes the text up to the next NUL.
fn c_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let end = rest.iter().position(|&byte| byte == 0);
    let Some((text, tail)) = end.and_then(|end| rest.split_at_checked(end)) else {
        return Err(malformed_startup("it does not end with a NUL"));
    };
    *rest = tail.get(1..).unwrap_or_default();
    Ok(text)
}

fn malformed_startup(problem: &'static str) -> Error {
    Error::Malformed { by: Peer::Client, message: "StartupMessage", problem }
}

/// PostgreSQL lets the last one win. We refuse: a router in front of us that believes the first would disagree.
fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], name: &'static str) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::RepeatedParameter(name)),
    }
}

/// The boolean texts that PostgreSQL accepts (`parse_bool`), or `database`.
fn replication(value: &[u8]) -> Result<Replication> {
    let lower = value.to_ascii_lowercase();
    let is = |word: &[u8], shortest: usize| lower.len() >= shortest && word.starts_with(&lower);
    if lower == b"database" {
        Ok(Replication::Database)
    } else if lower == b"1" || is(b"true", 1) || is(b"yes", 1) || is(b"on", 2) {
        Ok(Replication::Physical)
    } else if lower == b"0" || is(b"false", 1) || is(b"no", 1) || is(b"off", 2) {
        Ok(Replication::No)
    } else {
        Err(Error::BadSetting { name: "replication".into(), problem: "valid values are false, true, and database" })
    }
}

fn add_setting<'a>(settings: &mut Vec<Setting<'a>>, name: Cow<'a, [u8]>, value: Cow<'a, [u8]>) -> Result<()> {
    if !is_setting_name(&name) {
        return Err(bad_setting(&name, "this is not the name of a setting"));
    }
    let name = match name {
        Cow::Borrowed(name) => String::from_utf8_lossy(name),
        Cow::Owned(name) => Cow::Owned(String::from_utf8_lossy(&name).into_owned()),
    };
    merge(settings, Setting { name, value })
}

/// The last one said wins, in its own place in the order.
fn merge<'a>(settings: &mut Vec<Setting<'a>>, setting: Setting<'a>) -> Result<()> {
    settings.retain(|earlier| !earlier.name.eq_ignore_ascii_case(&setting.name));
    if settings.len() >= MAX_SETTINGS {
        return Err(Error::TooMany { by: Peer::Client, what: "startup settings" });
    }
    settings.push(setting);
    Ok(())
}

fn bad_setting(name: &[u8], problem: &'static str) -> Error {
    Error::BadSetting { name: cut(name), problem }
}

/// A name as it is shown.
fn cut(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(64).collect()
}

/// Whether a setting of this name would be something else in a StartupMessage. Settings of replication connections are sent
/// on in one, where the last of two parameters with the same name is the one that PostgreSQL believes: a setting called
/// `user`, from `options` or in other letters, would log somebody else in than was asked about.
fn is_reserved(name: &[u8]) -> bool {
    let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
    let option = name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"_pq_."));
    option || is(b"user") || is(b"database") || is(b"replication") || is(b"options")
}

/// Identifiers joined by dots, as in `valid_custom_variable_name`; ASCII only, so that no quoting is ever needed.
fn is_setting_name(name: &[u8]) -> bool {
    name.split(|&byte| byte == b'.').all(|part| {
        part.first().is_some_and(|&first| first.is_ascii_alphabetic() || first == b'_')
            && part.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
    })
}

#[cfg(test)]
mod tests;

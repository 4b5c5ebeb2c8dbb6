//! We play the client: from the StartupMessage to an upstream's first ReadyForQuery.
//!
//! ```text
//! start ─► Challenge ─┬─────────────── AuthenticationOk ──────────────► Session ─► Done
//!                     ├─ password, md5 ─► Accepted ──── AuthenticationOk ──▲
//!                     └─ SASL ─► SaslContinue ─► SaslFinal ─► Accepted ────┘
//! ```
//!
//! [`ClientLogin::receive`] takes one frame and gives the machine back, or what came of it. An ErrorResponse ends the
//! login from any state; notices are passed over. A server is not trusted either: what it may send is bounded in
//! length ([`MAX_SERVER_BODY`]), in number ([`MAX_MESSAGES`]) and in order.

use std::fmt;

use zeroize::Zeroizing;

use super::client_scram::{AwaitContinue, AwaitFinal, Bound};
use super::{MAX_SERVER_BODY, Md5Secret, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramKeys};
use crate::encode::backend::authentication;
use crate::encode::frontend as say;
use crate::error::{Error, ErrorFields, Peer, Result};
use crate::frame::{self, Frame};
use crate::startup::ProtocolVersion;
use crate::tag::{Backend, TransactionStatus};

/// Messages that a server may send during one login. PostgreSQL sends about 20, most of them ParameterStatus.
pub const MAX_MESSAGES: usize = 512;

/// A server's answers to an SSLRequest.
const TLS_ACCEPTED: u8 = 0x53;
const TLS_REFUSED: u8 = 0x4e;

/// Bytes of parameters kept of one login.
const MAX_PARAMETER_BYTES: usize = 65_536;

/// Takes one whole message of an upstream that we are logging in to from the front of `bytes`; `None`: it is not all
/// there yet.
///
/// # Errors
/// The server's: a body over [`MAX_SERVER_BODY`].
pub fn next_message<'a>(bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>> {
    frame::next(bytes, MAX_SERVER_BODY).map_err(|cause| Peer::Server.sent_bad_length(cause))
}

/// Reads a server's answer to our SSLRequest from all that has come since: whether it speaks TLS. `None`: it has not
/// answered yet.
///
/// # Errors
/// The server's: another answer, or anything behind it, which could only have been meant to be taken for a part of the
/// encrypted conversation (CVE-2021-23222).
pub fn tls_answer(bytes: &[u8]) -> Result<Option<bool>> {
    match bytes {
        [] => Ok(None),
        [TLS_ACCEPTED] => Ok(Some(true)),
        [TLS_REFUSED] => Ok(Some(false)),
        [TLS_ACCEPTED | TLS_REFUSED, ..] => Err(Error::BytesBehindTlsAnswer),
        [other, ..] => Err(unexpected(*other, "an answer to the SSLRequest")),
    }
}

/// What we can prove to an upstream.
pub enum ClientSecret {
    /// Nothing: only a server that trusts us lets us in.
    None,
    /// The password: serves every method.
    Password(Zeroizing<Vec<u8>>),
    /// A stored md5 hash: serves md5 alone.
    Md5(Md5Secret),
    /// The keys that a client's own SCRAM exchange gave us: serve SCRAM alone, where the server's salt and iterations
    /// are those of the verifier that the client was checked against.
    ScramKeys {
        /// The keys.
        keys: ScramKeys,
        /// Random bytes for our nonce, never used before.
        nonce: [u8; 18],
    },
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password(…)",
            Self::Md5(_) => "Md5(…)",
            Self::ScramKeys { .. } => "ScramKeys(…)",
        })
    }
}

/// What a SCRAM login to an upstream is bound to: the `tls-server-end-point` data of its certificate (RFC 5929).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Binding {
    /// Nothing: no TLS, or channel binding is not wanted.
    #[default]
    None,
    /// To this, where the server offers SCRAM-SHA-256-PLUS.
    Preferred(Vec<u8>),
    /// To this, or there is no login: a server that asks for another proof, or for none, may be somebody in between.
    Required(Vec<u8>),
}

/// A login to an upstream in progress.
#[derive(Debug)]
pub struct ClientLogin {
    state: State,
    asked: ProtocolVersion,
    session: Session,
    messages: usize,
    /// Our proof was accepted.
    proven: bool,
}

/// What a frame led to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once per login message; a box would be allocated as often")]
pub enum ClientStep<'f> {
    /// Send what was appended, if anything, and hand in the next frame.
    Continue(ClientLogin),
    /// Logged in, and ready for the first request.
    Done(Box<Established>),
    /// The server said no. It closes the connection.
    Refused(ErrorFields<'f>),
}

/// An upstream that is logged in.
#[derive(Clone, PartialEq, Eq)]
pub struct Established {
    /// The protocol of this connection.
    pub version: ProtocolVersion,
    /// What the server reported with ParameterStatus, in order, the last value of each name.
    pub parameters: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its process id and the secret for cancelling, 4 to 256 bytes; `None`: it cannot be cancelled.
    pub cancel_key: Option<(u32, Vec<u8>)>,
    /// Whether a transaction is open: idle, from any PostgreSQL.
    pub status: TransactionStatus,
    /// The server has asked for a proof and has accepted ours; otherwise it trusts us.
    pub proven: bool,
}

impl fmt::Debug for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = self.cancel_key.as_ref().map(|(process, _)| process);
        f.debug_struct("Established").field("version", &self.version).field("process", &process).finish_non_exhaustive()
    }
}

/// What is awaited; each holds what is true then and nothing else.
#[derive(Debug)]
enum State {
    Challenge(Challenge),
    SaslContinue(AwaitContinue),
    SaslFinal(AwaitFinal),
    Accepted,
    Ready,
}

/// The server has to say how we prove who we are.
#[derive(Debug)]
struct Challenge {
    user: Vec<u8>,
    secret: ClientSecret,
    binding: Binding,
    negotiated: bool,
}

/// What has been reported so far.
#[derive(Default)]
struct Session {
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
    cancel_key: Option<(u32, Vec<u8>)>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("parameters", &self.parameters.len()).finish_non_exhaustive()
    }
}

impl ClientLogin {
    /// Appends the StartupMessage for `user` and awaits the answer. `parameters` are the others, `database` among
    /// them, without `user`.
    ///
    /// # Errors
    /// [`Error::NulByte`], [`Error::TooLarge`], or a parameter without a name.
    pub fn start<'a>(
        user: &'a [u8],
        parameters: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        secret: ClientSecret,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<Self> {
        let user_first = std::iter::once((&b"user"[..], user));
        say::startup_message(out, version, user_first.chain(parameters))?;
        let challenge = Challenge { user: user.to_vec(), secret, binding: Binding::None, negotiated: false };
        Ok(Self {
            state: State::Challenge(challenge),
            asked: version,
            session: Session::default(),
            messages: 0,
            proven: false,
        })
    }

    /// Binds the login to the TLS connection that it is made over. Say it before the first frame.
    #[must_use]
    pub fn bound_to(mut self, binding: Binding) -> Self {
        if let State::Challenge(challenge) = &mut self.state {
            challenge.binding = binding;
        }
        self
    }

    /// Takes one frame of the server and appends what must be sent.
    ///
    /// # Errors
    /// The server's: a message that cannot come now, a malformed one, too many, a SCRAM exchange that does not hold. Or
    /// ours: no secret for the method it asks for. After any of them the connection is closed.
    pub fn receive<'f>(mut self, frame: Frame<'f>, out: &mut Vec<u8>) -> Result<ClientStep<'f>> {
        self.messages += 1;
        if self.messages > MAX_MESSAGES {
            return Err(Error::TooMany { by: Peer::Server, what: "messages during login" });
        }
        let body = frame.body();
        if body.len() > MAX_SERVER_BODY {
            return Err(malformed("login message", "it is too long"));
        }
        match Backend::from_byte(frame.tag) {
            Some(Backend::ErrorResponse) => return Ok(ClientStep::Refused(ErrorFields::new(body))),
            Some(Backend::NoticeResponse) => return Ok(ClientStep::Continue(self)),
            _ => {}
        }
        self.state = match self.state {
            State::Challenge(challenge) => challenge.receive(frame, &mut self.asked, out)?,
            State::SaslContinue(state) => State::SaslFinal(state.receive(authentication(frame)?, out)?),
            State::SaslFinal(state) => {
                state.receive(authentication(frame)?)?;
                State::Accepted
            }
            State::Accepted => match authentication(frame)? {
                (authentication::OK, []) => {
                    self.proven = true;
                    State::Ready
                }
                _ => return Err(unexpected(frame.tag, "AuthenticationOk")),
            },
            State::Ready => match self.session.receive(frame)? {
                None => State::Ready,
                Some(status) => {
                    let established = self.session.established(self.asked, status, self.proven);
                    return Ok(ClientStep::Done(Box::new(established)));
                }
            },
        };
        Ok(ClientStep::Continue(self))
    }
}

impl Challenge {
    fn receive(mut self, frame: Frame<'_>, version: &mut ProtocolVersion, out: &mut Vec<u8>) -> Result<State> {
        if frame.tag == Backend::NegotiateProtocolVersion.byte() {
            *version = negotiated(frame.body(), *version, self.negotiated)?;
            self.negotiated = true;
            return Ok(State::Challenge(self));
        }
        let authentication = authentication(frame)?;
        if matches!(self.binding, Binding::Required(_)) && authentication.0 != authentication::SASL {
            return Err(Error::NoChannelBinding);
        }
        match authentication {
            (authentication::OK, []) => Ok(State::Ready),
            (authentication::CLEARTEXT_PASSWORD, []) => match &self.secret {
                ClientSecret::Password(password) => answer(out, password),
                other => Err(other.unusable()),
            },
            (authentication::MD5_PASSWORD, salt) => {
                let salt = <[u8; 4]>::try_from(salt)
                    .map_err(|_| malformed("AuthenticationMD5Password", "its salt is not 4 bytes long"))?;
                match &self.secret {
                    ClientSecret::Password(password) => {
                        answer(out, &Md5Secret::from_password(&self.user, password).response(salt))
                    }
                    ClientSecret::Md5(secret) => answer(out, &secret.response(salt)),
                    other => Err(other.unusable()),
                }
            }
            (authentication::SASL, mechanisms) => self.sasl(mechanisms, out),
            (authentication::OK | authentication::CLEARTEXT_PASSWORD, _) => {
                Err(malformed("Authentication message", "bytes follow its end"))
            }
            (other, _) => Err(Error::UnsupportedAuthentication(other)),
        }
    }

    fn sasl(self, mechanisms: &[u8], out: &mut Vec<u8>) -> Result<State> {
        let offers = |mechanism: &str| mechanisms.split(|&byte| byte == 0).any(|name| name == mechanism.as_bytes());
        let bound = match self.binding {
            Binding::Preferred(data) | Binding::Required(data) if offers(SCRAM_SHA_256_PLUS) => Bound::To(data),
            Binding::Required(_) => return Err(Error::NoChannelBinding),
            // Said so, that a server that does offer it learns that somebody has taken it out of its list.
            Binding::Preferred(_) => Bound::Unoffered,
            Binding::None => Bound::Unsupported,
        };
        if !matches!(bound, Bound::To(_)) && !offers(SCRAM_SHA_256) {
            return Err(Error::UnsupportedAuthentication(authentication::SASL));
        }
        match self.secret {
            ClientSecret::Password(password) => AwaitContinue::with_password(&password, bound, out),
            ClientSecret::ScramKeys { keys, nonce } => AwaitContinue::with_keys(keys, nonce, bound, out),
            other => return Err(other.unusable()),
        }
        .map(State::SaslContinue)
    }
}

impl ClientSecret {
    fn unusable(&self) -> Error {
        match self {
            Self::None => Error::NoPassword,
            Self::Password(_) => Error::UnusableSecret("the server asks for another method than a password"),
            Self::Md5(_) => Error::UnusableSecret("it is an md5 hash, and the server asks for another method"),
            Self::ScramKeys { .. } => {
                Error::UnusableSecret("these are SCRAM keys, and the server asks for another method")
            }
        }
    }
}

fn answer(out: &mut Vec<u8>, password: &[u8]) -> Result<State> {
    say::password_message(out, password)?;
    Ok(State::Accepted)
}

/// A NegotiateProtocolVersion: only downwards, to a version that we speak, once, and without options, for we asked
/// for none.
fn negotiated(body: &[u8], asked: ProtocolVersion, before: bool) -> Result<ProtocolVersion> {
    if before {
        return Err(Error::BadNegotiation("it came twice"));
    }
    let Some((version, rest)) = body.split_first_chunk::<4>() else {
        return Err(malformed("NegotiateProtocolVersion", "it is cut short"));
    };
    if rest != [0; 4] {
        return Err(Error::BadNegotiation("it names options that were not asked for"));
    }
    let version = u32::from_be_bytes(*version);
    [ProtocolVersion::V3_0, ProtocolVersion::V3_2]
        .into_iter()
        .find(|known| known.number() == version && *known < asked)
        .ok_or(Error::BadNegotiation("its version is not a lower one that we speak"))
}

/// Number and data of an Authentication message; another message cannot come.
fn authentication(frame: Frame<'_>) -> Result<(u32, &[u8])> {
    if frame.tag != Backend::Authentication.byte() {
        return Err(unexpected(frame.tag, "an Authentication message"));
    }
    let (kind, data) =
        frame.body().split_first_chunk::<4>().ok_or_else(|| malformed("Authentication message", "it is cut short"))?;
    Ok((u32::from_be_bytes(*kind), data))
}

impl Session {
    /// Takes what a server says between AuthenticationOk and ReadyForQuery; `Some` is the latter.
    fn receive(&mut self, frame: Frame<'_>) -> Result<Option<TransactionStatus>> {
        match Backend::from_byte(frame.tag) {
            Some(Backend::ParameterStatus) => self.parameter(frame.body()).map(|()| None),
            Some(Backend::BackendKeyData) => self.key(frame.body()).map(|()| None),
            Some(Backend::ReadyForQuery) => match frame.body() {
                [status] => TransactionStatus::from_byte(*status)
                    .map(Some)
                    .ok_or_else(|| malformed("ReadyForQuery", "its status is none")),
                _ => Err(malformed("ReadyForQuery", "it is not one byte long")),
            },
            _ => Err(unexpected(frame.tag, "ReadyForQuery")),
        }
    }

    fn parameter(&mut self, body: &[u8]) -> Result<()> {
        let mut parts = body.splitn(3, |&byte| byte == 0);
        let (Some(name), Some(value), Some([])) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("ParameterStatus", "it is not two NUL-terminated strings"));
        };
        self.parameters.retain(|(known, _)| known != name);
        let kept: usize = self.parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
        if kept + name.len() + value.len() > MAX_PARAMETER_BYTES {
            return Err(Error::TooMany { by: Peer::Server, what: "parameters during login" });
        }
        self.parameters.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    fn key(&mut self, body: &[u8]) -> Result<()> {
        let (process, key) = body
            .split_first_chunk::<4>()
            .filter(|(_, key)| (4..=256).contains(&key.len()))
            .ok_or_else(|| malformed("BackendKeyData", "its key is not 4 to 256 bytes long"))?;
        if self.cancel_key.replace((u32::from_be_bytes(*process), key.to_vec())).is_some() {
            return Err(malformed("BackendKeyData", "it came twice"));
        }
        Ok(())
    }

    fn established(self, version: ProtocolVersion, status: TransactionStatus, proven: bool) -> Established {
        Established { version, parameters: self.parameters, cancel_key: self.cancel_key, status, proven }
    }
}

fn unexpected(tag: u8, awaited: &'static str) -> Error {
    Error::Unexpected { by: Peer::Server, tag, awaited }
}

fn malformed(message: &'static str, problem: &'static str) -> Error {
    Error::Malformed { by: Peer::Server, message, problem }
}

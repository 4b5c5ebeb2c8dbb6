//! We play the server: from the first byte of a client to AuthenticationOk.
//!
//! ```text
//! AwaitStartup ─┬─► TlsAsked ──refuse──► AwaitStartup      AwaitStartup::over_tls ◄── TLS handshake ◄──accept
//!               ├─► GssAsked ──refuse──► AwaitStartup
//!               ├─► Cancel (never answered)
//!               └─► Started ─┬─trust──────────────────────────────────────────────► LoggedIn
//!                            ├─cleartext─► AwaitCleartext ─► Cleartext ─accept────► LoggedIn
//!                            ├─md5───────► AwaitMd5 ──────────────────────────────► LoggedIn
//!                            └─scram─────► AwaitSaslInitial ─► AwaitSaslFinal ────► LoggedIn
//! ```
//!
//! Every step takes one message and appends what must be sent to a buffer. After an error nothing more is read: tell
//! the client with [`Report::of`](crate::encode::Report::of) and close.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{MAX_CLIENT_BODY, Md5Secret, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramKeys, ScramVerifier};
use crate::encode::backend as say;
use crate::error::{Error, Peer, Result};
use crate::frame::{self, Frame};
use crate::startup::{self, CancelRequest, FirstMessage, ProtocolVersion, StartupMessage};
use crate::tag::Frontend;

pub use super::server_scram::{AwaitSaslFinal, AwaitSaslInitial};

/// Said instead of an encryption handshake: this connection stays as it is.
const ENCRYPTION_REFUSED: &[u8] = b"N";
/// Said before a TLS handshake.
const TLS_ACCEPTED: &[u8] = b"S";

/// Takes one whole message of a client that is logging in from the front of `bytes`; `None`: it is not all there yet.
/// Only messages of the password type can come, so another one is refused by its head, without waiting for its end.
///
/// # Errors
/// The client's: another message, or a body over [`MAX_CLIENT_BODY`].
pub fn next_message<'a>(bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>> {
    match bytes.first() {
        Some(&tag) if tag != Frontend::Password.byte() => {
            Err(Error::Unexpected { by: Peer::Client, tag, awaited: "a PasswordMessage" })
        }
        _ => frame::next(bytes, MAX_CLIENT_BODY).map_err(|cause| Peer::Client.sent_bad_length(cause)),
    }
}

/// Waits for an opening packet.
#[derive(Debug, Default)]
pub struct AwaitStartup {
    tls_asked: bool,
    gss_asked: bool,
}

/// What an opening packet was.
#[derive(Debug)]
pub enum Opened<'a> {
    /// The client asks for TLS.
    Tls(TlsAsked),
    /// The client asks for GSSAPI encryption.
    Gss(GssAsked),
    /// The client wants another connection's query cancelled. Nothing is answered; close when it is done.
    Cancel(CancelRequest<'a>),
    /// The client wants to log in: choose how it has to prove who it is.
    Startup(Started, StartupMessage<'a>),
}

impl AwaitStartup {
    /// A connection that has said nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection whose TLS handshake is done, direct or after [`TlsAsked::accept`]. More encryption is not asked
    /// for inside it.
    pub fn over_tls() -> Self {
        Self { tls_asked: true, gss_asked: true }
    }

    /// Takes one opening packet. `behind` is the number of bytes that have arrived after it. A NegotiateProtocolVersion
    /// is appended to `out` where one is due.
    ///
    /// # Errors
    /// Those of [`startup::parse`]; [`Error::BytesBeforeEncryption`] and [`Error::RepeatedEncryptionRequest`].
    pub fn receive<'a>(self, packet: &frame::Opening<'a>, behind: usize, out: &mut Vec<u8>) -> Result<Opened<'a>> {
        match startup::parse(packet)? {
            FirstMessage::SslRequest => {
                before_encryption(self.tls_asked, behind)?;
                Ok(Opened::Tls(TlsAsked(Self { tls_asked: true, ..self })))
            }
            FirstMessage::GssEncRequest => {
                before_encryption(self.gss_asked, behind)?;
                Ok(Opened::Gss(GssAsked(Self { gss_asked: true, ..self })))
            }
            FirstMessage::Cancel(request) => Ok(Opened::Cancel(request)),
            FirstMessage::Startup(message) => {
                let negotiation = message.negotiate();
                if negotiation.must_answer {
                    say::negotiate_protocol_version(out, negotiation.agreed, &negotiation.unknown)?;
                }
                let started = Started { user: message.user.to_vec(), version: negotiation.agreed };
                Ok(Opened::Startup(started, message))
            }
        }
    }
}

/// What came before our answer could have been put there by somebody else, and an honest client asks once.
fn before_encryption(asked_before: bool, behind: usize) -> Result<()> {
    if asked_before {
        return Err(Error::RepeatedEncryptionRequest);
    }
    if behind > 0 {
        return Err(Error::BytesBeforeEncryption);
    }
    Ok(())
}

/// A client that waits to hear whether it may speak TLS.
#[derive(Debug)]
pub struct TlsAsked(AwaitStartup);

impl TlsAsked {
    /// No: the client goes on in the clear, or goes away.
    pub fn refuse(self, out: &mut Vec<u8>) -> AwaitStartup {
        out.extend_from_slice(ENCRYPTION_REFUSED);
        self.0
    }

    /// Yes: what follows is a TLS handshake, and after it [`AwaitStartup::over_tls`].
    pub fn accept(self, out: &mut Vec<u8>) {
        out.extend_from_slice(TLS_ACCEPTED);
    }
}

/// A client that waits to hear whether it may speak GSSAPI encryption. It may not.
#[derive(Debug)]
pub struct GssAsked(AwaitStartup);

impl GssAsked {
    /// No: the client asks for TLS, goes on in the clear, or goes away.
    pub fn refuse(self, out: &mut Vec<u8>) -> AwaitStartup {
        out.extend_from_slice(ENCRYPTION_REFUSED);
        self.0
    }
}

/// A client that has said who it wants to be and has not been asked for a proof yet.
#[derive(Debug)]
pub struct Started {
    pub(super) user: Vec<u8>,
    pub(super) version: ProtocolVersion,
}

/// What this connection's channel binding rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Nothing: no TLS, or none offered.
    None,
    /// The digest of our TLS certificate (RFC 5929, `tls-server-end-point`).
    TlsServerEndPoint(Vec<u8>),
}

impl Started {
    /// Takes the client at its word.
    pub fn trust(self, out: &mut Vec<u8>) -> LoggedIn {
        self.logged_in(Proof::Trusted, out)
    }

    /// Asks for the password in clear text: pass-through needs it, and nothing else should.
    pub fn cleartext(self, out: &mut Vec<u8>) -> AwaitCleartext {
        say::authentication_cleartext_password(out);
        AwaitCleartext { started: self }
    }

    /// Asks for the md5 answer to a random `salt`. For an unknown user hand in [`Md5Secret::mock`].
    pub fn md5(self, secret: Md5Secret, salt: [u8; 4], out: &mut Vec<u8>) -> AwaitMd5 {
        say::authentication_md5_password(out, salt);
        AwaitMd5 { started: self, secret, salt }
    }

    /// Asks for a SCRAM exchange. `nonce` must be random and never used before. For an unknown user hand in
    /// [`ScramVerifier::mock`].
    ///
    /// # Errors
    /// None in practice; the lists sent are short.
    pub fn scram(
        self,
        verifier: ScramVerifier,
        nonce: [u8; 18],
        binding: ChannelBinding,
        out: &mut Vec<u8>,
    ) -> Result<AwaitSaslInitial> {
        let offered: &[&str] = match binding {
            ChannelBinding::None => &[SCRAM_SHA_256],
            ChannelBinding::TlsServerEndPoint(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
        };
        say::authentication_sasl(out, offered)?;
        Ok(AwaitSaslInitial { started: self, verifier, nonce, binding })
    }

    /// The one place that says AuthenticationOk.
    pub(super) fn logged_in(self, proof: Proof, out: &mut Vec<u8>) -> LoggedIn {
        say::authentication_ok(out);
        LoggedIn { user: self.user, version: self.version, proof }
    }

    /// The one refusal for a wrong password, an unknown user and a broken proof.
    pub(super) fn refused(&self) -> Error {
        let printable = String::from_utf8_lossy(&self.user).replace(char::is_control, "\u{fffd}");
        Error::PasswordFailed { user: printable.chars().take(128).collect() }
    }
}

/// Waits for a password in clear text.
#[derive(Debug)]
pub struct AwaitCleartext {
    started: Started,
}

impl AwaitCleartext {
    /// Takes the PasswordMessage. Whether the password is right is still open.
    ///
    /// # Errors
    /// The client's: another message, a malformed one, or an empty password, which no PostgreSQL accepts.
    pub fn receive(self, frame: Frame<'_>) -> Result<Cleartext> {
        let password = c_string_body(password_body(frame, "a PasswordMessage")?)?;
        if password.is_empty() {
            return Err(self.started.refused());
        }
        Ok(Cleartext { started: self.started, password: Zeroizing::new(password.to_vec()) })
    }
}

/// A password in clear text that nobody has checked yet.
pub struct Cleartext {
    started: Started,
    password: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Cleartext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleartext").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Cleartext {
    /// The password, to be tried on the server.
    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// Whether it is the same as `expected`, in a time that depends on nothing but the lengths.
    pub fn is(&self, expected: &[u8]) -> bool {
        self.password.ct_eq(expected).into()
    }

    /// The server, or a comparison, has confirmed the password.
    pub fn accept(self, out: &mut Vec<u8>) -> LoggedIn {
        self.started.logged_in(Proof::Password(self.password), out)
    }

    /// The password is wrong.
    pub fn refuse(self) -> Error {
        self.started.refused()
    }
}

/// Waits for the answer to an md5 challenge.
#[derive(Debug)]
pub struct AwaitMd5 {
    started: Started,
    secret: Md5Secret,
    salt: [u8; 4],
}

impl AwaitMd5 {
    /// Takes the PasswordMessage.
    ///
    /// # Errors
    /// The client's: another message, a malformed one, or [`Error::PasswordFailed`].
    pub fn receive(self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<LoggedIn> {
        let response = c_string_body(password_body(frame, "a PasswordMessage")?)?;
        if !self.secret.accepts(response, self.salt) {
            return Err(self.started.refused());
        }
        Ok(self.started.logged_in(Proof::Md5, out))
    }
}

/// The body of a message of the password type; any other type cannot come during login.
pub(super) fn password_body<'a>(frame: Frame<'a>, awaited: &'static str) -> Result<&'a [u8]> {
    if frame.tag != Frontend::Password.byte() {
        return Err(Error::Unexpected { by: Peer::Client, tag: frame.tag, awaited });
    }
    Ok(frame.body())
}

/// A body that is one text with its NUL and nothing else.
fn c_string_body(body: &[u8]) -> Result<&[u8]> {
    match body.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(text),
        _ => Err(Error::Malformed {
            by: Peer::Client,
            message: "PasswordMessage",
            problem: "it is not one NUL-terminated string",
        }),
    }
}

/// A client whose login was accepted. There is no other way to make one: holding it is the permission to serve.
#[derive(Debug)]
pub struct LoggedIn {
    user: Vec<u8>,
    version: ProtocolVersion,
    proof: Proof,
}

impl LoggedIn {
    /// Who it is.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// The protocol of this connection; it bounds the cancel key.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// How it proved that.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Hands the proof on, for logging in to the server with it.
    pub fn into_proof(self) -> Proof {
        self.proof
    }
}

/// How a client proved who it is, and what that leaves us to log in to the server with.
pub enum Proof {
    /// It was taken at its word.
    Trusted,
    /// The password itself.
    Password(Zeroizing<Vec<u8>>),
    /// An md5 answer; it serves for this challenge alone.
    Md5,
    /// The keys of its password, under the salt and the iterations of the verifier it was checked against.
    Scram(ScramKeys),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trusted => "Trusted",
            Self::Password(_) => "Password(…)",
            Self::Md5 => "Md5",
            Self::Scram(_) => "Scram(…)",
        })
    }
}

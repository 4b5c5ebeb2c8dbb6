//! The server's side of a SCRAM exchange, one struct per awaited message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

use super::scram::{self, Key};
use super::server::{ChannelBinding, LoggedIn, Proof, Started, password_body};
use super::{MAX_SASL, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramKeys, ScramVerifier};
use crate::encode::backend as say;
use crate::error::{Error, Peer, Result};
use crate::frame::Frame;

/// Waits for the SASLInitialResponse with the client's first SCRAM message.
#[derive(Debug)]
pub struct AwaitSaslInitial {
    pub(super) started: Started,
    pub(super) verifier: ScramVerifier,
    pub(super) nonce: [u8; 18],
    pub(super) binding: ChannelBinding,
}

/// Waits for the SASLResponse with the client's proof.
pub struct AwaitSaslFinal {
    started: Started,
    verifier: ScramVerifier,
    /// What both sides sign: the client's first message without its header, and ours.
    transcript: Vec<u8>,
    /// Both nonces, joined.
    nonce: Vec<u8>,
    /// What `c=` must be, in base64: the header and the channel's data.
    bound: String,
}

impl fmt::Debug for AwaitSaslFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwaitSaslFinal").field("started", &self.started).finish_non_exhaustive()
    }
}

impl AwaitSaslInitial {
    /// Takes the SASLInitialResponse and appends the AuthenticationSASLContinue.
    ///
    /// # Errors
    /// The client's: another message, another mechanism, a malformed or an over-long message, a channel binding that
    /// this connection does not have. None of them depends on whether the user exists.
    pub fn receive(self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<AwaitSaslFinal> {
        let body = password_body(frame, "a SASLInitialResponse")?;
        let (mechanism, message) = initial_response(body)?;
        let first = ClientFirst::parse(message)?;
        let bound = self.bound_to(mechanism, &first)?;

        let mut nonce = first.nonce.to_vec();
        nonce.extend_from_slice(STANDARD.encode(self.nonce).as_bytes());
        let mut server_first = b"r=".to_vec();
        server_first.extend_from_slice(&nonce);
        let parameters = format!(",s={},i={}", STANDARD.encode(&self.verifier.salt), self.verifier.iterations);
        server_first.extend_from_slice(parameters.as_bytes());
        say::authentication_sasl_continue(out, &server_first)?;

        let transcript = [first.bare, &server_first].join(&b',');
        Ok(AwaitSaslFinal { started: self.started, verifier: self.verifier, transcript, nonce, bound })
    }

    /// Checks the channel binding asked for against the one there is, and gives what the client must repeat of it.
    fn bound_to(&self, mechanism: &[u8], first: &ClientFirst<'_>) -> Result<String> {
        let plus = mechanism == SCRAM_SHA_256_PLUS.as_bytes();
        if !plus && mechanism != SCRAM_SHA_256.as_bytes() {
            return Err(Error::UnknownMechanism);
        }
        let mut input = first.header.to_vec();
        match (&self.binding, first.flag) {
            (ChannelBinding::None, _) if plus => return Err(Error::UnknownMechanism),
            (ChannelBinding::TlsServerEndPoint(digest), Flag::TlsServerEndPoint) if plus => {
                input.extend_from_slice(digest);
            }
            (_, Flag::TlsServerEndPoint) => {
                return Err(Error::ChannelBinding("it was asked for, but this connection does not offer it"));
            }
            _ if plus => return Err(Error::ChannelBinding("the mechanism needs it, but it was not asked for")),
            // "I could, but you cannot": somebody has taken our offer out of the list.
            (ChannelBinding::TlsServerEndPoint(_), Flag::Unoffered) => {
                return Err(Error::ChannelBinding("it is offered, but the client did not see the offer"));
            }
            (_, Flag::Unsupported | Flag::Unoffered) => {}
        }
        Ok(STANDARD.encode(input))
    }
}

/// Mechanism and data of a SASLInitialResponse.
fn initial_response(body: &[u8]) -> Result<(&[u8], &[u8])> {
    let malformed = |problem| Error::Malformed { by: Peer::Client, message: "SASLInitialResponse", problem };
    let end = body.iter().position(|&byte| byte == 0).ok_or_else(|| malformed("its mechanism has no end"))?;
    let (mechanism, rest) = body.split_at(end);
    let rest = rest.get(1..).unwrap_or_default();
    let (length, message) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("it is cut short"))?;
    if usize::try_from(i32::from_be_bytes(*length)) != Ok(message.len()) {
        return Err(malformed("its data does not have the length it names"));
    }
    Ok((mechanism, message))
}

/// What a client says about channel binding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    /// `n`: the client cannot.
    Unsupported,
    /// `y`: the client could, and believes that we cannot.
    Unoffered,
    /// `p`: the client does.
    TlsServerEndPoint,
}

/// client-first-message of RFC 5802.
struct ClientFirst<'a> {
    flag: Flag,
    /// gs2-header, with its last comma.
    header: &'a [u8],
    /// client-first-message-bare.
    bare: &'a [u8],
    nonce: &'a [u8],
}

impl<'a> ClientFirst<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        bounded(message)?;
        let mut parts = message.splitn(3, |&byte| byte == b',');
        let (Some(flag), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("its first message is cut short"));
        };
        let flag = match flag {
            b"n" => Flag::Unsupported,
            b"y" => Flag::Unoffered,
            b"p=tls-server-end-point" => Flag::TlsServerEndPoint,
            _ if flag.starts_with(b"p=") => {
                return Err(Error::ChannelBinding("its type is not supported"));
            }
            _ => return Err(malformed("its channel binding flag is none")),
        };
        if !identity.is_empty() {
            return Err(malformed("an authorization identity is not supported"));
        }
        let header = message.get(..message.len() - bare.len()).unwrap_or_default();
        // The user name in here is ignored, as PostgreSQL does: the one of the StartupMessage counts. A mandatory
        // extension (`m=`) stands before it, so it is refused by what is looked for. Extensions at the end are ignored.
        let mut rest = bare;
        let nonce = scram::attribute(&mut rest, b'n')
            .and_then(|_| scram::attribute(&mut rest, b'r'))
            .filter(|nonce| scram::is_nonce(nonce))
            .ok_or_else(|| malformed("its first message has no user name or no nonce"))?;
        Ok(Self { flag, header, bare, nonce })
    }
}

impl AwaitSaslFinal {
    /// Takes the SASLResponse; on success AuthenticationSASLFinal and AuthenticationOk are appended.
    ///
    /// # Errors
    /// The client's: another message, a malformed or an over-long one, or [`Error::PasswordFailed`].
    pub fn receive(self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<LoggedIn> {
        let message = password_body(frame, "a SASLResponse")?;
        let last = ClientFinal::parse(message)?;
        if last.bound != self.bound.as_bytes() {
            return Err(Error::ChannelBinding("the client's check of it failed"));
        }
        if last.nonce != self.nonce {
            return Err(malformed("its nonce is not the one agreed on"));
        }
        let signed = [&self.transcript[..], b",", last.without_proof];
        let Some(client_key) = self.verifier.open(&last.proof, &signed) else {
            return Err(self.started.refused());
        };
        let signature = STANDARD.encode(scram::hmac(&self.verifier.server_key, &signed));
        say::authentication_sasl_final(out, format!("v={signature}").as_bytes())?;
        let (stored_key, server_key) = (self.verifier.stored_key, self.verifier.server_key);
        Ok(self.started.logged_in(Proof::Scram(ScramKeys { client_key, stored_key, server_key }), out))
    }
}

/// client-final-message of RFC 5802.
struct ClientFinal<'a> {
    bound: &'a [u8],
    nonce: &'a [u8],
    without_proof: &'a [u8],
    proof: Key,
}

impl<'a> ClientFinal<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        bounded(message)?;
        // The proof is the last attribute, and base64 holds no comma.
        let cut = message.iter().rposition(|&byte| byte == b',').ok_or_else(|| malformed("it has no proof"))?;
        let (without_proof, proof) = message.split_at(cut);
        let proof = proof
            .strip_prefix(b",p=")
            .and_then(|proof| Key::try_from(STANDARD.decode(proof).ok()?).ok())
            .ok_or_else(|| malformed("its proof is not 32 bytes in base64"))?;
        let mut rest = without_proof;
        let (Some(bound), Some(nonce)) = (scram::attribute(&mut rest, b'c'), scram::attribute(&mut rest, b'r')) else {
            return Err(malformed("its last message has no channel binding or no nonce"));
        };
        Ok(Self { bound, nonce, without_proof, proof })
    }
}

/// PostgreSQL refuses longer ones too, before it looks inside.
fn bounded(message: &[u8]) -> Result<()> {
    if message.len() > MAX_SASL {
        return Err(malformed("it is too long"));
    }
    if message.contains(&0) {
        return Err(malformed("it holds a NUL byte"));
    }
    Ok(())
}

fn malformed(problem: &'static str) -> Error {
    Error::Malformed { by: Peer::Client, message: "SCRAM message", problem }
}

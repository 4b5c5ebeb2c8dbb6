//! The client's side of a SCRAM exchange, with a password or with the keys that a client's own exchange left us.
//!
//! With a password `postgres-protocol` does the arithmetic. It checks that the server's nonce begins with ours and
//! that the server's signature holds; it is looked at here, before it runs, that the nonce also has something behind
//! ours, that the message is short, and that the iterations are within its own bound.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use subtle::ConstantTimeEq;

use super::scram::{self, Key};
use super::{MAX_SASL, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramKeys};
use crate::encode::backend::authentication;
use crate::encode::frontend as say;
use crate::error::{Error, Result};

/// Most iterations that a server may ask of us: 24 times PostgreSQL's default, about 40 ms. More is refused by
/// `postgres-protocol` too (CVE-2026-42198 of pgjdbc: a hostile server kept clients busy).
pub const MAX_ITERATIONS: u32 = 100_000;

/// What is said about channel binding: the gs2-header of RFC 5802.
pub(super) enum Bound {
    /// `n`: we cannot.
    Unsupported,
    /// `y`: we could, and the server does not offer it.
    Unoffered,
    /// `p`: to this data of type `tls-server-end-point`.
    To(Vec<u8>),
}

impl Bound {
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::Unoffered => "y,,",
            Self::To(_) => "p=tls-server-end-point,,",
        }
    }

    fn mechanism(&self) -> &'static str {
        if matches!(self, Self::To(_)) { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 }
    }

    /// What `c=` repeats: header and data.
    fn input(&self) -> String {
        let data = if let Self::To(data) = self { data.as_slice() } else { &[] };
        STANDARD.encode([self.header().as_bytes(), data].concat())
    }
}

/// Waits for AuthenticationSASLContinue.
#[derive(Debug)]
pub(super) struct AwaitContinue {
    prover: Prover,
    /// Our nonce, as sent.
    nonce: Vec<u8>,
}

/// Waits for AuthenticationSASLFinal.
#[derive(Debug)]
pub(super) struct AwaitFinal(Checker);

enum Prover {
    Password(Box<ScramSha256>),
    /// The keys, and what `c=` repeats.
    Keys(ScramKeys, String),
}

enum Checker {
    Password(Box<ScramSha256>),
    /// The server's signature must be this.
    Signature(Key),
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prover(…)")
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checker(…)")
    }
}

impl AwaitContinue {
    /// Appends the SASLInitialResponse of a client that knows the password.
    pub(super) fn with_password(password: &[u8], bound: Bound, out: &mut Vec<u8>) -> Result<Self> {
        let (header, mechanism) = (bound.header(), bound.mechanism());
        let binding = match bound {
            Bound::Unsupported => ChannelBinding::unsupported(),
            Bound::Unoffered => ChannelBinding::unrequested(),
            Bound::To(data) => ChannelBinding::tls_server_end_point(data),
        };
        let scram = ScramSha256::new(password, binding);
        let first = scram.message().strip_prefix(header.as_bytes()).unwrap_or_default();
        let nonce = first.strip_prefix(b"n=,r=").unwrap_or_default().to_vec();
        say::sasl_initial_response(out, mechanism, scram.message())?;
        Ok(Self { prover: Prover::Password(Box::new(scram)), nonce })
    }

    /// Appends the SASLInitialResponse of a client that has the keys.
    pub(super) fn with_keys(keys: ScramKeys, nonce: [u8; 18], bound: Bound, out: &mut Vec<u8>) -> Result<Self> {
        let nonce = STANDARD.encode(nonce);
        let first = format!("{}n=,r={nonce}", bound.header());
        say::sasl_initial_response(out, bound.mechanism(), first.as_bytes())?;
        Ok(Self { prover: Prover::Keys(keys, bound.input()), nonce: nonce.into_bytes() })
    }

    /// Takes the AuthenticationSASLContinue and appends our proof.
    pub(super) fn receive(self, (step, message): (u32, &[u8]), out: &mut Vec<u8>) -> Result<AwaitFinal> {
        if step != authentication::SASL_CONTINUE {
            return Err(Error::BadScramServer("it does not go on with the exchange"));
        }
        let nonce = check_server_first(message, &self.nonce)?;
        match self.prover {
            Prover::Password(mut scram) => {
                scram.update(message).map_err(|_| Error::BadScramServer("its first message is malformed"))?;
                say::sasl_response(out, scram.message())?;
                Ok(AwaitFinal(Checker::Password(scram)))
            }
            Prover::Keys(keys, input) => {
                let without_proof = [b"c=", input.as_bytes(), b",r=", nonce].concat();
                let signed = [b"n=,r=", &self.nonce[..], b",", message, b",", &without_proof];
                let proof = scram::xor(&keys.client_key, &scram::hmac(&keys.stored_key, &signed));
                let response = [&without_proof[..], b",p=", STANDARD.encode(proof).as_bytes()].concat();
                say::sasl_response(out, &response)?;
                Ok(AwaitFinal(Checker::Signature(scram::hmac(&keys.server_key, &signed))))
            }
        }
    }
}

/// Checks the server's first message, before anything is computed from it, and gives its nonce.
fn check_server_first<'a>(message: &'a [u8], ours: &[u8]) -> Result<&'a [u8]> {
    let malformed = Error::BadScramServer("its first message is malformed");
    if message.len() > MAX_SASL {
        return Err(Error::BadScramServer("its first message is too long"));
    }
    let mut rest = message;
    let (Some(nonce), Some(salt), Some(iterations), []) =
        (scram::attribute(&mut rest, b'r'), scram::attribute(&mut rest, b's'), scram::attribute(&mut rest, b'i'), rest)
    else {
        return Err(malformed);
    };
    if !scram::is_nonce(nonce) || !nonce.starts_with(ours) || nonce.len() == ours.len() {
        return Err(Error::BadScramServer("its nonce does not extend ours"));
    }
    if STANDARD.decode(salt).map_or(true, |salt| salt.is_empty()) {
        return Err(malformed);
    }
    let iterations = std::str::from_utf8(iterations).ok().and_then(|text| text.parse::<u32>().ok());
    match iterations {
        Some(1..=MAX_ITERATIONS) => Ok(nonce),
        Some(_) => Err(Error::BadScramServer("its iteration count is out of bounds")),
        None => Err(malformed),
    }
}

impl AwaitFinal {
    /// Takes the AuthenticationSASLFinal: does the server know our password's verifier?
    pub(super) fn receive(self, (step, message): (u32, &[u8])) -> Result<()> {
        if step != authentication::SASL_FINAL {
            return Err(Error::BadScramServer("it does not end the exchange"));
        }
        let wrong = || Error::BadScramServer("its signature is wrong");
        if message.len() > MAX_SASL {
            return Err(wrong());
        }
        match self.0 {
            Checker::Password(mut scram) => scram.finish(message).map_err(|_| wrong()),
            Checker::Signature(expected) => {
                let signature = message.strip_prefix(b"v=").and_then(|text| STANDARD.decode(text).ok());
                match signature {
                    Some(signature) if bool::from(signature.ct_eq(&expected[..])) => Ok(()),
                    _ => Err(wrong()),
                }
            }
        }
    }
}

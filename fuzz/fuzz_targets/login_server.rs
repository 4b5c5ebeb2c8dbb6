//! Everything that a client may say during login, for each method. Its first byte picks the method.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wire::error::Peer;
use wire::frame;
use wire::login::server::{self, ChannelBinding};
use wire::login::{AwaitStartup, LoggedIn, Md5Secret, Opened, ScramVerifier, Started};
use wire::{Error, Result};

/// Derived once: the fuzzer must not spend its time on PBKDF2.
static VERIFIER: LazyLock<ScramVerifier> =
    LazyLock::new(|| ScramVerifier::from_password(b"pencil", &[1; 16], 1).expect("bounded"));

fuzz_target!(|bytes: &[u8]| {
    let Some((method, bytes)) = bytes.split_first() else { return };
    let mut out = Vec::new();
    match log_in(*method, bytes, &mut out) {
        Ok(Some(logged_in)) => assert!(!logged_in.user().is_empty()),
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

/// `None`: the bytes end before the login does, or the client did not want to log in.
fn log_in(method: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<LoggedIn>> {
    let mut rest = bytes;
    let mut state = AwaitStartup::new();
    let started = loop {
        let Some(opening) = frame::opening(rest).map_err(|cause| Peer::Client.sent_bad_length(cause))? else {
            return Ok(None);
        };
        rest = &rest[opening.total..];
        // As if the client had waited for our answer: the next bytes have not arrived yet.
        state = match state.receive(&opening, 0, out)? {
            Opened::Tls(asked) => asked.refuse(out),
            Opened::Gss(asked) => asked.refuse(out),
            Opened::Cancel(_) => return Ok(None),
            Opened::Startup(started, _) => break started,
        };
    };
    prove(method, started, rest, out)
}

fn prove(method: u8, started: Started, mut rest: &[u8], out: &mut Vec<u8>) -> Result<Option<LoggedIn>> {
    match method % 4 {
        0 => Ok(Some(started.trust(out))),
        1 => {
            let state = started.cleartext(out);
            let Some(frame) = server::next_message(&mut rest)? else { return Ok(None) };
            let cleartext = state.receive(frame)?;
            if cleartext.is(b"pencil") { Ok(Some(cleartext.accept(out))) } else { Err(cleartext.refuse()) }
        }
        2 => {
            let state = started.md5(Md5Secret::from_password(b"ann", b"pencil"), [1, 2, 3, 4], out);
            let Some(frame) = server::next_message(&mut rest)? else { return Ok(None) };
            state.receive(frame, out).map(Some)
        }
        _ => {
            let state = started.scram(VERIFIER.clone(), [9; 18], ChannelBinding::None, out)?;
            let Some(frame) = server::next_message(&mut rest)? else { return Ok(None) };
            let state = state.receive(frame, out)?;
            let Some(frame) = server::next_message(&mut rest)? else { return Ok(None) };
            let outcome: std::result::Result<LoggedIn, Error> = state.receive(frame, out);
            outcome.map(Some)
        }
    }
}

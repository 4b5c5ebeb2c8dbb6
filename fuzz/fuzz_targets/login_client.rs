//! Everything that a server may say while we log in to it. The first byte picks what we can prove.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wire::login::client;
use wire::login::{ClientLogin, ClientSecret, ClientStep, Md5Secret, ScramKeys};
use wire::startup::ProtocolVersion;

/// Derived once: the fuzzer must not spend its time on PBKDF2.
static KEYS: LazyLock<ScramKeys> = LazyLock::new(|| ScramKeys::derive(b"pencil", &[1; 16], 1).expect("bounded"));

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, mut rest)) = bytes.split_first() else { return };
    let secret = match choice % 4 {
        0 => ClientSecret::None,
        1 => ClientSecret::Password(b"pencil".to_vec().into()),
        2 => ClientSecret::Md5(Md5Secret::from_password(b"ann", b"pencil")),
        _ => ClientSecret::ScramKeys { keys: KEYS.clone(), nonce: [5; 18] },
    };
    let mut out = Vec::new();
    let database = [(&b"database"[..], &b"shop"[..])];
    let mut login =
        ClientLogin::start(b"ann", database, secret, ProtocolVersion::V3_2, &mut out).expect("it can be said");
    while let Ok(Some(frame)) = client::next_message(&mut rest) {
        login = match login.receive(frame, &mut out) {
            Ok(ClientStep::Continue(login)) => login,
            Ok(ClientStep::Done(established)) => {
                assert!(established.cancel_key.is_none_or(|(_, key)| (4..=256).contains(&key.len())));
                return;
            }
            Ok(ClientStep::Refused(fields)) => {
                assert!(fields.iter().count() <= bytes.len() && !format!("{fields:?}").is_empty());
                return;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        };
        assert!(out.len() <= 64 * 1_024, "what we say during a login is short");
    }
});

//! Anything that a server may say in answer to a request, to a whole proxy: nobody panics, nobody is stuck, the pool gets
//! another server.
#![no_main]

use std::io::Write;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pgweir_fuzz::{Stage, UPSTREAMS, is_ready};

static STAGE: LazyLock<Stage> = LazyLock::new(Stage::new);

const SIMPLE: &[u8] = b"Q\0\0\0\x09boom\0";
const EXTENDED: &[u8] =
    b"P\0\0\0\x0c\0boom\0\0\0B\0\0\0\x0c\0\0\0\0\0\0\0\0D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
const NAMED: &[u8] = b"P\0\0\0\x0da\0boom\0\0\0D\0\0\0\x07Sa\0H\0\0\0\x04S\0\0\0\x04";
const AHEAD: &[u8] = b"Q\0\0\0\x09boom\0Q\0\0\0\x0dselect 1\0";

// The first byte picks the request.
fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    *STAGE.script.lock().expect("nobody panics with it") = bytes.to_vec();
    let mut client = STAGE.client();
    let request = [SIMPLE, EXTENDED, NAMED, AHEAD][usize::from(which % 4)];
    client.write_all(request).expect("the proxy reads");
    is_ready(&mut client);
    drop(client);
    assert!((0..=UPSTREAMS).any(|_| is_served()), "no later client is served");
});

/// A server that says more than it was asked for may say it when its upstream is somebody else's already, who is closed then
/// with that upstream. It can happen once to each upstream of the pool.
fn is_served() -> bool {
    let mut client = STAGE.client();
    client.write_all(b"Q\0\0\0\x0dselect 1\0").expect("the proxy reads");
    is_ready(&mut client)
}

//! Anything that a client may say after login, to a whole proxy: nobody panics, nobody is stuck, nothing is lost.
#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pgweir_fuzz::{Stage, is_ready, read_to_end};

static STAGE: LazyLock<Stage> = LazyLock::new(Stage::new);

// The first byte says how the rest is cut: in pieces of that size, or not at all.
fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let mut client = STAGE.client();
    let size = if size == 0 { bytes.len().max(1) } else { usize::from(size) };
    for piece in bytes.chunks(size) {
        if client.write_all(piece).is_err() {
            break;
        }
    }
    drop(client.shutdown(Shutdown::Write));
    read_to_end(&mut client);
    // Both upstreams are still there for somebody else.
    let mut next = STAGE.client();
    next.write_all(b"Q\0\0\0\x0dselect 1\0").expect("the proxy reads");
    assert!(is_ready(&mut next), "the next client is not served");
});

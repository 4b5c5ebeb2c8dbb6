//! Closing a listening socket without refusing or resetting anybody.
//!
//! A connection belongs to its listening socket from its first packet on. Closing the socket resets what has not been
//! accepted: whole connections in its queue, and those whose handshake is under way, which no accept can take yet. Where
//! another process listens on the same address, the kernel goes on choosing this socket for a share of the newcomers
//! until it is closed, so the queue is never empty for good.
//!
//! So newcomers are turned away first, without a word: a packet filter on the socket drops the first packet of a
//! handshake (SYN without ACK), and nothing else. Handshakes under way end in the queue; who was not heard says it again
//! after a second, as after any lost packet, and by then this socket is closed and the other one hears it.
//!
//! A Unix socket is found by its file, which the other process has taken over or which was taken away before this: only
//! who was on its way at that moment still comes.

use std::future::Future;
use std::io;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::time::Instant;

use super::Origin;
use super::socket::Watched;
use crate::stream::{Peer, Stream};

/// How long handshakes under way may take to end: longer than a round trip, shorter than the second after which an
/// unheard client asks again.
const SETTLE: Duration = Duration::from_millis(500);

/// Drops packets with SYN and without ACK. A TCP socket's filter sees packets from the TCP header on; its 14th byte
/// holds the flags. Codes are those of classic BPF (`linux/bpf_common.h`).
const NO_NEWCOMERS: [SockFilter; 5] = [
    // Load the flags.
    SockFilter::new(0x30, 0, 0, 13),
    // Keep SYN (2) and ACK (16) of them.
    SockFilter::new(0x54, 0, 0, 0x12),
    // SYN alone: go on, else skip one.
    SockFilter::new(0x15, 0, 1, 0x02),
    // Drop.
    SockFilter::new(0x06, 0, 0, 0),
    // Take whole.
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// Takes everybody out of the socket's queue, has each admitted, and closes it.
pub(super) async fn close<F>(listener: Watched, origin: Origin, mut admit: impl FnMut(io::Result<(Stream, Peer)>) -> F)
where
    F: Future<Output = ()>,
{
    if origin == Origin::Shared {
        if let Watched::Tcp(listener) = &listener
            && let Err(error) = SockRef::from(listener).attach_filter(&NO_NEWCOMERS)
        {
            tracing::warn!(%error, "newcomers cannot be turned away; some may be reset while the port closes");
        }
        let settled = Instant::now() + SETTLE;
        while let Ok(accepted) = tokio::time::timeout_at(settled, listener.accept()).await {
            admit(accepted).await;
        }
    }
    // The runtime may not have heard yet of what is in the queue: the system itself is asked until there is nothing.
    let Ok(queue) = listener.unwatched() else { return };
    while let Ok(accepted) = queue.take() {
        admit(Ok(accepted)).await;
    }
}

//! Passing a cancel request on to another instance behind the same address.
//!
//! It goes there as any client's request does, with a mark behind the secret. Who gets a marked request never passes it
//! on to a peer again: addresses that are wrong cannot send it in circles. Secrets of ours are 4 or 32 bytes long, so
//! the mark cannot be a part of one.

use config::PeerAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::encode::frontend as ask;

/// Stands behind the secret of a request that has been passed on.
const MARK: &[u8] = b"pgweir/1";

/// A request's secret, and whether it has been passed on.
pub(super) fn without_mark(key: &[u8]) -> (&[u8], bool) {
    match key.strip_suffix(MARK).filter(|key| !key.is_empty()) {
        Some(key) => (key, true),
        None => (key, false),
    }
}

/// Returns when the peer has closed the connection; `false`: it could not be told.
pub(super) async fn pass_on(address: &PeerAddress, process: u32, key: &[u8]) -> bool {
    let marked = [key, MARK].concat();
    let delivered = async {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        deliver(stream, process, &marked).await
    };
    match delivered.await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(peer = %address, %error, "a cancel request could not be passed on to the peer whose client it is for");
            false
        }
    }
}

/// Sends a cancel request and waits for the end of the connection.
pub(super) async fn deliver<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    mut stream: S,
    process: u32,
    key: &[u8],
) -> std::io::Result<()> {
    let mut out = Vec::new();
    ask::cancel_request(&mut out, process, key).map_err(std::io::Error::other)?;
    stream.write_all(&out).await?;
    let mut end = [0; 64];
    while matches!(stream.read(&mut end).await, Ok(n) if n > 0) {}
    Ok(())
}

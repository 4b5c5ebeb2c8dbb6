//! Bytes to the client, as fast as its socket takes them.

use std::task::{Context, Poll};
use std::time::Instant;

use super::{End, Session};

impl Session {
    pub(super) fn flush_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.unsent.is_empty() {
            return Ok(false);
        }
        match self.client.poll_write(cx, &self.unsent) {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.unsent.drain(..n);
                if self.unsent.is_empty() {
                    self.unsent = Vec::new();
                    let since = self.clogged_since.take();
                    let us = since.map_or(0, |since| since.elapsed().as_micros());
                    self.clogged_us = self.clogged_us.saturating_add(u32::try_from(us).unwrap_or(u32::MAX));
                }
                Ok(true)
            }
            Poll::Ready(_) => Err(End::ClientGone),
            Poll::Pending => Ok(false),
        }
    }

    /// Sends bytes to the client; what its socket does not take waits, and the upstream is not read meanwhile.
    #[inline]
    pub(super) fn send_client(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), End> {
        if bytes.is_empty() || self.leaving {
            return Ok(());
        }
        self.pool.meter.bytes_out.add(bytes.len() as u64);
        let sent = match self.unsent.is_empty() {
            true => self.client.poll_write(cx, bytes),
            false => Poll::Pending,
        };
        let sent = match sent {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) => return Err(End::ClientGone),
            Poll::Pending => 0,
        };
        if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            self.unsent.extend_from_slice(rest);
            self.clogged_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }
}

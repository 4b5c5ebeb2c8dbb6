//! What a server is: primary or standby, writable or not.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::encode::frontend as ask;
use wire::frame;
use wire::tag::Backend;
use wire::view;

use super::hosts::Role;
use crate::stream::Stream;

/// Longest message of the answer; it is two words long.
const MAX_ANSWER: usize = 64 * 1024;

/// What a server of version 14 or later has said about itself at login; `None`: an older one.
pub(super) fn reported(parameters: &[(Vec<u8>, Vec<u8>)]) -> Option<Role> {
    let is_on = |wanted: &[u8]| {
        let said = parameters.iter().find(|(name, _)| name == wanted);
        said.map(|(_, value)| value == b"on")
    };
    let (standby, read_only) = (is_on(b"in_hot_standby")?, is_on(b"default_transaction_read_only")?);
    Some(Role { standby, read_only: standby || read_only })
}

/// Whether a server tells by this ParameterStatus that it is no standby any more. It does behind the first statement that
/// it runs after its promotion; no client can make it say so.
pub fn is_promotion(body: &[u8]) -> bool {
    matches!(view::parameter_status(body), Ok((b"in_hot_standby", b"off")))
}

/// Asks a server that has just let us in; `None`: it does not answer as a server does.
pub(super) async fn ask(stream: &mut Stream) -> Option<Role> {
    let sql = b"SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";
    let mut out = Vec::new();
    ask::query(&mut out, sql).ok()?;
    stream.write_all(&out).await.ok()?;
    let (mut bytes, mut role) = (Vec::new(), None);
    loop {
        let mut rest = bytes.as_slice();
        while let Some(message) = frame::next(&mut rest, MAX_ANSWER).ok()? {
            match Backend::from_byte(message.tag)? {
                Backend::DataRow => role = Some(read(message.body())?),
                Backend::ErrorResponse => return None,
                Backend::ReadyForQuery => return role.filter(|_| rest.is_empty()),
                _ => {}
            }
        }
        let left = rest.len();
        bytes.drain(..bytes.len() - left);
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn read(row: &[u8]) -> Option<Role> {
    let mut values = view::Row::read(row).ok()?;
    let (standby, read_only) = (values.next()?.ok()??, values.next()?.ok()??);
    Some(Role { standby: standby == b"t", read_only: read_only == b"on" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_tells_what_it_is_by_two_parameters() {
        let said = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            reported(&pairs.collect::<Vec<_>>())
        };
        let both = |standby, frozen| [("in_hot_standby", standby), ("default_transaction_read_only", frozen)];
        let role = |standby, read_only| Some(Role { standby, read_only });
        assert_eq!(said(&both("off", "off")), role(false, false));
        assert_eq!(said(&both("off", "on")), role(false, true));
        assert_eq!(said(&both("on", "off")), role(true, true));
        assert_eq!(said(&[("server_version", "13.1")]), None);
    }

    #[test]
    fn a_promotion_is_told_by_one_parameter() {
        assert!(is_promotion(b"in_hot_standby\0off\0"));
        for other in [&b"in_hot_standby\0on\0"[..], b"is_superuser\0off\0", b"in_hot_standby\0off", b""] {
            assert!(!is_promotion(other), "{other:?}");
        }
    }
}

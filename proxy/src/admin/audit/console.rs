//! Commands on the console, as deeds among those of the admin port.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderMap, Method};

use super::entry::{self, Deed, Kind};
use super::wanted;
use crate::admin::AdminContext;
use crate::admin::access::{Role, Viewer};
use crate::admin::request_id::RequestId;

/// Stands where requests have their method.
const METHOD: &[u8] = b"CONSOLE";

/// Somebody who looks at the console has asked for more.
const NOT_ADMIN: &str = "not one of console.admin_users";

/// A command that changes something, from its beginning on. It is noted when it has ended, or when whoever gave it no longer
/// waits for that: it is carried out all the same.
pub(crate) struct Command {
    context: Arc<AdminContext>,
    began: Instant,
    /// `None`: it has been noted.
    deed: Option<Deed>,
}

impl Command {
    /// `user` has given it, from `address` as the console has it; `admin`: one who may.
    pub(crate) fn begin(context: &Arc<AdminContext>, user: &str, admin: bool, address: &str, what: &str) -> Self {
        let role = if admin { Role::Operator } else { Role::Viewer };
        let deed = Deed {
            kind: Kind::Action,
            viewer: Some(Viewer::new(user, role)),
            from: ip_of(address),
            // A word of letters is a method.
            method: Method::from_bytes(METHOD).unwrap_or_default(),
            asked: entry::beginning(what),
            // As for a request that is answered before what it asks for is so.
            status: 202,
            duration: std::time::Duration::ZERO,
            request_id: RequestId::of(&HeaderMap::new()),
            why: None,
        };
        Self { context: context.clone(), began: Instant::now(), deed: Some(deed) }
    }

    /// It has been carried out, or has failed with this SQLSTATE.
    pub(crate) fn ended(mut self, error: Option<&str>) {
        if let Some(deed) = &mut self.deed {
            deed.status = error.map_or(200, status_of);
        }
    }

    /// Whoever gave it may not.
    pub(crate) fn refused(mut self) {
        if let Some(deed) = &mut self.deed {
            (deed.kind, deed.status, deed.why) = (Kind::Refused, 403, Some(NOT_ADMIN));
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if let Some(deed) = self.deed.take() {
            let now = Instant::now();
            let deed = Deed { duration: now.saturating_duration_since(self.began), ..deed };
            self.context.audit.note(deed, wanted(&self.context.state.settings()), now);
        }
    }
}

/// Of an address with its port; `None`: a Unix socket.
fn ip_of(address: &str) -> Option<IpAddr> {
    address.parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
}

/// What the admin port would have answered.
fn status_of(sqlstate: &str) -> u16 {
    match sqlstate {
        // No such database, no such client or key.
        "3D000" | "42704" => 404,
        // Not now, or not as things are.
        "55000" | "57014" => 409,
        // A configuration with mistakes.
        "F0000" => 422,
        _ => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_console_are_those_of_the_port() {
        assert_eq!(ip_of("192.0.2.7:4711"), Some([192, 0, 2, 7].into()));
        assert_eq!(ip_of("[::ffff:192.0.2.7]:4711"), Some([192, 0, 2, 7].into()));
        assert_eq!(ip_of("unix:17"), None);
    }

    #[test]
    fn failures_have_the_numbers_that_http_has_for_them() {
        assert_eq!(["3D000", "55000", "F0000", "22023"].map(status_of), [404, 409, 422, 400]);
    }
}

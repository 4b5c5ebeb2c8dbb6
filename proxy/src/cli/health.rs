//! `pgweir health`: one request to `/readyz`, for container health checks in images that hold no curl.

use std::path::Path;

use super::Failure;
use super::http::Admin;

/// Succeeds if the proxy whose admin port is at `address` says that it is ready. A port that speaks TLS is believed without a
/// proof where none was asked for by `https://`: the question holds no secret, and a container asks itself by an address
/// that stands in no certificate.
///
/// # Errors
/// One line: not an address, nobody there, or not ready.
pub(super) fn ask(address: &str, authorities: Option<&Path>) -> Result<(), Failure> {
    let silent = |error| {
        format!("pgweir does not answer at {address}: {error}; is it running, and is admin.listen this address?")
    };
    let admin = Admin::new(address, None)?.believing(authorities)?;
    let mut answer = admin.get("/readyz").map_err(silent)?;
    if answer.wants_tls() {
        answer = admin.unproven()?.get("/readyz").map_err(silent)?;
    }
    match answer.status {
        200 => super::print("ready\n"),
        status => Err(format!("pgweir at {address} is not ready: /readyz answered {status}").into()),
    }
}

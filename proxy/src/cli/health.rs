//! `pgweir health`: one request to `/readyz`, for container health checks in images that hold no curl.

use super::Failure;
use super::http::Admin;

/// Succeeds if the proxy whose admin port is at `address` says that it is ready.
///
/// # Errors
/// One line: not an address, nobody there, or not ready.
pub(super) fn ask(address: &str) -> Result<(), Failure> {
    let answer = Admin::new(address, None)?.get("/readyz").map_err(|error| {
        format!("pgweir does not answer at {address}: {error}; is it running, and is admin.listen this address?")
    })?;
    match answer.status {
        200 => super::print("ready\n"),
        status => Err(format!("pgweir at {address} is not ready: /readyz answered {status}").into()),
    }
}

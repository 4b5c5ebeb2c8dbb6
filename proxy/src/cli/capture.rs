//! `pgweir capture`: has a running pgweir write its events to a file, and waits for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::http::Admin;

/// Between two looks at a capture that runs.
const PAUSE: Duration = Duration::from_millis(250);

/// What is captured, and where.
#[derive(Debug, Args)]
pub(super) struct Capture {
    /// The admin address of the pgweir that is to write
    #[arg(long, value_name = "ADDRESS", env = "PGWEIR_ADMIN", default_value = "127.0.0.1:6433")]
    admin: String,
    /// Its token, if it has one. Other users see flags: prefer the variable
    #[arg(long, value_name = "TOKEN", env = "PGWEIR_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// PEM file with the authority of its certificate, or with the certificate itself, where its address is https://…
    #[arg(long, value_name = "FILE", env = "PGWEIR_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
    /// The name of the file in the folder that its capture.directory names [default: capture-<time>.jsonl]
    #[arg(long, value_name = "NAME")]
    out: Option<String>,
    /// End after so many seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// End before the file is larger: bytes, kB, MB or GB (of 1024)
    #[arg(long, value_name = "SIZE", default_value = "100MB")]
    max_size: String,
    /// What becomes of values: drop, hash (equal ones stay equal) or keep (where capture.allow_values is on)
    #[arg(long, value_name = "WHAT", default_value = "hash")]
    values: String,
    /// End the running capture instead of beginning one
    #[arg(long)]
    stop: bool,
}

/// Begins a capture, waits until it has ended, and says where the file is. Whoever interrupts the waiting leaves the
/// capture to its bounds.
///
/// # Errors
/// One line: nobody there, refused, or the file could not be written.
pub(super) fn run(capture: &Capture) -> Result<(), Failure> {
    let admin = Admin::new(&capture.admin, capture.admin_token.clone())?.believing(capture.admin_ca.as_deref())?;
    let status = if capture.stop {
        ask(&admin, "DELETE", "/api/v1/capture")?
    } else {
        let mut status = ask(&admin, "POST", &path(capture)?)?;
        let begun = status.get("file").cloned();
        while status.get("state").and_then(Value::as_str).is_some_and(|state| state != "ended") {
            std::thread::sleep(PAUSE);
            let mut answer = ask(&admin, "GET", "/api/v1/capture")?;
            status = answer.get_mut("capture").map(Value::take).unwrap_or_default();
            if status.get("file") != begun.as_ref() {
                let file = begun.as_ref().and_then(Value::as_str).unwrap_or_default();
                return Err(format!(
                    "{file}: pgweir no longer knows of it; was it started anew? The file may lack its end"
                )
                .into());
            }
        }
        status
    };
    let text = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(error) = status.get("error").and_then(Value::as_str) {
        return Err(format!("{}: {error}", text("file")).into());
    }
    let number = |key: &str| status.get(key).and_then(Value::as_u64).unwrap_or(0);
    let missing = number("dropped") + number("unknown");
    let complete = if missing == 0 { String::new() } else { format!(", {missing} more are missing") };
    super::print(&format!("{}: {} statements{complete}; ended: {}\n", text("file"), number("events"), text("reason")))
}

fn path(capture: &Capture) -> Result<String, Failure> {
    let size = bytes(&capture.max_size)
        .ok_or_else(|| format!("--max-size {}: write bytes, or a number with kB, MB or GB", capture.max_size))?;
    // Whatever a query cannot hold as it stands is no name of a file here, and no word either.
    let plain = |name: &str, value: &str| match value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        true => Ok(format!("&{name}={value}")),
        false => Err(format!("{value}: use letters, digits, `.`, `_` and `-`; the folder is capture.directory")),
    };
    let file = capture.out.as_deref().map_or(Ok(String::new()), |name| plain("file", name))?;
    let values = plain("values", &capture.values)?;
    Ok(format!("/api/v1/capture?seconds={}&max_bytes={size}{values}{file}", capture.seconds))
}

fn bytes(size: &str) -> Option<u64> {
    let digits = size.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &*size.get(digits.len()..)?.to_ascii_lowercase() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn ask(admin: &Admin, method: &str, path: &str) -> Result<Value, Failure> {
    let address = admin.address();
    let answer = admin.send(method, path).map_err(|error| {
        format!("pgweir does not answer at {address}: {error}; is it running, and is admin.listen this address?")
    })?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        200 => Ok(body),
        _ => {
            Err(format!("pgweir at {address}: {}", body.get("detail").and_then(Value::as_str).unwrap_or("refused"))
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(["7", "4kB", "100MB", "2GB"].map(bytes), [Some(7), Some(4096), Some(100 << 20), Some(2 << 30)]);
        assert_eq!(["", "MB", "1.5MB", "4XB", "99999999999999GB"].map(bytes), [None; 5]);
    }
}

//! `pgweir explain-policy`: whose a login or a statement would be, what holds for it, and which rule and table say so.
//!
//! Rules, limits and the reading of a text are those of the running proxy.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use config::Mute;

use super::Failure;
use crate::explain::{Policy, Wish};
use crate::source::Source;
use crate::tenant_table::{MAX_TOLD, Taken};

#[cfg(test)]
mod tests;

/// What is known of a login, and a statement of it.
#[derive(Debug, Default, Args)]
pub(super) struct Explain {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "PGWEIR_CONFIG")]
    config: PathBuf,
    /// The user who logs in, as the client sends the name
    #[arg(long, value_name = "NAME")]
    user: String,
    /// The database that is asked for [default: the user's name]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Its application_name
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// A startup parameter, or a `-c name=value` of the startup options; may be repeated
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
    /// A setting that the session has SET; may be repeated
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,
    /// A key of the comments at the statement's ends, besides those in --sql; may be repeated
    #[arg(long = "comment", value_name = "KEY=VALUE", value_parser = pair)]
    comments: Vec<(String, String)>,
    /// The host name asked for in the TLS handshake
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// The common name of the client's certificate
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
    /// Where the client connects from
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// A statement: its fingerprint, and whether it would be refused
    #[arg(long, value_name = "TEXT")]
    sql: Option<String>,
    /// The fingerprint of a statement, for the limits that it has of its own
    #[arg(long, value_name = "HEX", value_parser = fingerprint, conflicts_with = "sql")]
    fingerprint: Option<u64>,
    /// Ask the table of tenants too, if the configuration names one
    #[arg(long)]
    connect: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("has no =; write name=value")?;
    if name.is_empty() { Err("has no name; write name=value") } else { Ok((name.to_owned(), value.to_owned())) }
}

fn fingerprint(text: &str) -> Result<u64, &'static str> {
    Mute::parse_fingerprint(text).map_err(|_| "is not a fingerprint; write its 16 hexadecimal digits")
}

/// Prints what holds.
///
/// # Errors
/// Every mistake of the configuration, a line each; or why its table of tenants cannot be read, where that is wanted.
pub(super) fn run(explain: &Explain) -> Result<(), Failure> {
    let source = Source { file: Some(explain.config.clone()), ..Source::default() };
    let mut settings = source.load()?;
    match &settings.tenants.table {
        Some(_) if explain.connect => {
            let taken = super::check::read_rows(&settings);
            let Taken { rows, wrong } = taken.map_err(|why| format!("the table of tenants cannot be read: {why}"))?;
            settings = settings.with_rows(&rows);
            for (tenant, why) in wrong.iter().take(MAX_TOLD) {
                let note = format!("note: a row of the table of tenants is wrong and left out: {tenant}: {why}\n");
                std::io::stderr().write_all(note.as_bytes())?;
            }
        }
        Some(table) => {
            // Beside what is printed: scripts read that.
            let note = format!("note: the table of tenants in {} is not asked; --connect does\n", table.database);
            std::io::stderr().write_all(note.as_bytes())?;
        }
        None => {}
    }
    let policy = Policy::of(&explain.wish(), &settings);
    super::print(&if explain.json { policy.page() } else { policy.text() })
}

impl Explain {
    fn wish(&self) -> Wish {
        Wish {
            user: self.user.clone(),
            database: self.database.clone(),
            application: self.application.clone(),
            options: self.options.clone(),
            settings: self.settings.clone(),
            comments: self.comments.clone(),
            sni: self.sni.clone(),
            certificate: self.certificate.clone(),
            address: self.address,
            sql: self.sql.clone(),
            fingerprint: self.fingerprint,
        }
    }
}

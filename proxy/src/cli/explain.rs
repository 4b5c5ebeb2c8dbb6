//! `pgweir explain-policy`: whose a login or a statement would be, what holds for it, and which rule and table say so.
//!
//! Rules, limits and the reading of a text are those of the running proxy.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use config::{Mode, Mute, Settings};
use policy::fingerprint::Compat;
use policy::limits::{Explained, LimitTable};
use policy::tenant::{Directory, Facts, Lookup, Resolver, split_user};
use policy::verdict::Report;

use super::Failure;
use crate::session::brain::{Brain, Sent};
use crate::source::Source;

mod judge;
mod page;
#[cfg(test)]
mod tests;

use judge::Whose;

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
/// Every mistake of the configuration, a line each.
pub(super) fn run(explain: &Explain) -> Result<(), Failure> {
    let source = Source { file: Some(explain.config.clone()), ..Source::default() };
    let policy = Policy::of(explain, &source.load()?);
    super::print(&if explain.json { policy.json() } else { policy.text() })
}

/// What holds for a login or a statement.
struct Policy {
    tenant: String,
    /// The place of the rule that names it, from 1, and what the rule is; `None`: none does.
    tenant_rule: Option<(usize, String)>,
    /// Empty: none.
    class: String,
    class_rule: Option<(usize, String)>,
    limits: Vec<Explained>,
    statement: Option<Statement>,
}

/// A statement, as far as it is known.
struct Statement {
    fingerprint: u64,
    /// Whether a table says something of just this one.
    has_limits: bool,
    /// `None`: its fingerprint alone is known.
    text: Option<Text>,
}

/// What follows from a text.
struct Text {
    normalised: String,
    /// The limits that speak against it, in the order in which they are told.
    objections: Vec<Objection>,
    /// The LIMIT that is put behind it.
    row_limit: Option<(u64, Mode)>,
}

struct Objection {
    limit: &'static str,
    mode: Mode,
    report: Report,
}

impl Text {
    /// The first one that is more than looked at: it is what the client is told.
    fn refused_by(&self) -> Option<&Objection> {
        self.objections.iter().find(|objection| objection.mode == Mode::Enforce)
    }
}

impl Policy {
    fn of(explain: &Explain, settings: &Settings) -> Self {
        let tenants = &settings.tenants;
        let directory = Directory::new(tenants);
        let (resolver, table) = (Resolver::new(tenants), LimitTable::new(tenants, &directory));
        let mut brain = Brain::new(Compat::of_major(settings.observe.compat).unwrap_or(Compat::V15));
        let look = explain.sql.as_deref().map(|sql| brain.look_at(sql.as_bytes(), false, Sent::ToRun, &mut Vec::new()));
        let mut comments = Comments::default();
        for tag in look.iter().flat_map(|look| look.comments.tags()) {
            let key = String::from_utf8_lossy(tag.key).into_owned();
            comments.0.push((key, tag.decoded().to_string()));
        }
        comments.0.extend(explain.comments.iter().cloned());
        let (user, suffix) = split_user(tenants, &explain.user);
        let startup = Startup::of(explain);
        let current = Current { set: Pairs(&explain.settings), startup: &startup };
        let sni = explain.sni.as_deref().unwrap_or_default().to_ascii_lowercase();
        let facts = Facts {
            user,
            user_suffix: suffix,
            database: explain.database.as_deref().unwrap_or(user),
            application_name: current.value("application_name").unwrap_or_default(),
            server_name: &sni,
            certificate: explain.certificate.as_deref().unwrap_or_default(),
            address: explain.address,
            startup: &startup,
            settings: &current,
            comment: &comments,
        };
        let resolution = resolver.resolve(&facts);
        let rule = |place: usize| Some((place + 1, tenants.rules.get(place)?.origin.shown()));
        let tenant_rule = resolution.rule.and_then(rule);
        let id = directory.id(&resolution.tenant);
        // A name that is too long counts as another one.
        let tenant = directory.name(id).to_string();
        let class_id = resolver.class(&facts);
        let rule = |place: usize| Some((place + 1, tenants.classes.get(place)?.origin.shown()));
        let class_rule = resolver.class_rule(&facts).and_then(rule);
        let class = resolver.class_name(class_id).to_owned();
        let whose = Whose { table: &table, tenant: &tenant, class: &class };
        let known = look.map(|look| look.known);
        let statement = match (&known, explain.fingerprint) {
            (Some(known), _) => Some(whose.statement(table.of(id, class_id), known)),
            (None, Some(strict)) => Some(whose.fingerprint(strict)),
            (None, None) => None,
        };
        let strict = statement.as_ref().filter(|statement| statement.has_limits).map(|of| of.fingerprint);
        let mut limits = table.explain(&tenant, &class, strict);
        limits.retain(Explained::is_said);
        Self { tenant, tenant_rule, class, class_rule, limits, statement }
    }
}

/// Names and values, of which the last of a name counts.
struct Pairs<'a>(&'a [(String, String)]);

impl Lookup for Pairs<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().rev().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }
}

/// What the startup packet says.
struct Startup<'a> {
    options: Pairs<'a>,
    application: Option<&'a str>,
}

impl<'a> Startup<'a> {
    fn of(explain: &'a Explain) -> Self {
        Self { options: Pairs(&explain.options), application: explain.application.as_deref() }
    }
}

impl Lookup for Startup<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let application = self.application.filter(|_| name.eq_ignore_ascii_case("application_name"));
        application.or_else(|| self.options.value(name))
    }
}

/// The session's settings: what it has SET, over what it began with.
struct Current<'a> {
    set: Pairs<'a>,
    startup: &'a Startup<'a>,
}

impl Lookup for Current<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.set.value(name).or_else(|| self.startup.value(name))
    }
}

/// What the comments say: those of the text, then those of the arguments.
#[derive(Default)]
struct Comments(Vec<(String, String)>);

impl Lookup for Comments {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

//! Whose a login or a statement would be, what holds for it, and which rule and table say so: for `pgweir explain-policy`
//! and the admin port.
//!
//! Rules, limits and the reading of a text are those of the running proxy.

use std::net::IpAddr;

use config::{LimitKey, Mode, Settings};
use policy::fingerprint::Compat;
use policy::limits::{Explained, LimitTable};
use policy::tenant::{Directory, Facts, Lookup, NOTHING, Resolver, split_user};
use policy::verdict::Report;

use crate::session::brain::{Brain, Lexing, Sent};

mod judge;
mod page;

use judge::Whose;

/// What is known of a login, and a statement of it.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    /// The user who logs in, as the client sends the name.
    pub(crate) user: String,
    /// The database that is asked for; `None`: as the user is called.
    pub(crate) database: Option<String>,
    /// Its `application_name`.
    pub(crate) application: Option<String>,
    /// Startup parameters, the last of a name counts.
    pub(crate) options: Vec<(String, String)>,
    /// Settings that the session has SET; the same.
    pub(crate) settings: Vec<(String, String)>,
    /// Keys of the comments at the statement's ends, besides those in `sql`.
    pub(crate) comments: Vec<(String, String)>,
    /// The host name asked for in the TLS handshake.
    pub(crate) sni: Option<String>,
    /// The common name of the client's certificate.
    pub(crate) certificate: Option<String>,
    /// Where the client connects from.
    pub(crate) address: Option<IpAddr>,
    /// A statement.
    pub(crate) sql: Option<String>,
    /// The fingerprint of a statement whose text is not known.
    pub(crate) fingerprint: Option<u64>,
}

/// What holds for a login or a statement.
pub(crate) struct Policy {
    pub(crate) tenant: String,
    /// The place of the rule that names it, from 1, and what the rule is; `None`: none does.
    pub(crate) tenant_rule: Option<(usize, String)>,
    /// Empty: none.
    pub(crate) class: String,
    pub(crate) class_rule: Option<(usize, String)>,
    /// What holds for all of the tenant's sessions of the class.
    pub(crate) limits: Vec<Explained>,
    /// Whose the connection remains, where the comments make the statement another's.
    pub(crate) connection: Option<Connection>,
    pub(crate) statement: Option<Statement>,
}

/// Whose a connection is, whatever a statement's comments say; and what its server has been told of that.
pub(crate) struct Connection {
    pub(crate) tenant: String,
    /// Empty: none.
    pub(crate) class: String,
    pub(crate) limits: Vec<Explained>,
}

impl Connection {
    fn of(table: &LimitTable, tenant: String, class: String) -> Self {
        let mut limits = table.explain(&tenant, &class);
        limits.retain(|limit| {
            let is_told = matches!(limit.key, LimitKey::StatementTimeout | LimitKey::ReadOnly);
            is_told && limit.value.is_some() && limit.mode == Some(Mode::Enforce)
        });
        Self { tenant, class, limits }
    }
}

/// A statement, as far as it is known.
pub(crate) struct Statement {
    pub(crate) fingerprint: u64,
    /// What a table says of just this one; `None`: none does.
    pub(crate) limits: Option<Vec<Explained>>,
    /// `None`: its fingerprint alone is known.
    pub(crate) text: Option<Text>,
}

/// What follows from a text.
pub(crate) struct Text {
    pub(crate) normalised: String,
    /// The limits that speak against it, in the order in which they are told.
    pub(crate) objections: Vec<Objection>,
    /// The LIMIT that is put behind it.
    pub(crate) row_limit: Option<(u64, Mode)>,
}

pub(crate) struct Objection {
    pub(crate) limit: &'static str,
    pub(crate) mode: Mode,
    pub(crate) report: Report,
}

impl Text {
    /// The first one that is more than looked at: it is what the client is told.
    pub(crate) fn refused_by(&self) -> Option<&Objection> {
        self.objections.iter().find(|objection| objection.mode == Mode::Enforce)
    }
}

impl Policy {
    /// Of what is known of a login, under these settings.
    pub(crate) fn of(wish: &Wish, settings: &Settings) -> Self {
        let tenants = &settings.tenants;
        let directory = Directory::new(tenants);
        let (resolver, table) = (Resolver::new(tenants, &directory), LimitTable::new(tenants, &directory));
        let mut brain = Brain::new(Compat::of_major(settings.observe.compat).unwrap_or(Compat::V15));
        let look = wish
            .sql
            .as_deref()
            .map(|sql| brain.look_at(sql.as_bytes(), Lexing::default(), Sent::ToRun, &mut Vec::new()));
        let mut comments = Comments::default();
        for tag in look.iter().flat_map(|look| look.comments.tags()) {
            let key = String::from_utf8_lossy(tag.key).into_owned();
            comments.0.push((key, tag.decoded().to_string()));
        }
        comments.0.extend(wish.comments.iter().cloned());
        let (user, suffix) = split_user(tenants, &wish.user);
        let startup = Startup::of(wish);
        let current = Current { set: Pairs(&wish.settings), startup: &startup };
        let sni = wish.sni.as_deref().unwrap_or_default().to_ascii_lowercase();
        let facts = Facts {
            user,
            user_suffix: suffix,
            database: wish.database.as_deref().unwrap_or(user),
            application_name: current.value("application_name").unwrap_or_default(),
            server_name: &sni,
            certificate: wish.certificate.as_deref().unwrap_or_default(),
            address: wish.address,
            startup: &startup,
            settings: &current,
            comment: &comments,
        };
        let whose = |facts: &Facts<'_>| {
            let id = directory.id(&resolver.resolve(facts).tenant);
            // A name that is too long counts as another one.
            (directory.name(id).to_string(), resolver.class_name(resolver.class(facts)).to_owned())
        };
        let resolution = resolver.resolve(&facts);
        let rule = |place: usize| Some((place + 1, tenants.rules.get(place)?.origin.shown()));
        let tenant_rule = resolution.rule.and_then(rule);
        let id = directory.id(&resolution.tenant);
        let (tenant, class) = whose(&facts);
        let class_id = resolver.class(&facts);
        let rule = |place: usize| Some((place + 1, tenants.classes.get(place)?.origin.shown()));
        let class_rule = resolver.class_rule(&facts).and_then(rule);
        let silent = whose(&Facts { comment: &NOTHING, ..facts });
        let connection = Some(silent).filter(|(other, own)| (other, own) != (&tenant, &class));
        let connection = connection.map(|(tenant, class)| Connection::of(&table, tenant, class));
        let whose = Whose { table: &table, tenant: &tenant, class: &class };
        let known = look.map(|look| look.known);
        let statement = match (&known, wish.fingerprint) {
            (Some(known), _) => {
                let sql = wish.sql.as_deref().unwrap_or_default();
                Some(whose.statement(table.of(id, class_id), known, sql.as_bytes()))
            }
            (None, Some(strict)) => Some(whose.fingerprint(strict)),
            (None, None) => None,
        };
        let mut limits = table.explain(&tenant, &class);
        limits.retain(Explained::is_said);
        Self { tenant, tenant_rule, class, class_rule, limits, connection, statement }
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
    fn of(wish: &'a Wish) -> Self {
        Self { options: Pairs(&wish.options), application: wish.application.as_deref() }
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

//! `pgweir check --connect`: logs in to each database, and looks whether the read cache can hear of writes there.

mod hearing;
mod read;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::{CacheEffect, CacheFreshness, Database, Settings};
use policy::tenant::Directory;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use crate::aside::Kind;
use crate::cancel::key::{Layout, ProcessIds};
use crate::control::told;
use crate::inspect::Session;
use crate::login::target_beside;
use crate::pool::DialFailure;
use crate::shared::Shared;
use crate::telemetry::{Bounds, Clock, Telemetry};
use crate::tenant_table::read::{self as tenant_table, Row};
use crate::tenant_table::{MAX_TOLD, Taken, TenantTable};
use crate::upstream::resolve;
use hearing::Wanted;

/// How long one database may take, login included.
const PATIENCE: Duration = Duration::from_secs(15);

/// What was found.
pub(super) struct Report {
    /// Lines for people.
    pub(super) text: String,
    /// Databases that could not be logged in to, or lack something.
    pub(super) lacking: usize,
}

/// Logs in to each database in its turn.
///
/// # Errors
/// The system has no runtime to give.
pub(super) fn connect(settings: &Settings) -> std::io::Result<Report> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    Ok(runtime.block_on(all(settings)))
}

async fn all(settings: &Settings) -> Report {
    let shared = alone(settings);
    let wanted = Wanted::of(&settings.cache);
    let mut report = Report { text: String::new(), lacking: 0 };
    for (name, database) in &settings.databases {
        one(&shared, name, database, wanted.as_ref(), &mut report).await;
    }
    if let Some(database) = &settings.wildcard {
        // There is one that all names lead to, or any name will do and there is none to try.
        match database.upstream.database {
            Some(_) => one(&shared, "*", database, wanted.as_ref(), &mut report).await,
            None => put(
                &mut report.text,
                "connect",
                "*: stands for any database; give one a table of its own to have it looked at",
            ),
        }
    }
    if let Some(table) = &settings.tenants.table {
        match tokio::time::timeout(PATIENCE, rows(&shared, table))
            .await
            .unwrap_or_else(|_| Err("it took too long".to_owned()))
        {
            Ok(rows) => tell_rows(settings, table, rows, &mut report),
            Err(why) => {
                report.lacking += 1;
                put(&mut report.text, "tenants", &format!("the table in {}: {why}", table.database));
            }
        }
    }
    report
}

/// The rows of the table of tenants, and those that are wrong.
///
/// # Errors
/// Why they cannot be read.
pub(super) fn read_rows(settings: &Settings) -> Result<Taken, String> {
    let Some(table) = &settings.tenants.table else { return Ok(Taken::default()) };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.map_err(|error| error.to_string())?;
    let read = async { tokio::time::timeout(PATIENCE, rows(&alone(settings), table)).await };
    let read = runtime.block_on(read).unwrap_or_else(|_| Err("it took too long".to_owned()))?;
    Ok(TenantTable::default().take(read, &settings.tenants.limits))
}

async fn rows(shared: &Arc<Shared>, table: &config::TenantTable) -> Result<Vec<Row>, String> {
    let (pool, target) = tenant_table::target(&shared.settings(), &table.database).ok_or(tenant_table::NOBODY)?;
    let mut session = tenant_table::open(shared, &pool, &target).await?;
    tenant_table::fingerprint(&mut session, &table.query).await?;
    tenant_table::rows(&mut session, &table.query).await
}

fn tell_rows(settings: &Settings, table: &config::TenantTable, rows: Vec<Row>, report: &mut Report) {
    let Taken { rows, wrong } = TenantTable::default().take(rows, &settings.tenants.limits);
    let (good, database) = (rows.len(), &table.database);
    put(
        &mut report.text,
        "tenants",
        &format!("the table in {database} has limits of {good} tenants, and {} wrong rows", wrong.len()),
    );
    report.lacking += usize::from(!wrong.is_empty());
    for (tenant, why) in wrong.iter().take(MAX_TOLD) {
        put(&mut report.text, "", &format!("{tenant}: {why}"));
    }
}

/// What connections are made with, without a proxy around it.
fn alone(settings: &Settings) -> Arc<Shared> {
    let directory = Arc::new(Directory::new(&settings.tenants));
    let clock = Clock::new(Instant::now(), SystemTime::now());
    let telemetry = Telemetry::new(clock, Bounds::default(), directory.clone());
    let processes = ProcessIds::new(Layout::new(settings.peers.own, 0, 1), "check");
    let (orders, _) = mpsc::unbounded_channel();
    let resolver = Arc::new(resolve::System);
    Arc::new(Shared::new(settings.clone(), resolver, processes, directory, telemetry, Box::default(), orders))
}

async fn one(shared: &Arc<Shared>, name: &str, database: &Database, wanted: Option<&Wanted>, report: &mut Report) {
    let settings = shared.settings();
    let Some((pool, target)) = target_beside(&settings, name, database) else {
        report.lacking += 1;
        let why =
            "not tried: nobody to log in as; put a user and a password into its URL, or a password into [users.NAME]";
        return put(&mut report.text, "connect", &format!("{name}: {why}"));
    };
    let whole = async {
        let place = shared.beside(Kind::Inspection).map_err(|_| "max_side_connections is reached".to_owned())?;
        let dialled = target.dial(shared, &pool, pool.connect_timeout).await.map_err(|failure| said(told(failure)))?;
        let mut session = Session::over(dialled, place).map_err(|error| error.to_string())?;
        session.prepare().await?;
        let server = read::server(&mut session).await?;
        let heard = match wanted {
            Some(wanted) => Some(read::heard(&mut session, &settings.cache.publication, wanted).await?),
            None => None,
        };
        Ok::<_, String>((server, heard))
    };
    let at = format!("{} at {target}/{}", target.user, target.database);
    match tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err("it took too long".to_owned())) {
        Err(why) => {
            report.lacking += 1;
            put(&mut report.text, "connect", &format!("{name}: {at}: {why}"));
        }
        Ok((server, heard)) => {
            put(&mut report.text, "connect", &format!("{name}: PostgreSQL {} as {at}", server.version));
            let Some((heard, wanted)) = heard.zip(wanted) else { return };
            let lacks = hearing::lacks(&server, &heard, &settings.cache.publication);
            report.lacking += usize::from(!lacks.is_empty());
            hearing::tell(&mut report.text, name, &lacks, &heard, wanted, &settings.cache.publication);
        }
    }
}

fn said(failure: DialFailure) -> String {
    match failure {
        DialFailure::Said { message, .. } => message.into(),
        DialFailure::Unreachable(failure) => failure.words().to_owned(),
        DialFailure::NoneFits(attrs) => format!("none of its servers is {}", attrs.as_str()),
    }
}

/// A line of the summary.
fn put(text: &mut String, what: &str, line: &str) {
    // Names are whatever somebody there has called a table, and this is a terminal.
    let line: String = line.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{what:<10} {line}");
}

impl Wanted {
    /// What has to be heard of; `None`: nothing, since nothing but time ends answers or nobody else writes.
    fn of(cache: &config::Cache) -> Option<Self> {
        let follows = |rule: &&config::CacheRule| {
            rule.effect == CacheEffect::Allow && rule.freshness != CacheFreshness::Ttl && !cache.sole_writer
        };
        let mut wanted = Self::default();
        let mut any = false;
        for rule in cache.rules.iter().filter(follows) {
            any = true;
            wanted.unnamed |= rule.tables.is_empty();
            for table in &rule.tables {
                if !wanted.tables.contains(table) {
                    wanted.tables.push(table.clone());
                }
            }
        }
        any.then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use config::{NoSources, Overrides};

    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::from_toml(text, &Overrides::default(), &NoSources).unwrap()
    }

    #[test]
    fn only_rules_that_follow_writes_of_others_want_a_publication() {
        let wanted = |text: &str| {
            let wanted = Wanted::of(&settings(&format!("[databases.a]\nupstream = 'postgres://h'\n{text}")).cache);
            wanted.map(|wanted| (wanted.tables.join(" "), wanted.unnamed))
        };
        let rule = |table: &str, more: &str| format!("[[cache.rule]]\ntables = ['{table}']\nttl = '1m'\n{more}");
        assert_eq!(wanted(""), None);
        assert_eq!(wanted(&rule("a", "freshness = 'ttl'\n")), None);
        assert_eq!(wanted("[[cache.rule]]\neffect = 'deny'\nhinted = true\n"), None);
        assert_eq!(wanted(&format!("[cache]\nsole_writer = true\n{}", rule("a", ""))), None);
        let two =
            rule("a", "") + &rule("b", "freshness = 'strict'\n") + &rule("a", "") + &rule("c", "freshness = 'ttl'\n");
        assert_eq!(wanted(&two), Some(("a b".to_owned(), false)));
        assert_eq!(wanted(&(two + "[[cache.rule]]\nhinted = true\nttl = '1s'\n")), Some(("a b".to_owned(), true)));
        assert_eq!(wanted("[cache]\npreset = 'workflow-engine'\n").unwrap().0, "events users servers logs workflows");
    }
}

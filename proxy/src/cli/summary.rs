//! What `pgweir check` says about a valid configuration.

use std::fmt::Write as _;

use config::units::show_duration;
use config::{Database, LimitKey, PoolMode, Settings, Tenants};

/// A few lines for people: what would be served, how, and what is probably not meant. No secrets.
pub(super) fn summary(file: &str, settings: &Settings, more: &[String]) -> String {
    let mut text = String::new();
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    let admin = settings.admin.as_ref().map_or_else(
        || "off".to_owned(),
        |admin| {
            let token = if admin.tokens.is_empty() { "without a token" } else { "with a token" };
            format!("{} ({token}{})", admin.listen, if admin.tls.is_some() { ", TLS" } else { "" })
        },
    );
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{file}: valid");
    let _ = writeln!(text, "listen     {}, at most {} clients", listen.join(", "), settings.max_clients);
    let _ = writeln!(text, "admin      {admin}");
    let _ = writeln!(text, "workers    {}", settings.workers);
    let _ = writeln!(text, "tls        {}", settings.tls.mode.word());
    let _ = writeln!(text, "login      {}", login(settings));
    for (name, database) in &settings.databases {
        let _ = writeln!(text, "database   {}", line(name, database));
    }
    if let Some(database) = &settings.wildcard {
        let _ = writeln!(text, "database   {}", line("*", database));
    }
    let _ = writeln!(text, "tenants    {}", tenants(settings));
    if settings.tenants != Tenants::default() {
        let _ = writeln!(text, "           pgweir explain-policy --config {file} --user NAME says what holds for whom");
    }
    for warning in settings.warnings().iter().chain(more) {
        let _ = writeln!(text, "warning    {warning}");
    }
    text
}

fn login(settings: &Settings) -> String {
    let by = match &settings.auth.hba {
        Some(hba) => format!("by {} rules of hba_file, else refused", hba.rules.len()),
        None => settings.auth.method.word().to_owned(),
    };
    let databases = settings.databases.values().chain(&settings.wildcard);
    let asking = databases.filter(|database| database.auth_query.is_some()).count();
    let asked = if asking > 0 { format!(", others looked up for {asking} databases") } else { String::new() };
    format!("{by}; {} users listed{asked}", settings.users.len())
}

fn line(name: &str, database: &Database) -> String {
    let upstream = &database.upstream;
    let mode = match database.pool.mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    };
    let there = upstream.database.as_deref().unwrap_or("(same name)");
    let user = upstream.user.as_deref().unwrap_or("(the client's user)");
    let size = database.pool.size;
    let hosts: Vec<String> = upstream.hosts.iter().map(ToString::to_string).collect();
    let wanted = match upstream.session_attrs {
        config::SessionAttrs::Any => String::new(),
        attrs => format!(" ({})", attrs.as_str()),
    };
    format!("{name} -> {user} at {}/{there}{wanted}, {mode} mode, {size} connections for each user", hosts.join(","))
}

fn tenants(settings: &Settings) -> String {
    let tenants = &settings.tenants;
    let rules: Vec<String> = tenants.rules.iter().map(|rule| rule.origin.shown()).collect();
    let by = if rules.is_empty() { "no rules".to_owned() } else { format!("by {}", rules.join(", then ")) };
    let timeout = tenants.default_limits.time(LimitKey::StatementTimeout).filter(|timeout| !timeout.is_zero());
    let limit = timeout.map_or_else(|| "none".to_owned(), show_duration);
    let table =
        tenants.table.as_ref().map_or_else(String::new, |table| format!("; more in a table of {}", table.database));
    format!(
        "{by}, else \"{}\"; statement timeout {limit}, {} classes, {} tenants and {} statements with limits of their own{table}",
        tenants.default,
        tenants.class_names().len(),
        tenants.limits.len(),
        tenants.fingerprints.len()
    )
}

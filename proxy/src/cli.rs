//! The command line: arguments in, exit code out. What a command does lives elsewhere.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use config::{Overrides, Settings};
use rand::RngExt;

use crate::source::Source;
use crate::tls;

mod ask;
mod capture;
mod check;
mod explain;
mod health;
mod http;
mod pages;
mod statements;
mod status;
mod summary;
mod token;
mod top;
mod watch;

/// A PostgreSQL proxy that pools, understands every statement and holds tenants to their limits.
#[derive(Debug, Parser)]
#[command(name = "pgweir", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM; SIGHUP reads the configuration again
    Serve(Box<Serve>),
    /// Check a configuration file: what it means, or every mistake in it
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE", env = "PGWEIR_CONFIG")]
        config: PathBuf,
        /// Log in to each database too, and say what it lacks for the read cache, with the SQL that mends it
        #[arg(long)]
        connect: bool,
    },
    /// Say whose a login or a statement would be, and which limits hold for it
    ExplainPolicy(Box<explain::Explain>),
    /// Read statements as JSON strings, one a line; print strict id, family id and normalised text of each
    Fingerprint {
        /// Group as pg_stat_statements of this major version does: 15 to 18
        #[arg(long, value_name = "VERSION", default_value_t = 15)]
        compat: u16,
    },
    /// Look for N+1 in recorded event streams, or in what `pgweir capture` has written; a JSON object for each out
    Analyze {
        /// The streams; a line with an `events` array is one independent stream, and so is a capture
        file: PathBuf,
        /// Thresholds: development or production
        #[arg(long, value_name = "PROFILE", default_value = "development")]
        profile: String,
        /// Group as pg_stat_statements of this major version does: 15 to 18
        #[arg(long, value_name = "VERSION", default_value_t = 15)]
        compat: u16,
    },
    /// Have a running pgweir write its event stream to a file for a while, and wait until it has
    Capture(capture::Capture),
    /// Show findings of a running pgweir as they happen; with --fail-on, a gate for continuous integration
    Watch(Box<watch::Watch>),
    /// Show a running pgweir on the terminal, live: statements, tenants, pools, clients, findings
    Top(Box<top::Top>),
    /// Say on one screen how a running pgweir is; exit codes as of a monitoring plugin: 0 well, 1 warning, 2 critical
    Status(status::Status),
    /// Print the reference of all configuration keys (docs/config.md)
    ConfigReference,
    /// Print the reference of the console (docs/console.md)
    ConsoleReference,
    /// Print a JSON Schema of the configuration, for editors (docs/config.schema.json)
    ConfigSchema,
    /// Print a fresh token for the admin port, and the line for the configuration that makes it valid
    Token,
    /// Print the reference of all events of the log (docs/logs.md)
    LogReference,
    /// Print a script that completes commands and flags: `source <(pgweir completions bash)`
    Completions {
        /// For this shell
        #[arg(value_name = "SHELL", value_parser = pages::shells())]
        shell: String,
    },
    /// Print the manual page (docs/pgweir.1)
    Man,
    /// Print the version
    Version,
    /// Ask a running pgweir whether it is ready; exit code 0 if so
    Health {
        /// Its admin address: host:port, or https://host:port
        #[arg(long, value_name = "ADDRESS", env = "PGWEIR_ADMIN", default_value = "127.0.0.1:6433")]
        admin: String,
        /// PEM file with the authority of its certificate, or with the certificate itself, where its address is https://…
        #[arg(long, value_name = "FILE", env = "PGWEIR_ADMIN_CA")]
        admin_ca: Option<PathBuf>,
    },
}

/// Each flag wins over its variable, and both over the file.
#[derive(Debug, Args)]
struct Serve {
    /// The configuration file; without one, --upstream is enough
    #[arg(long, value_name = "FILE", env = "PGWEIR_CONFIG")]
    config: Option<PathBuf>,
    /// Serve every database of this server: postgres://user:password@host:5432/database
    #[arg(long, value_name = "URL", env = "PGWEIR_UPSTREAM", hide_env_values = true)]
    upstream: Option<String>,
    /// Where clients connect, several separated by commas [default: 127.0.0.1:6432]
    #[arg(long, value_name = "ADDRESS", env = "PGWEIR_LISTEN")]
    listen: Option<String>,
    /// The HTTP port for operators, or off [default: 127.0.0.1:6433]
    #[arg(long, value_name = "ADDRESS", env = "PGWEIR_ADMIN")]
    admin: Option<String>,
    /// Bearer token of the admin port; needed where it is not on loopback. Other users see flags: prefer the variable
    #[arg(long, value_name = "TOKEN", env = "PGWEIR_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// When a server connection is given back: transaction, session or statement [default: transaction]
    #[arg(long, value_name = "MODE", env = "PGWEIR_POOL_MODE")]
    pool_mode: Option<String>,
    /// Server connections for each database and user [default: 20]
    #[arg(long, value_name = "N", env = "PGWEIR_POOL_SIZE")]
    pool_size: Option<String>,
    /// This instance's number among those behind one address (see `[peers]`)
    #[arg(long, value_name = "N", env = "PGWEIR_PEER_ID")]
    peer_id: Option<String>,
    /// Worker threads, or auto: one for each core [default: auto]
    #[arg(long, value_name = "N", env = "PGWEIR_WORKERS")]
    workers: Option<String>,
    /// How clients log in: passthrough, scram-sha-256, md5, password, cert, peer, trust or reject [default: passthrough]
    #[arg(long, value_name = "METHOD", env = "PGWEIR_AUTH")]
    auth: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "PGWEIR_LOG_FORMAT")]
    log_format: Option<String>,
    /// error, warn, info, or where it was built with it debug [default: info]
    #[arg(long, value_name = "LEVEL", env = "PGWEIR_LOG_LEVEL")]
    log_level: Option<String>,
}

impl Serve {
    /// Each value is called by where it comes from: its flag, or the variable that stands for it.
    fn source(self, given: Option<&ArgMatches>) -> Source {
        let name = |flag: &str| {
            let argument = flag.trim_start_matches('-').replace('-', "_");
            let by_variable =
                given.is_some_and(|given| given.value_source(&argument) == Some(ValueSource::EnvVariable));
            if by_variable { format!("PGWEIR_{}", argument.to_uppercase()) } else { flag.to_owned() }
        };
        let mut overrides = Overrides::default();
        for (key, value, flag) in [
            ("listen", self.listen, "--listen"),
            ("admin.listen", self.admin, "--admin"),
            ("admin.token", self.admin_token, "--admin-token"),
            ("pool.mode", self.pool_mode, "--pool-mode"),
            ("pool.size", self.pool_size, "--pool-size"),
            ("peers.id", self.peer_id, "--peer-id"),
            ("workers", self.workers, "--workers"),
            ("auth.method", self.auth, "--auth"),
            ("log.format", self.log_format, "--log-format"),
            ("log.level", self.log_level, "--log-level"),
        ] {
            if let Some(value) = value {
                overrides = overrides.with_flag(key, value, &name(flag));
            }
        }
        if let Some(url) = self.upstream {
            overrides = overrides.with_upstream(url, &name("--upstream"));
        }
        Source { file: self.config, overrides, ..Source::default() }
    }
}

/// Why a command failed. Each is one line, or a line for each mistake, on standard error.
type Failure = Box<dyn Error>;

/// Reads the arguments and does what they say. `run` serves until it is told to stop.
///
/// Exit codes: 0, done; 1, it failed and standard error says why; 2, the arguments are wrong. `pgweir watch` has its own:
/// docs/findings.md.
pub fn main<E: Into<Failure>>(run: impl FnOnce(Settings, Source) -> Result<(), E>) -> ExitCode {
    let given = CommandLine::command().get_matches();
    let line = CommandLine::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    let result = match line.command {
        Command::Serve(serve) => serve_with(serve.source(given.subcommand_matches("serve")), run),
        Command::Check { config, connect } => check(config, connect),
        Command::ExplainPolicy(wish) => explain::run(&wish),
        Command::Fingerprint { compat } => {
            statements::fingerprint(compat, &mut io::stdin().lock(), &mut io::stdout().lock())
        }
        Command::Analyze { file, profile, compat } => {
            statements::analyze(&file, &profile, compat, &mut io::stdout().lock())
        }
        Command::Capture(wish) => capture::run(&wish),
        Command::ConfigReference => print(&config::reference()),
        Command::ConsoleReference => print(&crate::console::reference()),
        Command::ConfigSchema => print(&config::json_schema()),
        Command::Token => print(&token::fresh(rand::rng().random())),
        Command::LogReference => print(&crate::log::reference::page()),
        Command::Completions { shell } => print(&String::from_utf8_lossy(&pages::completions(&shell))),
        Command::Man => pages::man().map_err(Into::into).and_then(|page| print(&page)),
        Command::Top(top) => top::run(&top),
        Command::Status(status) => return status::run(&status),
        Command::Version => print(concat!("pgweir ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Health { admin, admin_ca } => health::ask(&admin, admin_ca.as_deref()),
        Command::Watch(watch) => return watch::run(*watch),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads us has what it wanted: `pgweir config-reference | head` did not fail.
        Err(failure) if is_broken_pipe(failure.as_ref()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell if standard error is closed too.
            let _ = writeln!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

/// The manual page, `docs/pgweir.1`.
///
/// # Errors
/// Never: it is written to memory.
pub fn manual() -> io::Result<String> {
    pages::man()
}

fn serve_with<E: Into<Failure>>(
    source: Source,
    run: impl FnOnce(Settings, Source) -> Result<(), E>,
) -> Result<(), Failure> {
    let settings = source.load()?;
    for warning in settings.warnings().into_iter().chain(tls::warnings(&settings, SystemTime::now())) {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    run(settings, source).map_err(Into::into)
}

fn check(file: PathBuf, connect: bool) -> Result<(), Failure> {
    let source = Source { file: Some(file), ..Source::default() };
    let settings = source.load()?;
    tls::make(&settings)?;
    print(&summary::summary(&source.name(), &settings, &tls::warnings(&settings, SystemTime::now())))?;
    if !connect {
        return Ok(());
    }
    let report = check::connect(&settings)?;
    print(&report.text)?;
    match report.lacking {
        0 => Ok(()),
        lacking => Err(format!("{lacking} databases are not as this configuration wants them").into()),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn is_broken_pipe(failure: &(dyn Error + 'static)) -> bool {
    failure.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

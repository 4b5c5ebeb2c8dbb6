//! `pgweir watch`: findings of a running pgweir as they happen, and a gate for continuous integration.
//!
//! ```text
//!   fence ─► baseline ─► command, time or Ctrl-C, printing what is new ─► fence ─► judgement ─► exit code
//! ```
//!
//! A fence is a moment at the proxy, and waiting until everything that ended before it is judged: what the command did is
//! counted, however late, and what was there before is not.

mod follow;
mod gate;
mod show;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use clap::Args;
use policy::finding::Kind;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::http::Admin;
use follow::{Follower, Lost, News};
use gate::{Budget, Gate};
use show::Show;

/// Between two questions to the proxy.
const PAUSE: Duration = Duration::from_millis(150);
/// Between two looks at whether the command has ended.
const CHILD_PAUSE: Duration = Duration::from_millis(20);

/// The exit code of a gate with findings over its budget.
const OVER_BUDGET: u8 = 1;
/// The exit code when nothing can be said.
const COULD_NOT_WATCH: u8 = 2;

/// What to watch, for how long, and what is too much.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// The admin address of the running pgweir
    #[arg(long, value_name = "ADDRESS", env = "PGWEIR_ADMIN", default_value = "127.0.0.1:6433")]
    admin: String,
    /// Its bearer token, if it has one. Other users see flags: prefer the variable
    #[arg(long, value_name = "TOKEN", env = "PGWEIR_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// PEM file with the authority of its certificate, or with the certificate itself, where its address is https://…
    #[arg(long, value_name = "FILE", env = "PGWEIR_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
    /// Only these kinds, separated by commas, as n_plus_one,insert_loop; docs/findings.md lists them
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,
    /// Only this application_name's
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// No colours, also on a terminal (as with NO_COLOR)
    #[arg(long)]
    no_color: bool,
    /// Be a gate: exit code 1 when open findings of these kinds (or any) appear, 2 when that cannot be told
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kinds)]
    fail_on: Vec<Option<Kind>>,
    /// Watch for so long, as 60s, instead of until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = config::units::parse_duration, conflicts_with = "command")]
    time: Option<Duration>,
    /// Findings that are not too many [default: 0; any number with --max-requests]
    #[arg(long, value_name = "N", requires = "fail_on")]
    max: Option<u64>,
    /// Requests with a finding that are not too many: each burst of a finding counts as one
    #[arg(long, value_name = "N", requires = "fail_on")]
    max_requests: Option<u64>,
    /// Pass although some statements were not looked at: without it nothing is said by what was (exit code 2)
    #[arg(long, requires = "fail_on")]
    allow_unseen: bool,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE", requires = "fail_on")]
    junit: Option<PathBuf>,
    /// Write a Markdown report
    #[arg(long, value_name = "FILE", requires = "fail_on")]
    markdown: Option<PathBuf>,
    /// Watch while this command runs; its exit code is passed on unless it is 0
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn kind(name: &str) -> Result<Kind, String> {
    let names = Kind::ALL.map(Kind::name).join(", ");
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| format!("there is no such kind; use one of {names}"))
}

/// A kind that a gate can judge, or `None` for any of them.
fn kinds(name: &str) -> Result<Option<Kind>, String> {
    match name {
        "any" => Ok(None),
        _ => match kind(name)? {
            later if gate::comes_later(later) => {
                Err("it comes later than what caused it; a gate cannot wait for it".into())
            }
            kind => Ok(Some(kind)),
        },
    }
}

/// Why watching ended.
enum End {
    /// The time, or nobody reads us any more.
    Told,
    /// Ctrl-C or SIGTERM.
    Signal,
    /// The command has ended.
    Command(ExitStatus),
}

/// Does it.
pub(super) fn run(watch: Watch) -> ExitCode {
    match watch.attend() {
        Ok(code) => code,
        Err(why) => {
            // Nobody is left to tell if standard error is closed too.
            let _ = writeln!(io::stderr(), "pgweir watch: {why}");
            ExitCode::from(COULD_NOT_WATCH)
        }
    }
}

impl Watch {
    fn attend(self) -> Result<ExitCode, String> {
        self.check()?;
        let system = |error: io::Error| format!("the system refused a signal or a timer: {error}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let mut signals = {
            let _entered = runtime.enter();
            Signals::listen().map_err(system)?
        };
        let admin = Admin::new(&self.admin, self.admin_token.clone())?.believing(self.admin_ca.as_deref())?;
        let mut follower = Follower::new(admin, self.kind.clone(), self.application.clone());
        let mut show = self.show();
        let gate = match self.fail_on.is_empty() {
            true => None,
            false => Some(Gate::open(&mut follower).map_err(|lost| lost.sentence(&self.admin))?),
        };
        if gate.is_none() {
            follower.begin().map_err(|lost| lost.sentence(&self.admin))?;
        }
        show.note(&format!("watching pgweir at {}; findings known so far: {}", self.admin, follower.known()));
        let mut watching = Watching {
            follower: &mut follower,
            show: &mut show,
            lost: None,
            restarted: false,
            is_gate: gate.is_some(),
        };
        // What came while the gate was opening: the command has not begun, and need not. A moment, so that it is heard.
        if runtime.block_on(signals.within(Duration::from_millis(1))).is_some() {
            return Err("it was ended before it began, so that nothing can be said".to_owned());
        }
        let child = self.start()?;
        let end = watching.until_the_end(&runtime, &mut signals, child, self.time)?;
        let restarted = watching.restarted;
        // Who has an end of its own is shown all that came before it; after Ctrl-C nobody waits.
        if gate.is_none() && (matches!(end, End::Command(_)) || self.time.is_some()) && follower.fence().is_ok() {
            show.news(&follower.news().map(|news| news.findings).unwrap_or_default());
        }
        let judged = gate.map(|gate| {
            if restarted {
                return Err(Lost::Anew.sentence(&self.admin));
            }
            if self.time.is_some() && matches!(end, End::Signal) {
                return Err("it was ended before its time, so that nothing can be said".to_owned());
            }
            let budget = self.budget();
            let unreachable = |lost: Lost| lost.sentence(&self.admin);
            let judgement = gate.close(&mut follower, &budget, |news| show.news(news)).map_err(unreachable)?;
            judgement.write(self.junit.as_deref(), self.markdown.as_deref())?;
            Ok(judgement)
        });
        show.rest();
        let own = match judged {
            None => {
                show.note(&format!("{} in {} were seen", show::findings(show.findings()), show::bursts(show.bursts())));
                ExitCode::SUCCESS
            }
            Some(Ok(judgement)) => {
                show.note(&judgement.to_string());
                match (judgement.is_over(), judgement.is_unsure()) {
                    (true, _) => ExitCode::from(OVER_BUDGET),
                    (false, true) => ExitCode::from(COULD_NOT_WATCH),
                    (false, false) => ExitCode::SUCCESS,
                }
            }
            Some(Err(why)) => {
                show.note(&why);
                ExitCode::from(COULD_NOT_WATCH)
            }
        };
        Ok(match end {
            End::Command(status) if !status.success() => ExitCode::from(code_of(status)),
            _ => own,
        })
    }

    /// A gate judges what is followed: a kind that is not would never fail it.
    fn check(&self) -> Result<(), String> {
        let followed = |kind: &Kind| self.kind.is_empty() || self.kind.contains(kind);
        match self.fail_on.iter().flatten().find(|kind| !followed(kind)) {
            Some(kind) => Err(format!(
                "--fail-on {kind} is not among the kinds of --kind and would never be seen",
                kind = kind.name()
            )),
            None => Ok(()),
        }
    }

    fn budget(&self) -> Budget<'_> {
        let Self { max, max_requests, allow_unseen, .. } = *self;
        Budget { kinds: &self.fail_on, max, max_requests, allow_unseen }
    }

    /// Findings go to standard output; while a command runs, that is the command's, and they go to standard error.
    fn show(&self) -> Show {
        let beside = !self.command.is_empty();
        let terminal = if beside { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let out: Box<dyn Write> = if beside { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        Show::new(out, terminal && !self.no_color && !is_set("NO_COLOR") && !dumb)
    }

    fn start(&self) -> Result<Option<Child>, String> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(None) };
        let started = std::process::Command::new(program).args(arguments).spawn();
        started.map(Some).map_err(|error| format!("cannot start {program}: {error}"))
    }
}

/// As a shell tells it: the exit code, or 128 and the number of the signal.
fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(COULD_NOT_WATCH)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The signal that came within this time.
    async fn within(&mut self, pause: Duration) -> Option<rustix::process::Signal> {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Some(rustix::process::Signal::INT),
            _ = self.terminate.recv() => Some(rustix::process::Signal::TERM),
            () = tokio::time::sleep(pause) => None,
        }
    }
}

/// The time in between.
struct Watching<'a> {
    follower: &'a mut Follower,
    show: &'a mut Show,
    /// Since when the proxy does not answer.
    lost: Option<Instant>,
    restarted: bool,
    /// The exit code is what is waited for, whether anybody reads the findings or not.
    is_gate: bool,
}

impl Watching<'_> {
    fn until_the_end(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        signals: &mut Signals,
        mut child: Option<Child>,
        time: Option<Duration>,
    ) -> Result<End, String> {
        let until = time.map(|time| Instant::now() + time);
        let mut asked = Instant::now();
        loop {
            let left = until.map_or(PAUSE, |until| until.saturating_duration_since(Instant::now()));
            let pause = if child.is_some() { CHILD_PAUSE } else { PAUSE.min(left) };
            match (runtime.block_on(signals.within(pause)), &child) {
                (None, _) => {}
                (Some(_), None) => return Ok(End::Signal),
                // A terminal has sent Ctrl-C to the command as well; SIGTERM was for us alone.
                (Some(rustix::process::Signal::TERM), Some(child)) => pass_on(child),
                (Some(_), Some(_)) => {}
            }
            if let Some(child) = &mut child {
                let ended = child.try_wait().map_err(|error| format!("cannot wait for the command: {error}"))?;
                if let Some(status) = ended {
                    return Ok(End::Command(status));
                }
            }
            if asked.elapsed() >= PAUSE.min(pause * 8) {
                asked = Instant::now();
                self.look();
            }
            let over = until.is_some_and(|until| Instant::now() >= until);
            if child.is_none() && (over || (self.show.is_closed() && !self.is_gate)) {
                return Ok(End::Told);
            }
        }
    }

    fn look(&mut self) {
        match self.follower.news() {
            Ok(News { findings, restarted }) => {
                if let Some(since) = self.lost.take() {
                    let seconds = since.elapsed().as_secs_f64();
                    self.show.note(&format!("pgweir answers again, after {seconds:.1} s"));
                }
                if restarted {
                    self.restarted = true;
                    self.show.note("it was started anew: numbers begin again");
                }
                self.show.news(&findings);
            }
            Err(lost) => {
                if self.lost.is_none() {
                    self.lost = Some(Instant::now());
                    let why = lost.sentence(self.follower.address());
                    self.show.note(&format!("{why}; trying again"));
                }
            }
        }
    }
}

fn pass_on(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // One that has just ended needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

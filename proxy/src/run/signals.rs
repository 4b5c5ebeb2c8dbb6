//! The main thread: signals, reloads, and what the service manager wants to hear.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGTERM | drains, `shutdown.grace` included; a second one ends at once |
//! | SIGINT | drains without the grace: at a terminal nobody watches readiness; a second one ends at once |
//! | SIGQUIT | ends at once |
//! | SIGHUP | reads the configuration again, and opens the log's file anew |
//! | SIGUSR1 | PAUSE: as the command, for all databases |
//! | SIGUSR2 | RESUME |

use std::io;

use config::{Changes, Settings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::reloads::{Order, Outcome, Reloader, named, tell};
use super::{Handle, RunError, ShutdownMode, World, start_with};
use crate::listeners::inherited::Inherited;
use crate::log::Log;
use crate::source::Source;
use crate::systemd::Notifier;

/// Serves until a signal ends it.
///
/// # Errors
/// See [`RunError`].
pub fn run(settings: Settings, source: Source) -> Result<(), RunError> {
    let log = Log::init(&settings.log)?;
    let served = serve(settings, &source, &log);
    log.flush();
    served
}

fn serve(settings: Settings, source: &Source, log: &Log) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Heard from before anybody can know that we are here.
    let signals = {
        let _entered = runtime.enter();
        Signals::listen()?
    };
    let inherited = Inherited::take().map_err(RunError::Inherited)?;
    let (reloader, orders) = Reloader::new();
    let world = World {
        inherited,
        log_lines_lost: log.lost.clone(),
        log_level: Some(log.level.clone()),
        reloader: Some(reloader.clone()),
        ..World::default()
    };
    let mut handle = start_with(settings, world)?;
    let notifier = Notifier::from_env();
    let addresses: Vec<String> = handle.listen_addrs().iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    tracing::info!(
        listen = addresses,
        admin = handle.admin.map(tracing::field::display),
        version = env!("CARGO_PKG_VERSION"),
        "pgweir serves"
    );
    notifier.ready(&format!("serving {addresses}"));
    let shared = handle.shared.clone();
    let watch = runtime.spawn(reloader.watch(source.clone(), move || shared.settings()));
    runtime.block_on(Main { handle: &mut handle, source, log, notifier: &notifier }.attend(signals, orders));
    watch.abort();
    handle.join();
    tracing::info!("pgweir has stopped");
    Ok(())
}

/// The signals that are heard.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    pause: Signal,
    resume: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Stop(ShutdownMode),
    Reload,
    Pause,
    Resume,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            pause: signal(SignalKind::user_defined1())?,
            resume: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.terminate.recv() => Word::Stop(ShutdownMode::Graceful),
            _ = self.interrupt.recv() => Word::Stop(ShutdownMode::Prompt),
            _ = self.quit.recv() => Word::Stop(ShutdownMode::Immediate),
            _ = self.hangup.recv() => Word::Reload,
            _ = self.pause.recv() => Word::Pause,
            _ = self.resume.recv() => Word::Resume,
        }
    }
}

/// The main thread's work.
struct Main<'a> {
    handle: &'a mut Handle,
    source: &'a Source,
    log: &'a Log,
    notifier: &'a Notifier,
}

impl Main<'_> {
    /// Attends to signals and orders until the proxy has ended.
    async fn attend(self, mut signals: Signals, mut orders: mpsc::Receiver<Order>) {
        let Some(mut done) = self.handle.done.take() else { return };
        let mut stopping = self.handle.stop.subscribe();
        loop {
            let word = tokio::select! {
                biased;
                // Before the end itself, which can come with it: whoever has begun it, the service manager hears of it.
                Some(mode) = Handle::stops(&mut stopping) => {
                    self.tell_that_it_stops(mode);
                    continue;
                }
                _ = &mut done => return,
                word = signals.next() => word,
                Some(asked) = orders.recv() => {
                    let outcome = self.reload();
                    // Who has asked may have gone.
                    drop(asked.map(|asked| asked.send(outcome)));
                    continue;
                }
                () = self.watch() => continue,
            };
            match word {
                Word::Reload => drop(self.reload()),
                Word::Pause => self.pause(),
                Word::Resume => self.resume(),
                Word::Stop(mode) => {
                    // A second one ends at once, and so does one behind SHUTDOWN on the console.
                    let mode = if self.handle.is_stopping() { ShutdownMode::Immediate } else { mode };
                    self.tell_that_it_stops(mode);
                    self.handle.begin_shutdown(mode);
                    stopping.borrow_and_update();
                }
            }
        }
    }

    /// Tells the service manager that all is well, when it is time and if it is so.
    async fn watch(&self) {
        let Some(limit) = self.notifier.watchdog else { return std::future::pending().await };
        // Twice in each interval, as sd_watchdog_enabled(3) advises.
        tokio::time::sleep(limit / 2).await;
        if tokio::time::timeout(limit / 4, self.handle.answers()).await == Ok(true) {
            self.notifier.alive();
        } else {
            tracing::error!("a thread does not answer; the service manager is not told that all is well");
        }
    }

    fn tell_that_it_stops(&self, mode: ShutdownMode) {
        tracing::info!(?mode, "stopping");
        self.notifier.stopping(match mode {
            ShutdownMode::Immediate => "ending at once",
            ShutdownMode::Graceful | ShutdownMode::Prompt => "waiting for transactions to end",
            ShutdownMode::WaitForClients => "waiting for clients to leave",
        });
    }

    /// PAUSE. The signals that follow are heard while it waits for transactions to end.
    fn pause(&self) {
        tracing::info!("pausing all databases");
        let commands = self.handle.commands();
        tokio::spawn(async move {
            match commands.pause(None).await {
                Ok(()) => tracing::info!("paused: no server connection is open"),
                Err(error) => tracing::info!(%error, "the pause was not completed"),
            }
        });
    }

    fn resume(&self) {
        match self.handle.commands().resume(None) {
            Ok(()) => tracing::info!("all databases resumed"),
            Err(error) => tracing::error!(%error, "the databases cannot be resumed"),
        }
    }

    /// Reads the configuration again and puts it in force, whole or not at all.
    fn reload(&self) -> Outcome {
        self.notifier.reloading();
        let loaded = self.source.load().map_err(|error| error.to_string());
        let outcome = loaded.inspect_err(|why| self.handle.reload_refused(why)).and_then(|new| self.put_in_force(new));
        self.notifier.ready(match &outcome {
            Ok(_) => "serving with the configuration read last",
            Err(why) => {
                for line in why.lines() {
                    tracing::error!("configuration not changed: {line}");
                }
                "serving; the last reload was refused, see the log"
            }
        });
        outcome
    }

    fn put_in_force(&self, settings: Settings) -> Outcome {
        let log = settings.log.clone();
        let opened = self.log.open(&log).map_err(|error| error.to_string());
        let opened = opened.inspect_err(|why| self.handle.reload_refused(why))?;
        // It notes by itself that it refuses.
        let changes = self.handle.reload(settings).map_err(|error| error.to_string())?;
        self.log.change(&log, opened);
        tracing::info!(at_once = named(&changes.at_once), "configuration read again");
        tell(&changes);
        if !changes.restart.is_empty() {
            tracing::warn!(keys = named(&changes.restart), "these changes need a restart");
            for change in &changes.restart {
                if let Some(why) = Changes::why_restart(change) {
                    tracing::warn!(key = change.key, why, "this change needs a restart this time");
                }
            }
        }
        Ok(changes)
    }
}

impl Handle {
    /// Whether every thread that serves clients answers. Waits for each; the caller says for how long.
    pub(super) async fn answers(&self) -> bool {
        let (answer, control) = tokio::sync::oneshot::channel();
        drop(self.shared.control.send(crate::control::Order::Answer(answer)));
        let mut workers = Vec::new();
        for worker in 0..self.shared.workers.len() {
            let (answer, answered) = tokio::sync::oneshot::channel();
            self.shared.send(worker, crate::worker::Mail::Look(0, answer));
            workers.push(answered);
        }
        for worker in workers {
            if worker.await.is_err() {
                return false;
            }
        }
        control.await.is_ok()
    }
}

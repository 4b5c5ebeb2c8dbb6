//! `make demo`: a workflow engine's traffic through pgweir, with a report of what was measured.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use integration_tests::demo::crew::{CLIENTS, Crew};
use integration_tests::demo::facts::{Evidence, Run};
use integration_tests::demo::keeper;
use integration_tests::demo::options::Options;
use integration_tests::demo::session::Target;
use integration_tests::demo::stage::{Database, Proxy};
use integration_tests::demo::style::{Style, grouped};
use integration_tests::demo::tally::Tally;
use integration_tests::demo::watch::Watch;
use integration_tests::demo::{Outcome, cached, report};

fn main() -> ExitCode {
    let done = if std::env::args().skip(1).eq(["--stop"]) { stop() } else { demo() };
    done.unwrap_or_else(|failure| {
        eprintln!("demo: {failure}");
        ExitCode::FAILURE
    })
}

fn stop() -> Outcome<ExitCode> {
    println!("{}", if keeper::end_previous()? { "The demo is stopped." } else { "No demo was left running." });
    Ok(ExitCode::SUCCESS)
}

fn demo() -> Outcome<ExitCode> {
    let options = Options::parse(std::env::args().skip(1))?;
    let staying = std::env::var(keeper::STAYING).ok();
    let style = Style::of_output(staying.as_deref() == Some("terminal"));
    if options.keep && staying.is_none() {
        return keeper::leave_behind(style);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(play(&options, style))
}

async fn play(options: &Options, style: Style) -> Outcome<ExitCode> {
    let said = |text: &str| println!("{}", style.dim(text));
    said("Starting a throw-away PostgreSQL and loading a workflow engine's data …");
    let start = Instant::now();
    let database = Database::make();
    said(&format!("Loaded in {:.1} s. Starting pgweir …", start.elapsed().as_secs_f64()));
    let proxy = Proxy::start(&options.pgweir, &database, "")?;

    said(&format!("Through pgweir: {CLIENTS} clients for {} s", options.traffic.as_secs()));
    let before = proxy.cpu_time();
    let through = run(&database, proxy.target(), Some(&proxy), BTreeSet::new(), options.traffic, style).await?;
    let proxy_cpu = proxy.cpu_time().saturating_sub(before);
    let findings = proxy.list("/api/v1/findings?limit=1000", "findings")?;
    let queries = proxy.list("/api/v1/queries?sort=mean_time&limit=200", "queries")?;

    let shorter = options.traffic / 3;
    said(&format!("Directly, the same traffic: {CLIENTS} clients for {} s", shorter.as_secs()));
    // pgweir is idle meanwhile; the connections that it keeps open are not part of this run.
    let pool = through.seen.pids.clone();
    let direct = run(&database, &database.target(), None, pool, shorter, style).await?;

    said(&format!("The dashboards alone, with the read cache off and on: {} s each", cached::TIME.as_secs()));
    let cached = cached::play(&options.pgweir, &database).await?;

    let evidence = Evidence { through, direct, findings, queries, proxy_cpu, cached };
    print!("{}", report::render(&evidence, style));
    let all_hold = evidence.facts().iter().all(|fact| fact.holds);
    close(options.keep, all_hold, &proxy, style).await
}

/// The last lines; with `keep`, returns only when the demo is told to end.
async fn close(keep: bool, all_hold: bool, proxy: &Proxy, style: Style) -> Outcome<ExitCode> {
    if !all_hold {
        println!("\n{}\n{}", style.bad("Not every promise held. The end of pgweir's log:"), proxy.log_tail());
    }
    let admin = style.strong(&format!("http://{}", proxy.admin()));
    if !keep {
        println!("\n  The admin port was at {admin}; `make demo KEEP=1` leaves everything running.");
        return Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let target = proxy.target();
    println!("\n  admin port  {admin}   (/metrics, /api/v1/findings, /api/v1/queries, /api/v1/pools, /api/v1/tenants)");
    println!("  database    postgres://app:app@127.0.0.1:{}/{}", target.port, target.database);
    println!("  Both stay until {}.", style.strong("make demo-stop"));
    keeper::settle(all_hold)?;
    keeper::stay().await?;
    Ok(ExitCode::SUCCESS)
}

/// Lets the whole crew work against a target, and measures.
async fn run(
    database: &Database,
    target: &Target,
    proxy: Option<&Proxy>,
    others: BTreeSet<i32>,
    time: Duration,
    style: Style,
) -> Outcome<Run> {
    let name = &target.database;
    let watch = Watch::begin(database.cluster().connect(name), name, proxy.map(Proxy::pid), others);
    let tally = Arc::<Tally>::default();
    let crew = Crew::connect(target, Arc::clone(&tally)).await?;
    let connecting = crew.connecting;
    let work = tokio::spawn(crew.work(time));
    show_progress(&tally, &watch, time, style).await;
    work.await?;
    Ok(Run { time, connecting, figures: tally.figures(), seen: watch.end()? })
}

/// One refreshed line on a terminal, a plain line every five seconds elsewhere.
async fn show_progress(tally: &Tally, watch: &Watch, time: Duration, style: Style) {
    let (start, every) = (Instant::now(), Duration::from_millis(if style.terminal { 250 } else { 5000 }));
    let mut terminal = std::io::stdout();
    while start.elapsed() < time {
        tokio::time::sleep(every.min(time.saturating_sub(start.elapsed()))).await;
        let passed = start.elapsed().min(time);
        let filled = (24.0 * passed.as_secs_f64() / time.as_secs_f64()) as usize;
        let line = format!(
            "  {}{}  {:>3.0} of {} s   {CLIENTS} clients → {:>3} server connections   {:>9} statements",
            "█".repeat(filled),
            "░".repeat(24 - filled.min(24)),
            passed.as_secs_f64(),
            time.as_secs(),
            watch.seen().connections,
            grouped(tally.statements())
        );
        let (begin, end) = if style.terminal { ("\r", "") } else { ("", "\n") };
        // A terminal that is gone is noticed by the report, which has to be printed.
        drop(write!(terminal, "{begin}{line}{end}").and_then(|()| terminal.flush()));
    }
    if style.terminal {
        println!();
    }
}

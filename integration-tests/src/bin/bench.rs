//! `make bench`: what a query costs directly, through pgweir, and through what is measured beside it.

use std::process::{Command, ExitCode};

use integration_tests::bench::bulk::{self, Flow};
use integration_tests::bench::cache::{self, Ground};
use integration_tests::bench::idle::{self, Held};
use integration_tests::bench::options::{Options, Part};
use integration_tests::bench::own::{self, Side};
use integration_tests::bench::pages::{self, Times};
use integration_tests::bench::papers::Papers;
use integration_tests::bench::report::Report;
use integration_tests::bench::table::write_between_markers;
use integration_tests::bench::ways::{Bench, Setup, Way};
use integration_tests::bench::{Load, Outcome, UPSTREAMS, chart, loads, machine, peers};

/// A machine that is busier than this before the first run measures something else too.
const QUIET: f64 = 0.5;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let load_before = machine::load_average();
    if options.parts.contains(&Part::Idle) {
        idle::allow_files()?;
    }
    let relayed = options.parts.iter().any(|part| matches!(part, Part::Loads | Part::Bulk));
    if relayed && peers::haproxy_name().is_none() {
        println!("there is no HAProxy on this machine: its way is left out");
    }
    let bench = Bench::make()?;
    let mut report = Report::default();
    let with_cache = options.parts.contains(&Part::Cache);
    let ground = if with_cache { Some(Ground::make(&bench)?) } else { None };
    for round in 1..=options.rounds {
        if options.parts.contains(&Part::Loads) {
            measure_loads(&options, &bench, round, &mut report)?;
        }
        if options.parts.contains(&Part::Idle) {
            measure_idle(&options, &bench, &mut report)?;
        }
        if options.parts.contains(&Part::Bulk) {
            measure_bulk(&options, &bench, &mut report)?;
        }
        for part in [Part::Own, Part::Admin].into_iter().filter(|part| options.parts.contains(part)) {
            measure_own(&options, part, &bench, &mut report)?;
        }
        if let Some(ground) = &ground {
            cache::measure(&options.pgweir, &bench, ground, options.seconds, &mut report.cache)?;
        }
    }
    let conditions = how_it_was_made(&options, &bench, load_before)?;
    let text = format!("{conditions}\n{}", report.tables());
    println!("\n{text}");
    if let Some(page) = &options.write {
        write_between_markers(page, &text)?;
        std::fs::write(page.with_extension("svg"), chart::cpu(&report.loads))?;
        let json = serde_json::to_string_pretty(&report.json(conditions.trim()))?;
        std::fs::write(page.with_extension("json"), json + "\n")?;
    }
    if !options.check {
        return Ok(());
    }
    let missed = report.judged().into_iter().filter(|(_, _, outcome)| !outcome.kept).count();
    let unknown = report.unknown(&options.parts);
    match (missed, unknown.as_slice()) {
        (0, []) => Ok(()),
        (0, unknown) => Err(format!("these promised figures could not be measured: {}", unknown.join("; ")).into()),
        (missed, _) => Err(format!("{missed} of the promised figures are missed by more than the noise").into()),
    }
}

/// Every way in a process of its own, started anew: nothing that an earlier part has left behind is measured.
fn ways(options: &Options, bench: &Bench) -> Outcome<Vec<Way>> {
    let mut ways = vec![Way::direct(bench)];
    ways.extend(poolers(options, bench)?);
    ways.extend(peers::relay(bench)?);
    Ok(ways)
}

/// The ways through poolers: those that can hold more clients than the server has connections.
fn poolers(options: &Options, bench: &Bench) -> Outcome<Vec<Way>> {
    let mut poolers = vec![Way::pgweir(&options.pgweir, bench, &Setup::default())?];
    poolers.extend(peers::pgbouncer(bench, None)?);
    poolers.extend(Way::others(bench)?);
    Ok(poolers)
}

/// Those of them that can be told to speak TLS.
fn secure_poolers(options: &Options, bench: &Bench, papers: &Papers) -> Outcome<Vec<Way>> {
    let mut poolers =
        vec![Way::pgweir(&options.pgweir, bench, &Setup { settings: papers.for_pgweir(), ..Setup::default() })?];
    poolers.extend(peers::pgbouncer(bench, Some(papers))?);
    Ok(poolers)
}

fn measure_loads(options: &Options, bench: &Bench, round: usize, report: &mut Report) -> Outcome<()> {
    let ways = ways(options, bench)?;
    for load in loads() {
        // The ways alternate within each load: what else the machine does meets all of them alike.
        for way in ways.iter().filter(|way| way.carries(load)) {
            let sample = way.run(&bench.pgbench(), load, options.seconds)?.sample();
            println!(
                "round {round}  {:>3} clients  {:<9} {:<24} {:>7.0} queries/s  {:>5.1} µs CPU  p95 {:>6.2} ms",
                load.clients,
                load.mode.name(),
                way.name,
                sample.tps,
                sample.cpu_micros,
                f64::from(sample.latency_micros[1]) / 1e3
            );
            report.loads.add(load, way.name, sample);
        }
    }
    Ok(())
}

fn measure_idle(options: &Options, bench: &Bench, report: &mut Report) -> Outcome<()> {
    let papers = Papers::make();
    for held in Held::ALL {
        let poolers = match held {
            Held::Nothing | Held::Statement => poolers(options, bench)?,
            Held::Tls => secure_poolers(options, bench, &papers)?,
        };
        for way in poolers.iter().filter(|way| way.holds(held)) {
            if let Some(idle) = idle::measure(way, held, &papers)? {
                println!(
                    "{:<26} {:<24} {:>6.0} bytes each  {:>6.3} % CPU",
                    held.name(),
                    way.name,
                    idle.bytes,
                    idle.busy * 100.0
                );
                report.add_idle(held, way.name, idle);
            }
        }
    }
    Ok(())
}

fn measure_bulk(options: &Options, bench: &Bench, report: &mut Report) -> Outcome<()> {
    let ways = ways(options, bench)?;
    for flow in Flow::ALL {
        for way in &ways {
            let bulk = bulk::measure(way, flow)?;
            let rate = bulk.bytes_per_second / f64::from(1 << 20);
            println!("{:<30} {:<24} {rate:>6.0} MiB/s  {:>5.0} µs CPU/MiB", flow.name(), way.name, bulk.cpu_micros);
            report.add_bulk(flow, way.name, bulk);
        }
    }
    Ok(())
}

/// Loads that sides of a part are compared by.
fn loads_of(part: Part) -> Vec<Load> {
    match part {
        Part::Admin => vec![own::BESIDE_SCRAPES],
        _ => own::LOADS.into_iter().chain([own::BESIDE_LOGINS]).collect(),
    }
}

fn measure_own(options: &Options, part: Part, bench: &Bench, report: &mut Report) -> Outcome<()> {
    let start = |side: Side| Ok((side, side.start(&options.pgweir, bench)?));
    let sides = Side::ALL.into_iter().filter(|side| side.part() == part).map(start).collect::<Outcome<Vec<_>>>()?;
    let idle = sides.iter().find(|(side, _)| *side == Side::Quiet).map(|(_, way)| way);
    for load in loads_of(part) {
        let mut sides: Vec<_> = sides.iter().filter(|(side, _)| side.loads().contains(&load)).collect();
        for _ in 0..own::TURNS {
            for (side, way) in &sides {
                let elsewhere = idle.unwrap_or(way);
                let own = side.measure(way, elsewhere, &bench.pgbench(), load, options.seconds)?;
                println!(
                    "{:>3} clients  {:<9} {:<31} {:>7.0} queries/s  {:>6.2} µs CPU, {:>6.2} of workers  \
                     p99 {:>6.2} ms  {:>5.0} logins/min  scrape {:>5.2} ms",
                    load.clients,
                    load.mode.name(),
                    side.name(),
                    own.sample.tps,
                    own.sample.cpu_micros,
                    own.worker_micros,
                    f64::from(own.sample.latency_micros[2]) / 1e3,
                    own.logins,
                    own.scrape_millis
                );
                report.add_own(load, *side, own);
            }
            // Nobody comes first each time.
            sides.reverse();
        }
    }
    // After the load, which has left minutes of history to be drawn, and without it: the page's own time.
    for (_, way) in sides.iter().filter(|(side, _)| *side == Side::Watched) {
        let times = pages::measure(way)?;
        for (page, Times { median, worst }) in &times {
            println!("{:<24} {median:>6.2} ms  worst {worst:>6.2} ms", page.path());
        }
        report.add_pages(&times);
    }
    Ok(())
}

/// Machine, versions and flags: what somebody needs who wants to see the same.
fn how_it_was_made(options: &Options, bench: &Bench, load_before: f64) -> Outcome<String> {
    let pgweir = Command::new(&options.pgweir).arg("--version").output()?;
    let noise = if load_before > QUIET {
        " **The machine was not quiet: other work shared its cores, so only the differences between ways count.**"
    } else {
        ""
    };
    let mut versions: Vec<String> = peers::pgbouncer_name().into_iter().collect();
    versions.extend(peers::haproxy_name());
    Ok(format!(
        "Machine: {}; load average before the first run: {load_before:.2}.{noise}\n\n\
         Versions: {} (release build), {}, PostgreSQL {}, its own pgbench.\n\n\
         Rounds: {} of {} s each, ways alternating; each figure is the median of its rounds. Poolers: {UPSTREAMS} server \
         connections, transaction mode, one thread.\n",
        machine::description(),
        String::from_utf8_lossy(&pgweir.stdout).trim(),
        versions.join(", "),
        bench.version(),
        options.rounds,
        options.seconds,
    ))
}

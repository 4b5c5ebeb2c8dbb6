//! `make bench`: what a query costs directly, through pgweir and through PgBouncer.

use std::process::{Command, ExitCode};

use integration_tests::bench::options::Options;
use integration_tests::bench::table::{Results, write_between_markers};
use integration_tests::bench::ways::{Bench, Way, pgbouncer_name};
use integration_tests::bench::{Outcome, UPSTREAMS, loads, machine};

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
    let bench = Bench::make()?;
    let mut ways = vec![Way::direct(&bench), Way::pgweir(&options.pgweir, &bench)?];
    ways.extend(Way::pgbouncer(&bench)?);

    let mut results = Results::default();
    for round in 1..=options.rounds {
        for load in loads() {
            // The ways alternate within each load: what else the machine does meets all of them alike.
            for way in ways.iter().filter(|way| way.carries(load)) {
                let sample = way.measure(&bench.pgbench(), load, options.seconds)?;
                println!(
                    "round {round}  {:>3} clients  {:<9} {:<24} {:>7.0} queries/s  {:>5.1} µs CPU  p95 {:>6.2} ms",
                    load.clients,
                    load.mode.name(),
                    way.name,
                    sample.tps,
                    sample.cpu_micros,
                    f64::from(sample.latency_micros[1]) / 1e3
                );
                results.add(load, way.name, sample);
            }
        }
    }
    let text = format!("{}\n{}", how_it_was_made(&options, &bench, load_before)?, results.table());
    println!("\n{text}");
    options.write.as_ref().map_or(Ok(()), |page| write_between_markers(page, &text))
}

/// Machine, versions and flags: what somebody needs who wants to see the same.
fn how_it_was_made(options: &Options, bench: &Bench, load_before: f64) -> Outcome<String> {
    let pgweir = Command::new(&options.pgweir).arg("--version").output()?;
    let noise = if load_before > QUIET {
        " **The machine was not quiet: other work shared its cores, so only the differences between ways count.**"
    } else {
        ""
    };
    Ok(format!(
        "Machine: {}; load average before the first run: {load_before:.2}.{noise}\n\n\
         Versions: {} (release build), {}, PostgreSQL {}, its own pgbench.\n\n\
         Rounds: {} of {} s each, ways alternating; each figure is the median of its rounds. Poolers: {UPSTREAMS} server \
         connections, transaction mode, one thread.\n",
        machine::description(),
        String::from_utf8_lossy(&pgweir.stdout).trim(),
        pgbouncer_name()?,
        bench.version(),
        options.rounds,
        options.seconds,
    ))
}

//! The admin port asked once a second, of a proxy that has much to tell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ways::{PASSWORD, Way};
use super::{Outcome, middle};
use crate::{RawClient, http};

/// Statements and tenants that a proxy is filled with: those of the promise about scrapes.
pub const STATEMENTS: usize = 5_000;
/// And so many tenants.
pub const TENANTS: usize = 500;
/// Between the beginnings of two rounds of questions.
const EVERY: Duration = Duration::from_secs(1);
/// What is asked for.
const PATHS: [&str; 2] = ["/metrics", "/api/v1/queries"];

/// A tenant is who it says it is.
pub const SETTINGS: &str =
    "[tenant]\nmax_tenants = 1000\n[[tenant.rule]]\nfrom = 'application_name'\npattern = '^(?<tenant>t[0-9]+)$'\n";

/// Has every tenant run its share of the statements.
pub fn fill(way: &Way) -> Outcome<()> {
    let (database, user) = way.login();
    let share = STATEMENTS / TENANTS;
    for tenant in 0..TENANTS {
        let name = format!("t{tenant}");
        let parameters = [("user", user), ("database", database), ("application_name", name.as_str())];
        let mut client = RawClient::try_login(way.address(), &parameters, PASSWORD)
            .map_err(|fields| format!("a tenant could not log in: {fields:?}"))?;
        for n in tenant * share..(tenant + 1) * share {
            // Other names make other statements; other constants would not.
            client.query(format!("select count(*) from (values (1)) as v_{n}")).ok();
        }
        client.terminate();
    }
    Ok(())
}

/// Does `work` while the admin port is asked every second; gives the median time of a scrape in ms.
pub fn while_scraped<T>(way: &Way, work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, f64)> {
    let admin = way.admin().ok_or("this way has no admin port")?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let asking = scope.spawn(move || {
            let (mut times, mut turn) = (Vec::new(), Instant::now());
            while !stop.load(Ordering::Relaxed) {
                for path in PATHS {
                    let began = Instant::now();
                    let answer = http::request(admin, path, &[]).map_err(|error| error.to_string())?;
                    if answer.status != 200 {
                        return Err(format!("{path} answered {}", answer.status));
                    }
                    if path == "/metrics" {
                        times.push(began.elapsed().as_secs_f64() * 1e3);
                    }
                }
                turn += EVERY;
                while !stop.load(Ordering::Relaxed) && Instant::now() < turn {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Ok(times)
        });
        let done = {
            let _ends = Ends(stop);
            work()
        };
        let times = asking.join().map_err(|_| "who asks has panicked")??;
        let median = middle(times.into_iter()).ok_or("nothing was asked")?;
        Ok((done?, median))
    })
}

/// Ends the asking, even if the work has panicked: it would be waited for in vain.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! How long the pages of the dashboard take where there is much to show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ways::{PASSWORD, Way};
use super::{Outcome, middle};
use crate::{RawClient, http};

/// How often each page is asked for in each round.
pub const TIMES: usize = 20;
/// How long the analyst may take to find what [`provoke`] has done.
const PATIENCE: Duration = Duration::from_secs(20);

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are called as their paths are")]
pub enum Page {
    Overview,
    Queries,
    Query,
    Findings,
    Finding,
    Tenants,
    Tenant,
    Pools,
    Connections,
    Cache,
    Limits,
    Config,
    Audit,
}

impl Page {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Overview,
        Self::Queries,
        Self::Query,
        Self::Findings,
        Self::Finding,
        Self::Tenants,
        Self::Tenant,
        Self::Pools,
        Self::Connections,
        Self::Cache,
        Self::Limits,
        Self::Config,
        Self::Audit,
    ];

    /// Its path as the documentation has it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Queries => "/queries",
            Self::Query => "/queries/{fingerprint}",
            Self::Findings => "/findings",
            Self::Finding => "/findings/{id}",
            Self::Tenants => "/tenants",
            Self::Tenant => "/tenants/{name}",
            Self::Pools => "/pools",
            Self::Connections => "/connections",
            Self::Cache => "/cache",
            Self::Limits => "/limits",
            Self::Config => "/config",
            Self::Audit => "/audit",
        }
    }
}

/// Times of one page in ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// Half of them took at most this.
    pub median: f64,
    /// The longest.
    pub worst: f64,
}

/// Has one tenant ask for its rows one by one, so that there is a finding to be shown.
pub fn provoke(way: &Way) -> Outcome<()> {
    let (database, user) = way.login();
    let parameters = [("user", user), ("database", database), ("application_name", "t0")];
    let mut client = RawClient::try_login(way.address(), &parameters, PASSWORD)
        .map_err(|fields| format!("a tenant could not log in: {fields:?}"))?;
    client.query("create table if not exists looped as select n from generate_series(1000, 1039) n").ok();
    let until = Instant::now() + PATIENCE;
    loop {
        let rows = client.query("select n from looped order by n").ok();
        for row in rows.rows() {
            client.query(format!("select count(*) from looped where n = {}", row[0])).ok();
        }
        if first(way, "/api/v1/findings?limit=1", "findings", "id").is_ok() {
            break;
        }
        if Instant::now() >= until {
            println!("rows that were asked for one by one were not found: the page of a finding is left out");
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    client.terminate();
    Ok(())
}

/// Asks for every page, and how long each took from the request to the last byte.
pub fn measure(way: &Way) -> Outcome<BTreeMap<Page, Times>> {
    let admin = way.admin().ok_or("this way has no admin port")?;
    let mut all = BTreeMap::new();
    for page in Page::ALL {
        let path = match page {
            Page::Query => format!("/queries/{}", first(way, "/api/v1/queries?limit=1", "queries", "fingerprint")?),
            Page::Finding => match first(way, "/api/v1/findings?limit=1", "findings", "id") {
                Ok(id) => format!("/findings/{id}"),
                // Said by who should have made one, and missed by `--check`.
                Err(_) => continue,
            },
            Page::Tenant => "/tenants/t0".to_owned(),
            plain => plain.path().to_owned(),
        };
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let began = Instant::now();
            let answer = http::request(admin, &path, &[])?;
            if answer.status != 200 {
                return Err(format!("{path} answered {}", answer.status).into());
            }
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let worst = times.iter().copied().fold(0.0, f64::max);
        let median = middle(times.into_iter()).unwrap_or_default();
        all.insert(page, Times { median, worst });
    }
    Ok(all)
}

/// What names the first row of a list of the API.
fn first(way: &Way, path: &str, list: &str, name: &str) -> Outcome<String> {
    let admin = way.admin().ok_or("this way has no admin port")?;
    let page = http::request(admin, path, &[])?.json();
    let named = page[list][0][name].as_str().ok_or_else(|| format!("{path} lists nothing"))?;
    Ok(named.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_that_the_documentation_lists_is_measured() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dashboard.md");
        let text = std::fs::read_to_string(page).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| `/"));
        let listed = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(','));
        let listed: Vec<&str> = listed.map(|path| path.trim().trim_matches('`')).collect();
        assert_eq!(listed, Page::ALL.map(Page::path));
    }
}

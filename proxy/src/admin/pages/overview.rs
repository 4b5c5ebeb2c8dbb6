//! `/`: what is wrong, since when, for whom; then how much there is to do, what takes the time, what was found, who waits.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::course::{Course, latest};
use super::layout::{Section, Sheet, page as framed};
use super::parts::{self, Tile};
use super::show::chart::{self, Chart};
use super::show::figure::{self, known};
use super::show::text::{name, visible};
use super::show::{Fields as _, moment};
use super::visit::{Pages, Said, Visit, query};

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let period = visit.period();
    let lately = period.query(visit.now_us);
    let history = format!("/api/v1/history{}", query(lately.iter().map(|(name, value)| (*name, value.as_str()))));
    let all = visit.sees_all();
    let (overview, history, queries, findings, pools, cache, version) = tokio::join!(
        visit.get("/api/v1/overview"),
        visit.get(history.as_str()),
        super::queries::with_series(&visit, "?sort=total_time&limit=8"),
        visit.get("/api/v1/findings?state=open&limit=4"),
        visit.get_if(all, "/api/v1/pools"),
        visit.get_if(all, "/api/v1/cache"),
        visit.get_if(all, "/api/v1/version"),
    );
    let course = history.answer().map(|history| Course::read(history, &period, visit.now_us, visit.begun_us));
    let pools = pools.as_ref().and_then(Said::answer).map(|pools| pools.list("pools"));
    let content = html! {
        section #verdicts data-live aria-labelledby="verdicts-title" {
            h2 #verdicts-title { "Verdicts" }
            (overview.drawn(|overview| verdicts(overview, &visit)))
        }
        section #numbers data-live aria-label="Headline figures" {
            (parts::tiles(&numbers(overview.answer(), course.as_ref(), pools, &findings), Some(&period)))
        }
        section #course aria-labelledby="course-title" {
            div.head { h2 #course-title { "Traffic" } (parts::periods(&visit, period.name)) }
            (history.drawn(|_| charts(course.as_ref())))
        }
        section #top data-live aria-labelledby="top-title" {
            div.head { h2 #top-title { "Where the time goes" } a href="/queries" { "All queries" } }
            (queries.drawn(|queries| parts::statements("The statements that took most time, all calls added up", queries.list("queries"), &visit)))
        }
        section #found data-live aria-labelledby="found-title" {
            div.head { h2 #found-title { "Open findings" } a href="/findings?state=open" { "All findings" } }
            (findings.drawn(|findings| parts::finding_cards(findings.list("findings"), &visit, "Nothing is open: no N+1, no statement that has become slow.")))
        }
        @if let Some(pools) = pools {
            section #pools data-live aria-labelledby="pools-title" {
                div.head { h2 #pools-title { "Pools" } a href="/pools" { "All pools" } }
                (super::pools::summary(pools))
            }
        }
        @if let Some(cache) = cache.as_ref().and_then(Said::answer) {
            section #cache data-live aria-labelledby="cache-title" {
                div.head { h2 #cache-title { "Cache" } a href="/cache" { "What it does" } }
                (super::cache::summary(cache))
            }
        }
    };
    let mut sheet = Sheet::new("Overview", Section::Overview).twin("/api/v1/overview");
    if let Some(version) = version.as_ref().and_then(Said::answer) {
        sheet = sheet.lead(html! {
            "pgweir " (visible(version.text("version"))) ", up for " (figure::long(version.count("uptime_seconds")))
            ", " (figure::grouped(version.count("workers"))) " workers"
        });
    } else if let Some(tenant) = &visit.who.tenant {
        sheet = sheet.lead(html! { "What tenant " (name(tenant)) " does, and nothing of others." });
    }
    framed(&visit, &sheet, &content)
}

/// What is wrong, the gravest first; and what was looked at where nothing is.
fn verdicts(overview: &Value, visit: &Visit) -> Markup {
    let verdicts = overview.list("verdicts");
    let checked = overview.list("checked");
    html! {
        @if verdicts.is_empty() {
            div.verdict.good {
                p.tags { span.tag.good { "all well" } }
                h3 { "Nothing is wrong that pgweir can see." }
            }
        } @else {
            ul.verdicts { @for one in verdicts { (verdict(one, visit)) } }
        }
        @if !checked.is_empty() {
            details.checked {
                summary { "What was looked at" }
                ul { @for check in checked { li { (visible(check.as_str().unwrap_or_default())) } } }
            }
        }
    }
}

fn verdict(verdict: &Value, visit: &Visit) -> Markup {
    let grade = match verdict.text("severity") {
        "critical" => "critical",
        "warning" => "warning",
        _ => "notice",
    };
    // Only a page of this port: what the API says is a path.
    let plain = |link: &str| link.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let link =
        Some(verdict.text("link")).filter(|link| link.starts_with('/') && !link.starts_with("//") && plain(link));
    html! {
        li class={ "verdict " (grade) } {
            p.tags {
                (parts::severity(grade))
                @if verdict.field("since").is_some() { span.when { "since " (moment::ago(verdict.text("since"), visit.now_us)) } }
                @if let Some(about) = verdict.field("whom") { (parts::whom(about, visit)) }
            }
            h3 { (visible(verdict.text("what"))) }
            @if !verdict.text("evidence").is_empty() { p { (visible(verdict.text("evidence"))) } }
            @if !verdict.text("advice").is_empty() { p.advice { strong { "What to do " } (visible(verdict.text("advice"))) } }
            @if let Some(link) = link { p { a href=(link) { "Look at it" } } }
        }
    }
}

/// The headline figures.
fn numbers(
    overview: Option<&Value>,
    course: Option<&Course>,
    pools: Option<&[Value]>,
    findings: &Said,
) -> Vec<Tile<'static>> {
    let mut tiles = Vec::new();
    let now = |field: &str| overview.and_then(|all| all.number(&format!("numbers.{field}")));
    if let Some(course) = course {
        let beside = |values: &[Option<f64>], show: fn(f64) -> String| html! { (known(latest(values), show)) " in the last full minute" };
        // What the overview says is of the last seconds; the course ends with the last slot that is over.
        let share = now("error_share").map(|share| html! { (figure::percent(share)) " of statements" });
        tiles.push(tile(
            "Statements/s",
            known(now("statements_per_second"), figure::rate),
            html! { (known(latest(&course.calls()), figure::rate)) " a minute" },
            course.calls(),
            "one",
        ));
        tiles.push(tile(
            "Errors/s",
            known(now("errors_per_second"), figure::rate),
            share.unwrap_or_else(|| beside(&course.errors(), figure::rate)),
            course.errors(),
            "bad",
        ));
        tiles.push(tile(
            "p95 of a statement",
            known(now("p95_ms").or(latest(&course.p95())), figure::ms),
            html! { "mean " (known(latest(&course.mean()), figure::ms)) },
            course.p95(),
            "two",
        ));
        tiles.push(tile(
            "Wait for a server",
            known(latest(&course.queue()), figure::ms),
            html! { "of a statement, on average" },
            course.queue(),
            "three",
        ));
    }
    if let Some(pools) = pools {
        let sum = |field: &str| pools.iter().map(|pool| pool.count(field)).sum::<f64>();
        let waiting = sum("clients.waiting");
        tiles.push(Tile {
            title: "Clients",
            figure: html! { (figure::count(sum("clients.total"))) },
            beside: html! { (figure::count(sum("clients.active"))) " active, " span.bad[waiting > 0.0] { (figure::count(waiting)) " waiting" } },
            course: Vec::new(),
            tone: "plain",
        });
        tiles.push(Tile {
            title: "Server connections",
            figure: html! { (figure::count(sum("upstreams.active") + sum("upstreams.idle"))) },
            beside: html! { (figure::count(sum("upstreams.active"))) " busy, " (figure::count(sum("upstreams.pinned"))) " pinned" },
            course: Vec::new(),
            tone: "plain",
        });
    }
    if let Some(total) = findings.answer().and_then(|findings| findings.number("total")) {
        tiles.push(Tile {
            title: "Open findings",
            figure: html! { (figure::count(total)) },
            beside: html! { a href="/findings?state=open" { "Look at them" } },
            course: Vec::new(),
            tone: if total > 0.0 { "warn" } else { "plain" },
        });
    }
    tiles
}

fn tile<'a>(title: &'a str, figure: Markup, beside: Markup, course: Vec<Option<f64>>, tone: &'a str) -> Tile<'a> {
    Tile { title, figure, beside, course, tone }
}

fn charts(course: Option<&Course>) -> Markup {
    let Some(course) = course else { return html! {} };
    html! {
        div.charts {
            (chart::draw(&Chart { id: "calls", title: "Calls and errors a minute", times: &course.times, lines: &course.traffic_lines() }))
            (chart::draw(&Chart { id: "times", title: "Time of a call", times: &course.times, lines: &course.time_lines() }))
        }
    }
}

//! The keys of the read cache: `[cache]` and `[[cache.rule]]`.

use super::super::{Kind, Reload, Row};
use super::row;
use crate::{CacheEffect, CacheFreshness, CacheMode, CachePreset};
use Kind::{Flag, Fraction, Names, Size, Text, Time, Word};
use Reload::{AtOnce, Restart};

/// Every key of the cache.
#[rustfmt::skip]
pub(crate) const CACHE: &[Row] = &[
    row("cache.mode", Word(CacheMode::WORDS), Some("off"), AtOnce,
        "`off`: nothing is kept. `observe`: replies are kept and compared with the server's, and the server's are served: a free proof. `on`: they are served. Each change ends all that is kept; the admin port and the console (`SET cache.mode = 'on'`) change it too, until a reload. Nothing is cached without a rule, whatever the mode."),
    row("cache.max_bytes", Size, Some("256MiB"), Restart,
        "Memory of all answers together; the least useful ones go first."),
    row("cache.max_entry", Size, Some("256KiB"), AtOnce,
        "An answer that takes more, its key and what is needed to keep it included, is not kept; at most `max_bytes`."),
    row("cache.tenant_share", Fraction, Some("0.25"), AtOnce,
        "The part of `max_bytes` that one tenant's answers may take, so that nobody pushes out everybody else's. `1` where there is one tenant."),
    row("cache.min_cost", Time { zero: true }, Some("300us"), AtOnce,
        "A reply that the server usually needs less time for is not kept: it would not pay."),
    row("cache.sole_writer", Flag, Some("false"), Restart,
        "Your word that nobody writes to the databases but through this process: no other instance, no psql beside it, no scheduled job. No replication slot is needed then. Where the word is not kept, answers are stale for as long as their `ttl`."),
    row("cache.publication", Text, Some("pgweir_cache"), Restart,
        "The publication in each database through which writes that do not pass this process are heard of. Of no use where all rules have `freshness = \"ttl\"`, or with `sole_writer`. `pgweir check --connect` prints the SQL that makes it."),
    row("cache.catalog_poll", Time { zero: false }, Some("5s"), AtOnce,
        "How often each database's catalog is looked at for changes (DDL, grants, policies) that did not pass this process: so long may an answer be older than one of these. Some milliseconds of the server's time each."),
    row("cache.preset", Word(CachePreset::WORDS), None, AtOnce,
        "Rules that are shipped; they come behind those that are written. `workflow-engine`: the tables `events` 5m, `users` 10m, `servers` 15m, `logs` 2m, `workflows` 5m, each with a tag of its name in the singular, all coherent. As with rules, the first ones need a restart."),
    row("cache.rule[].effect", Word(CacheEffect::WORDS), Some("allow"), AtOnce,
        "`deny`: what it is about is not cached, whatever other rules say. A deny is about a statement that reads one of its tables, be it through a view."),
    row("cache.rule[].tables", Names, None, AtOnce,
        "The statement names these tables and no others: `runs`, `audit.log`, `log_*`, as the server folds names. Without a schema, that of any."),
    row("cache.rule[].fingerprint", Text, None, AtOnce,
        "This statement: the `fingerprint` of `/api/v1/queries` and the dashboard."),
    row("cache.rule[].application", Text, None, AtOnce,
        "Clients with this `application_name`; a star may be its last character."),
    row("cache.rule[].hinted", Flag, Some("false"), AtOnce,
        "Only statements with `/*+ cache */` or `/*+ cache ttl=30 */` in a comment at one of their ends. `/*+ cache off */` keeps a statement out whatever the rules say."),
    row("cache.rule[].ttl", Time { zero: true }, None, AtOnce,
        "No answer gets older; at most a day. Required, but for `deny`. With `coherent` and `strict` a backstop: writes end answers long before."),
    row("cache.rule[].freshness", Word(CacheFreshness::WORDS), Some("coherent"), AtOnce,
        "`coherent`: a write through this process ends answers before whoever wrote is told, other writes within 250ms. `strict`: the same for every write, by asking the server for the end of its log. `ttl`: nothing but time ends them."),
    row("cache.rule[].stale_for", Time { zero: true }, Some("0"), AtOnce,
        "With `freshness = \"ttl\"` alone: an answer that has just expired is served for so long while one client fetches a new one."),
    row("cache.rule[].tags", Names, None, AtOnce,
        "Names to end its answers by, by hand."),
    row("cache.rule[].pure_functions", Names, None, AtOnce,
        "Functions, with or without schema, that depend on nothing but their arguments and the session's settings, and change nothing. Your word: statements that call others of your own, or stable ones, are not cached."),
    row("cache.rule[].materialized", Flag, Some("false"), AtOnce,
        "Materialised views may be read: REFRESH passes this process. A publication does not tell of them."),
];

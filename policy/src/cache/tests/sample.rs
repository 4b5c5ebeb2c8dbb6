//! A small database's catalog, as the tests of writes and reads know it.

use super::super::catalog::*;

pub(super) const RUNS: u32 = 1;
pub(super) const STEPS: u32 = 2;
pub(super) const EVENTS: u32 = 3;
pub(super) const EVENTS_2026: u32 = 4;
pub(super) const EVENTS_JANUARY: u32 = 5;
pub(super) const RECENT: u32 = 6;
pub(super) const LOG: u32 = 11;
pub(super) const OTHERS_RUNS: u32 = 12;
pub(super) const NOTES: u32 = 13;
pub(super) const SECURED: u32 = 14;
pub(super) const MEMBERS: u32 = 15;
pub(super) const TOTALS: u32 = 7;
pub(super) const FACADE: u32 = 18;
pub(super) const DYNAMIC: u32 = 19;
pub(super) const PARENT: u32 = 20;

pub(super) const PATH: &[&str] = &["public"];

pub(super) fn relation(oid: u32, schema: &str, name: &str, kind: Kind) -> Relation {
    Relation {
        oid,
        schema: schema.into(),
        name: name.into(),
        kind,
        persistence: Persistence::Permanent,
        row_security: false,
        own_types: false,
    }
}

pub(super) fn function(oid: u32, name: &str, volatility: Volatility, language: Language, source: &str) -> Function {
    let (schema, name) = name.split_once('.').unwrap_or(("pg_catalog", name));
    Function {
        oid,
        schema: schema.into(),
        name: name.into(),
        volatility,
        language,
        source: source.into(),
        takes_row: false,
    }
}

fn relations() -> Vec<Relation> {
    let public = |oid, name, kind| relation(oid, "public", name, kind);
    vec![
        public(RUNS, "runs", Kind::Table),
        public(STEPS, "steps", Kind::Table),
        public(EVENTS, "events", Kind::Partitioned),
        public(EVENTS_2026, "events_2026", Kind::Partitioned),
        public(EVENTS_JANUARY, "events_2026_01", Kind::Table),
        public(RECENT, "recent", Kind::View),
        public(TOTALS, "totals", Kind::Materialized),
        public(8, "remote", Kind::Foreign),
        Relation { persistence: Persistence::Unlogged, ..public(9, "scratch", Kind::Table) },
        public(10, "ids", Kind::Sequence),
        relation(LOG, "audit", "log", Kind::Table),
        relation(OTHERS_RUNS, "other", "runs", Kind::Table),
        public(NOTES, "notes", Kind::Table),
        Relation { row_security: true, ..public(SECURED, "secured", Kind::Table) },
        public(MEMBERS, "members", Kind::Table),
        Relation { row_security: true, ..public(16, "guarded", Kind::Table) },
        Relation { own_types: true, ..public(17, "odd_types", Kind::Table) },
        public(FACADE, "facade", Kind::View),
        public(DYNAMIC, "dynamic", Kind::Table),
        public(PARENT, "parent", Kind::Table),
        public(21, "timely", Kind::View),
        relation(22, "public", "a.b", Kind::Table),
        public(23, "spread", Kind::Partitioned),
        public(24, "spread_far", Kind::Foreign),
        Relation { row_security: true, ..public(25, "computed", Kind::Table) },
    ]
}

fn functions() -> Vec<Function> {
    use Language::*;
    use Volatility::*;
    let server = |oid, name, volatility| function(oid, name, volatility, Internal, "");
    let mut functions: Vec<_> = [
        ("count", Immutable),
        ("lower", Immutable),
        ("max", Immutable),
        ("generate_series", Immutable),
        ("date_trunc", Stable),
        ("now", Stable),
        ("current_setting", Stable),
        ("pg_has_role", Stable),
        ("random", Volatile),
        ("nextval", Volatile),
        ("pg_advisory_xact_lock", Volatile),
        ("set_config", Volatile),
        ("query_to_xml", Volatile),
        ("age", Stable),
    ]
    .into_iter()
    .zip(100..)
    .map(|((name, volatility), oid)| server(oid, name, volatility))
    .collect();
    functions.extend([
        function(200, "app.log_change", Volatile, Plpgsql, "BEGIN INSERT INTO audit.log VALUES (1); RETURN NEW; END"),
        function(201, "app.run_text", Volatile, Plpgsql, "BEGIN EXECUTE format('update %I', TG_ARGV[0]); END"),
        function(202, "app.finish", Volatile, Sql, "update runs set done = true where id = $1; select app.note($1)"),
        function(203, "app.note", Volatile, Sql, "insert into notes values ($1)"),
        function(204, "ext.distance", Immutable, C, "lib"),
        function(205, "ext.poke", Volatile, C, "lib"),
        function(206, "app.score", Immutable, Sql, "select n * 2 from members limit 1"),
        function(207, "auth.uid", Stable, Sql, "select current_setting('request.jwt.sub', true)::int"),
        function(208, "app.secret", Stable, Sql, "select current_setting($1)"),
        function(209, "app.python", Immutable, Other, "plpy.execute(x)"),
        function(210, "app.alters", Volatile, Plpgsql, "BEGIN CREATE TABLE IF NOT EXISTS x (a int); END"),
        Function { takes_row: true, ..function(211, "app.full_name", Stable, Sql, "select $1.a") },
        function(212, "app.matches", Volatile, Sql, "update runs set n = 1 returning true"),
        // An aggregate of one's own looks like the server's.
        function(213, "app.median", Immutable, Internal, "aggregate_dummy"),
        function(215, "app.next", Volatile, Plpgsql, "BEGIN UPDATE members SET n = n + 1; RETURN 1; END"),
        function(214, "app.loops", Volatile, Sql, "select app.loops()"),
    ]);
    functions
}

pub(super) fn facts() -> Facts {
    let any = Ops::INSERT | Ops::UPDATE | Ops::DELETE;
    let view =
        |relation, text: &str, uses: &[u32]| Rewrite { relation, ops: None, text: text.into(), uses: uses.into() };
    Facts {
        relations: relations(),
        inherits: vec![(EVENTS_2026, EVENTS), (EVENTS_JANUARY, EVENTS_2026), (24, 23)],
        foreign_keys: vec![
            ForeignKey::of(STEPS, RUNS, b'c', b'a'),
            ForeignKey::of(NOTES, STEPS, b'n', b'c'),
            ForeignKey::of(MEMBERS, PARENT, b'a', b'a'),
        ],
        triggers: vec![
            Trigger { relation: NOTES, function: 200, ops: Ops::UPDATE },
            Trigger { relation: DYNAMIC, function: 201, ops: any },
        ],
        functions: functions(),
        rewrites: vec![
            view(RECENT, " SELECT runs.id FROM runs WHERE runs.n > 1;", &[RUNS]),
            view(FACADE, " SELECT parent.id FROM parent;", &[PARENT]),
            view(21, " SELECT runs.id FROM runs WHERE runs.at > now();", &[RUNS]),
            view(TOTALS, " SELECT count(*) FROM runs;", &[RUNS]),
            Rewrite {
                relation: FACADE,
                ops: Some(Ops::INSERT),
                text: "INSERT INTO members (id) VALUES (new.id)".into(),
                uses: [MEMBERS].into(),
            },
        ],
        policies: vec![
            Policy {
                relation: SECURED,
                text:
                    "(tenant = current_setting('App.Tenant_Id'::text)) AND (owner IN (SELECT members.id FROM members \
                       WHERE members.uid = auth.uid())) OR owner = CURRENT_USER"
                        .into(),
            },
            Policy { relation: 25, text: "(tenant = current_setting('a.'::text || owner))".into() },
            Policy { relation: 16, text: "(tenant = app.secret('x'))".into() },
        ],
        operators: vec![("<~>".into(), 212), ("<->".into(), 204)],
        types: vec!["moody".into()],
        event_triggers: false,
        ..Facts::default()
    }
}

pub(super) fn catalog() -> Catalog {
    Catalog::new(facts())
}

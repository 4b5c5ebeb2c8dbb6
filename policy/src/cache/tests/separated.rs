//! Tables whose rows are separated by a setting: what is taken for one, and which writes are of one value alone.

use super::super::catalog::*;
use super::sample::*;

const TENANTS: u32 = 50;
const CHILDREN: u32 = 51;
const HELD: u32 = 52;
const OWNER: u32 = 16_500;

/// As PostgreSQL 15 and 18 print it.
const PRINTED: &str = "(tenant_id = ( SELECT (current_setting('app.tenant_id'::text))::integer AS current_setting))";

fn policy(using: Option<&str>, check: Option<&str>) -> PolicyOf {
    PolicyOf { permissive: true, using: using.map(Box::from), check: check.map(Box::from) }
}

fn separable(relation: u32, policies: Vec<PolicyOf>) -> Separable {
    let column = |name: &str, values| ColumnOf { name: name.into(), values };
    let columns =
        vec![column("tenant_id", ValueType::Integer), column("t", ValueType::Text), column("u", ValueType::Uuid)];
    Separable { relation, owner: OWNER, forced: false, columns, policies }
}

/// The sample with a separated table, its child by a foreign key, and one that is secured and not separated.
fn with(change: impl FnOnce(&mut Facts)) -> Catalog {
    let mut facts = facts();
    facts.operators.clear();
    for (oid, name) in [(TENANTS, "mine"), (CHILDREN, "children"), (HELD, "held")] {
        let row_security = oid != CHILDREN;
        facts.relations.push(Relation { row_security, ..relation(oid, "public", name, Kind::Table) });
    }
    facts.functions.push(function(300, "gen_random_uuid", Volatility::Volatile, Language::Internal, ""));
    facts.functions.push(function(301, "pg_input_is_valid", Volatility::Stable, Language::Internal, ""));
    facts.separable = vec![separable(TENANTS, vec![policy(Some(PRINTED), None)])];
    let names = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect();
    facts.who = Who {
        subject: names(&["app", "owner", "member"]),
        owners: [(OWNER, names(&["owner", "member"]))].into(),
        known_settings: names(&["plpgsql.check_asserts"]),
    };
    change(&mut facts);
    Catalog::new(facts)
}

fn by(policies: Vec<PolicyOf>) -> Option<String> {
    let catalog = with(|facts| facts.separable = vec![separable(TENANTS, policies)]);
    catalog.separation(TENANTS).map(|found| found.setting.to_string())
}

#[test]
fn policies_are_read_as_the_server_prints_them() {
    for printed in [
        PRINTED,
        "(tenant_id = (current_setting('APP.Tenant_ID'::text, true))::integer)",
        "((current_setting('app.tenant_id'::text, false))::bigint = tenant_id)",
        "(tenant_id = (( SELECT current_setting('app.tenant_id'::text) AS current_setting))::smallint)",
        "(u = (current_setting('app.tenant_id'::text))::uuid)",
        "(t = current_setting('app.tenant_id'::text))",
        "((t)::text = ( SELECT current_setting('app.tenant_id'::text, true) AS me))",
    ] {
        assert_eq!(by(vec![policy(Some(printed), None)]).as_deref(), Some("app.tenant_id"), "{printed}");
        assert_eq!(by(vec![policy(None, Some(printed))]).as_deref(), Some("app.tenant_id"), "{printed}");
    }
    for printed in [
        "(tenant_id <> (current_setting('app.tenant_id'::text))::integer)",
        "(tenant_id = current_setting('app.tenant_id'::text))",
        "(tenant_id = (NULLIF(current_setting('app.tenant_id'::text), ''::text))::integer)",
        "(tenant_id = (current_setting(('app.'::text || t)))::integer)",
        "(t = ((current_setting('app.tenant_id'::text))::character varying(3))::text)",
        "(t = lower(current_setting('app.tenant_id'::text)))",
        "(lower(t) = current_setting('app.tenant_id'::text))",
        "(t OPERATOR(public.=) current_setting('app.tenant_id'::text))",
        "(t = public.current_setting('app.tenant_id'::text))",
        "((t = current_setting('app.tenant_id'::text)) OR (t = 'all'::text))",
        "((t = current_setting('app.tenant_id'::text)) AND (u IS NULL))",
        "(NOT (t = current_setting('app.tenant_id'::text)))",
        "(t = ( SELECT current_setting('app.tenant_id'::text) AS a FROM public.members))",
        "(t = current_setting('role'::text))",
        "(t = current_setting('plpgsql.check_asserts'::text))",
        "(other = current_setting('app.tenant_id'::text))",
        "((u)::text = current_setting('app.tenant_id'::text))",
        "(t = CURRENT_USER)",
        "true",
        "",
    ] {
        assert_eq!(by(vec![policy(Some(printed), None)]), None, "{printed}");
    }
}

#[test]
fn each_policy_has_to_say_the_same() {
    let own = || policy(Some(PRINTED), None);
    let other = PRINTED.replace("app.tenant_id", "app.other");
    assert!(by(vec![own(), policy(None, Some(PRINTED))]).is_some());
    assert_eq!(by(vec![]), None, "without a policy nobody sees anything");
    assert_eq!(by(vec![own(), policy(None, None)]), None);
    assert_eq!(by(vec![own(), policy(Some("true"), None)]), None);
    assert_eq!(by(vec![own(), policy(Some(PRINTED), Some("true"))]), None);
    assert_eq!(by(vec![own(), policy(Some(&other), None)]), None);
    assert_eq!(by(vec![own(), PolicyOf { permissive: false, ..own() }]), None);
}

#[test]
fn whatever_else_runs_or_holds_rows_is_not_separated() {
    let is = |change: fn(&mut Facts)| with(change).separation(TENANTS).is_some();
    assert!(is(|_| ()));
    let changed = |facts: &mut Facts, change: fn(&mut Relation)| {
        facts.relations.iter_mut().filter(|relation| relation.oid == TENANTS).for_each(change);
    };
    assert!(!is(|facts| facts.triggers.push(Trigger { relation: TENANTS, function: 100, ops: Ops::INSERT })));
    assert!(!is(|facts| facts.inherits.push((TENANTS, PARENT))));
    assert!(!is(|facts| facts.inherits.push((CHILDREN, TENANTS))));
    assert!(!is(|facts| {
        facts.rewrites.push(Rewrite { relation: TENANTS, ops: Some(Ops::INSERT), text: "".into(), uses: [].into() })
    }));
    for change in [
        (|row| row.row_security = false) as fn(&mut Relation),
        |row| row.own_types = true,
        |row| row.kind = Kind::Partitioned,
        |row| row.kind = Kind::Foreign,
        |row| row.persistence = Persistence::Unlogged,
        |row| row.persistence = Persistence::Temporary,
    ] {
        let catalog = with(|facts| changed(facts, change));
        assert!(catalog.separation(TENANTS).is_none());
    }
}

#[test]
fn it_holds_for_whom_row_level_security_does() {
    let value = |catalog: &Catalog, role: &str| catalog.separation(TENANTS).unwrap().value(role, "7").is_some();
    let catalog = with(|_| ());
    let holds = |role| value(&catalog, role);
    assert!(holds("app") && !holds("owner") && !holds("member") && !holds("postgres") && !holds(""));
    let forced = with(|facts| facts.separable[0].forced = true);
    assert!(value(&forced, "app") && value(&forced, "owner") && !value(&forced, "postgres"));
    let unknown = with(|facts| facts.who.owners.clear());
    assert!(!value(&unknown, "app"), "nobody was told who has the owner's privileges");
}

#[test]
fn two_ways_to_write_a_value_are_never_two_values() {
    let taken = |printed: &str, said: &str| {
        let policies = vec![policy(Some(printed), None)];
        let catalog = with(|facts| facts.separable = vec![separable(TENANTS, policies)]);
        catalog.separation(TENANTS).unwrap().value("app", said).is_some()
    };
    for said in ["0", "7", "-7", "123456789012345678"] {
        assert!(taken(PRINTED, said), "{said}");
    }
    for said in ["", "-", "-0", "07", "+7", " 7", "7 ", "7.0", "0x7", "1_0", "1234567890123456789", "٧", "seven"] {
        assert!(!taken(PRINTED, said), "{said}");
    }
    let uuid = "(u = (current_setting('app.tenant_id'::text))::uuid)";
    assert!(taken(uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
    for said in [
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "",
    ] {
        assert!(!taken(uuid, said), "{said}");
    }
    let text = "(t = current_setting('app.tenant_id'::text))";
    assert!(taken(text, "acme") && taken(text, "Acme-2.eu/x@y:z+1"));
    for said in ["", "é", "a b", "a\\b", &"x".repeat(65)] {
        assert!(!taken(text, said), "{said}");
    }
}

fn catalog_with_keys(on_delete: u8, on_update: u8) -> Catalog {
    with(|facts| facts.foreign_keys.push(ForeignKey::of(CHILDREN, TENANTS, on_delete, on_update)))
}

#[test]
fn a_plain_write_is_of_one_value_alone() {
    let catalog = catalog_with_keys(b'a', b'r');
    for sql in [
        "insert into mine (a, b) values ($1, 'x') returning id",
        "INSERT INTO public.mine DEFAULT VALUES;",
        "insert into mine as r (id, n) values (1, nextval('s')) on conflict (id) do update set n = excluded.n + r.n",
        "insert into mine (u) values (gen_random_uuid()), (now()) on conflict do nothing",
        "insert into mine (n) select count(*) from runs where runs.id = 1",
        "update mine set n = n + 1, at = now() where id = $1",
        "update only mine as r set n = m.n from members m where m.id = r.id",
        "delete from mine where id in (select id from steps)",
        "delete from mine using runs where runs.id = mine.id",
    ] {
        assert_eq!(catalog.written_apart(sql.as_bytes()), Some(TENANTS), "{sql}");
    }
}

#[test]
fn any_doubt_is_the_whole_table() {
    let catalog = catalog_with_keys(b'a', b'r');
    for sql in [
        "insert into mine values (1); insert into mine values (2)",
        "with x as (select 1) insert into mine select * from x",
        "insert into mine with x as (delete from runs returning id) select id from x",
        "explain analyze insert into mine values (1)",
        "merge into mine using runs on true when matched then delete",
        "truncate mine",
        "copy mine from stdin",
        "select 1",
        "update mine set n = 1 where set_config('app.tenant_id', '2', true) is not null",
        "update mine set n = 1 where pg_catalog.set_config('app.tenant_id', '2', true) is not null",
        "update mine set n = app.next()",
        "update mine set n = app.score(1)",
        "update mine set n = unknown(1)",
        "update mine set n = query_to_xml('select 1', true, true, '')::text",
        "update mine set n = 1 where pg_input_is_valid('1', 'app.checked')",
        "update mine set n = 1 where pg_advisory_xact_lock(1) is null",
        "update mine set n = runs.full_name from runs",
        "update mine set n = 1::moody",
        "update mine set n = 1 where current of c",
        "insert into mine select id from recent",
        "insert into mine select id from held",
        "insert into mine select id from remote",
        "insert into mine select 1 from a_view_of_the_session",
        "insert into mine select 1 from pg_temp.x",
        "insert into pg_temp.mine values (1)",
        "insert into runs values (1)",
        "insert into facade values (1)",
        "update held set n = 1",
        "delete from runs using mine where mine.id = runs.id",
        "insert into mine values ('",
        "",
    ] {
        assert_eq!(catalog.written_apart(sql.as_bytes()), None, "{sql}");
    }
}

#[test]
fn a_write_that_leads_on_is_of_the_whole_table() {
    let [insert, update, delete] =
        ["insert into mine values (1)", "update mine set n = 1", "delete from mine where id = 1"];
    let apart = |catalog: &Catalog| [insert, update, delete].map(|sql| catalog.written_apart(sql.as_bytes()).is_some());
    assert_eq!(apart(&catalog_with_keys(b'a', b'a')), [true, true, true]);
    assert_eq!(apart(&catalog_with_keys(b'c', b'a')), [true, true, false]);
    assert_eq!(apart(&catalog_with_keys(b'n', b'c')), [true, false, false]);
    let itself = with(|facts| facts.foreign_keys.push(ForeignKey::of(TENANTS, TENANTS, b'c', b'a')));
    assert_eq!(apart(&itself), [true, true, false]);
    let conflict = "insert into mine values (1) on conflict (id) do update set n = 1";
    assert!(catalog_with_keys(b'a', b'c').written_apart(conflict.as_bytes()).is_none());
}

#[test]
fn what_may_be_another_thing_is_not_told_apart() {
    let sql = b"update mine set n = 1 where a <-> b";
    let of = |function: u32| with(|facts| facts.operators = vec![("<->".into(), function)]);
    assert!(of(204).written_apart(sql).is_some(), "a library's");
    assert!(of(206).written_apart(sql).is_none(), "written in SQL, whatever it promises");
    assert!(of(206).written_apart(b"update mine set n = 1").is_none(), "LIKE is an operator too");
    let twice = with(|facts| facts.relations.push(relation(60, "other", "mine", Kind::Table)));
    assert!(twice.written_apart(b"update mine set n = 1").is_none());
    assert!(twice.written_apart(b"update public.mine set n = 1").is_some());
    assert!(twice.written_apart(b"update other.mine set n = 1").is_none());
    assert!(!catalog().separates());
    assert!(catalog().written_apart(b"update runs set n = 1").is_none());
}

#[test]
fn a_read_sees_its_own_rows_of_what_it_names_itself() {
    let catalog = with(|facts| {
        let uses = [TENANTS].into();
        facts.relations.push(relation(61, "public", "over", Kind::View));
        facts.rewrites.push(Rewrite { relation: 61, ops: None, text: " SELECT mine.id FROM mine;".into(), uses });
        facts.policies.push(Policy { relation: HELD, text: "(id IN ( SELECT mine.id FROM mine))".into() });
        facts.policies.push(Policy { relation: TENANTS, text: PRINTED.into() });
    });
    let allowed = Allowed { pure: &|name| name.name == "score", materialized: false };
    let apart = |sql: &str| catalog.reads(sql.as_bytes(), PATH, allowed).unwrap().apart;
    assert_eq!(apart("select id from mine where n > 1"), [TENANTS]);
    assert_eq!(apart("select r.id from mine r join runs on runs.id = r.id"), [TENANTS]);
    assert!(apart("select id from over").is_empty());
    assert!(apart("select id from over where id in (select id from mine)").is_empty());
    assert!(apart("select held.id from held, mine").is_empty());
    assert!(apart("select app.score(n) from mine").is_empty());
    assert!(apart("select id from runs").is_empty());
}

//! What rules decide.

use std::time::Duration;

use super::super::catalog::Name;
use super::super::*;

const TTL: Duration = Duration::from_secs(60);

fn tables(names: &[&str]) -> Vec<TableName> {
    names.iter().map(|name| TableName::parse(name).unwrap()).collect()
}

fn allow(names: &[&str]) -> Rule {
    Rule { tables: tables(names), ttl: TTL, ..Rule::default() }
}

fn deny(names: &[&str]) -> Rule {
    Rule { effect: Effect::Deny, tables: tables(names), ..Rule::default() }
}

fn decide(rules: &[Rule], shape: &Shape<'_>, application: &str, hint: Option<Hint>) -> Decision {
    let rules = Rules::new(rules.to_vec(), 1).unwrap();
    rules.decide(&rules.standing(shape), application, hint)
}

fn rule_of(decision: Decision) -> Result<u16, Bypass> {
    match decision {
        Decision::Allow { rule, .. } => Ok(rule),
        Decision::Bypass(reason) => Err(reason),
    }
}

fn by_tables(rules: &[Rule], named: &[(Option<&str>, &str)]) -> Result<u16, Bypass> {
    rule_of(decide(rules, &Shape { named, ..Shape::default() }, "", None))
}

#[test]
fn every_named_table_has_to_be_allowed() {
    let rules = [allow(&["runs", "audit.log", "log_*"])];
    for (named, expected) in [
        (&[(Some("public"), "runs")][..], Ok(0)),
        (&[(None, "runs"), (None, "log_2026")], Ok(0)),
        (&[(Some("audit"), "log")], Ok(0)),
        (&[(Some("public"), "log")], Err(Bypass::NoRule)),
        (&[(None, "runs"), (None, "users")], Err(Bypass::NoRule)),
        (&[(None, "runs2")], Err(Bypass::NoRule)),
        (&[], Err(Bypass::NoRule)),
    ] {
        assert_eq!(by_tables(&rules, named), expected, "{named:?}");
    }
}

#[test]
fn one_denied_table_is_enough_wherever_the_rule_stands_and_however_it_is_reached() {
    let rules = [allow(&["*"]), deny(&["secrets", "vault.*"])];
    assert_eq!(by_tables(&rules, &[(Some("public"), "runs")]), Ok(0));
    assert_eq!(by_tables(&rules, &[(None, "runs")]), Err(Bypass::Denied), "it may be in the vault");
    assert_eq!(by_tables(&[allow(&["vault.*"])], &[(None, "runs")]), Err(Bypass::NoRule), "or not");
    assert_eq!(by_tables(&rules, &[(Some("public"), "runs"), (Some("x"), "secrets")]), Err(Bypass::Denied));
    assert_eq!(by_tables(&rules, &[(Some("vault"), "a")]), Err(Bypass::Denied));
    let through_a_view =
        Shape { named: &[(Some("public"), "shown")], reached: &[(Some("vault"), "keys")], ..Shape::default() };
    assert_eq!(decide(&rules, &through_a_view, "", None), Decision::Bypass(Bypass::Denied));
}

#[test]
fn of_those_that_allow_the_first_one_counts() {
    let short = Rule { ttl: Duration::from_secs(1), ..allow(&["runs"]) };
    let rules = [Rule { application: Some("report*".into()), ..short.clone() }, allow(&["runs"]), short];
    let shape = Shape { named: &[(None, "runs")], ..Shape::default() };
    let of = |application| rule_of(decide(&rules, &shape, application, None));
    assert_eq!((of("reporting"), of("report"), of("web"), of("")), (Ok(0), Ok(0), Ok(1), Ok(1)));
}

#[test]
fn a_rule_may_be_about_one_statement_or_one_application() {
    let by_text = Rule { fingerprint: Some(7), ttl: TTL, ..Rule::default() };
    let by_application = Rule { application: Some("web".into()), ttl: TTL, ..Rule::default() };
    let denied = Rule { application: Some("batch".into()), effect: Effect::Deny, ..Rule::default() };
    let rules = [by_text, by_application, denied];
    let of = |fingerprint, application| {
        rule_of(decide(&rules, &Shape { fingerprint, ..Shape::default() }, application, None))
    };
    assert_eq!((of(7, "any"), of(8, "web"), of(8, "any")), (Ok(0), Ok(1), Err(Bypass::NoRule)));
    assert_eq!((of(7, "batch"), of(8, "batch")), (Err(Bypass::Denied), Err(Bypass::Denied)));
}

#[test]
fn hints_narrow_what_a_rule_allows_and_never_widen_it() {
    let rules = [Rule { hinted: true, ..allow(&["runs"]) }, allow(&["events"])];
    let hint = |seconds| Some(Hint { off: false, ttl: Some(Duration::from_secs(seconds)) });
    let of = |table, hint| decide(&rules, &Shape { named: &[(None, table)], ..Shape::default() }, "", hint);
    let told = |decision| match decision {
        Decision::Allow { terms, youth, .. } => Ok((terms.ttl.as_secs(), youth.map(|youth| youth.as_secs()))),
        Decision::Bypass(reason) => Err(reason),
    };
    assert_eq!(told(of("runs", None)), Err(Bypass::NoRule));
    // What is kept promises what the rule says; the hint is of who asks.
    assert_eq!(told(of("runs", hint(30))), Ok((60, Some(30))));
    assert_eq!(told(of("runs", hint(90))), Ok((60, Some(90))));
    assert_eq!(told(of("events", hint(5))), Ok((60, Some(5))));
    assert_eq!(told(of("events", None)), Ok((60, None)));
    assert_eq!(told(of("users", hint(5))), Err(Bypass::NoRule), "a hint is no rule");
    assert_eq!(told(of("events", Some(Hint { off: true, ttl: None }))), Err(Bypass::HintedOff));
}

#[test]
fn a_text_that_names_no_table_concerns_no_rule_about_tables() {
    let concerns = |rule: Rule, named: Option<&[&str]>| {
        let rules = Rules::new(vec![rule], 1).unwrap();
        let named: Option<Vec<Box<str>>> = named.map(|named| named.iter().map(|name| (*name).into()).collect());
        rules.may_concern(7, named.as_deref())
    };
    // BEGIN, SET, SELECT 1.
    assert!(!concerns(allow(&["*"]), Some(&[])));
    assert!(concerns(allow(&["*"]), Some(&["runs"])) && concerns(allow(&["*"]), None));
    assert!(!concerns(allow(&["runs"]), Some(&["runs", "users"])));
    // By another condition it may be about anything.
    assert!(concerns(Rule { tables: vec![], hinted: true, ..allow(&[]) }, Some(&[])));
}

#[test]
fn rules_that_say_too_little_or_too_much_are_refused() {
    let good = allow(&["runs"]);
    let bad = Rules::new(
        vec![
            good.clone(),
            Rule { ttl: TTL, ..Rule::default() },
            Rule { ttl: Duration::ZERO, ..good.clone() },
            Rule { ttl: MAX_TTL + TTL, ..good.clone() },
            Rule { stale_for: TTL, ..good.clone() },
            Rule { effect: Effect::Deny, ..Rule::default() },
            Rule { stale_for: TTL, freshness: Freshness::Ttl, ..good.clone() },
            deny(&["runs"]),
        ],
        1,
    );
    let expected = vec![
        BadRule::NoCondition(1),
        BadRule::NoTtl(2),
        BadRule::LongTtl(3),
        BadRule::StaleButFollowing(4),
        BadRule::NoCondition(5),
    ];
    assert_eq!(bad.unwrap_err(), expected);
    assert_eq!(Rules::new(vec![good; 70_000], 1).unwrap_err(), [BadRule::TooMany]);
}

#[test]
fn what_is_wrong_with_a_rule_is_said_with_its_place() {
    for (bad, start) in [
        (BadRule::NoCondition(0), "cache rule 1 "),
        (BadRule::NoTtl(1), "cache rule 2 "),
        (BadRule::LongTtl(2), "cache rule 3 "),
        (BadRule::StaleButFollowing(3), "cache rule 4 "),
        (BadRule::TooMany, "there are more than 65535 cache rules"),
    ] {
        assert!(bad.to_string().starts_with(start), "{bad}");
    }
}

#[test]
fn names_of_tables_are_read_or_refused() {
    for good in ["runs", "a.b", "log_*", "a.*", "*", "Mixed", "größe"] {
        assert!(TableName::parse(good).is_some(), "{good}");
    }
    for bad in ["", ".", "a.", ".b", "a.b.c", "a*b", "a b", "\"a\"", "*.a"] {
        assert!(TableName::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn the_preset_has_the_times_that_were_asked_for() {
    let rules = Rules::new(preset(), 1).unwrap();
    for (table, minutes) in [("events", 5), ("users", 10), ("servers", 15), ("logs", 2), ("workflows", 5)] {
        let standing = rules.standing(&Shape { named: &[(Some("public"), table)], ..Shape::default() });
        let Decision::Allow { terms, rule, .. } = rules.decide(&standing, "", None) else { panic!("{table}") };
        assert_eq!((terms.ttl.as_secs(), terms.freshness), (60 * minutes, Freshness::Coherent));
        assert_eq!(rules.get(rule).unwrap().tags, [table.trim_end_matches('s')]);
    }
}

#[test]
fn functions_are_declared_pure_by_name_or_by_schema_and_name() {
    let rule = Rule { pure_functions: vec!["date_trunc".into(), "app.score".into()], ..allow(&["runs"]) };
    let name = |schema: Option<&str>, name: &str| Name { schema: schema.map(Into::into), name: name.into() };
    for (name, pure) in [
        (name(None, "date_trunc"), true),
        (name(Some("pg_catalog"), "date_trunc"), true),
        (name(Some("app"), "score"), true),
        (name(None, "score"), false),
        (name(Some("other"), "score"), false),
    ] {
        assert_eq!(rule.is_pure(&name), pure, "{name:?}");
    }
}

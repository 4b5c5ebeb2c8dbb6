//! By whose terms an answer is given: by those of the rule and the hint of whoever asks. What somebody else may have had is
//! nothing that it may have.

use std::time::Duration;

use config::CacheFreshness;
use pgweir::cache::by_hand::ByHand;

use super::{CacheRule, Ground, all};

const SCHEMA: &str = "create table items (id int primary key, n int); insert into items values (1, 1)";
const SQL: &str = "select n from items where id = 1";

/// One rule for whoever makes reports, another one for all others.
fn two_rules(of_reports: CacheRule, of_others: CacheRule) -> Ground {
    let of_reports = CacheRule { application: Some("reports*".into()), ..of_reports };
    Ground::with(SCHEMA, |cache| cache.rules = vec![of_reports, of_others])
}

#[test]
fn an_old_answer_that_one_rule_allows_is_none_by_another() {
    let ground = two_rules(CacheRule { freshness: CacheFreshness::Ttl, ..all() }, all());
    let mut reports = ground.site.client_with(&[("application_name", "reports-1")]);
    let mut web = ground.client();
    assert_eq!(ground.cached(&mut reports, SQL).value(), "1");
    web.query("update items set n = 2").ok();
    let mut by_time = || ground.asked(|| reports.query(SQL).value());
    assert_eq!(by_time(), ("1".to_owned(), true), "time alone ends it");
    assert_eq!(web.query(SQL).value(), "2");
    assert_eq!(ground.cached(&mut web, SQL).value(), "2");
    assert_eq!(by_time(), ("1".to_owned(), true), "each rule has an answer of its own");
    // The same client by another name.
    web.query("set application_name = 'reports-2'").ok();
    assert_eq!(ground.asked(|| web.query(SQL).value()), ("1".to_owned(), true));
    web.query("set application_name = 'web'").ok();
    assert_eq!(ground.asked(|| web.query(SQL).value()), ("2".to_owned(), true));
}

#[test]
fn an_answer_is_ended_by_the_tags_of_its_own_rule() {
    let tagged = |tag: &str| CacheRule { tags: vec![tag.into()], ..all() };
    let ground = two_rules(tagged("report"), tagged("page"));
    let mut reports = ground.site.client_with(&[("application_name", "reports-1")]);
    let mut web = ground.client();
    for client in [&mut reports, &mut web] {
        ground.cached(client, SQL);
    }
    let mut from_the_cache = |tag: &str| {
        ground.caches().invalidate(None, ByHand::Tag(tag)).expect("a rule has this tag");
        [&mut reports, &mut web].map(|client| ground.asked(|| client.query(SQL).ok()).1)
    };
    assert_eq!(from_the_cache("page"), [true, false]);
    assert_eq!(from_the_cache("report"), [false, true]);
}

#[test]
fn who_asks_for_a_young_answer_gets_no_old_one_and_takes_it_from_nobody() {
    const AGE: Duration = Duration::from_millis(100);
    let ground = Ground::new(SCHEMA);
    let mut client = ground.client();
    let hinted = |ttl: &str| format!("{SQL} /*+ cache ttl={ttl} */");
    assert_eq!(ground.cached(&mut client, SQL).value(), "1");
    // Nobody is told of this: what is older shows.
    ground.direct().query("update items set n = 2").ok();
    std::thread::sleep(AGE);
    assert_eq!(ground.asked(|| client.query(hinted("1h")).value()), ("1".to_owned(), true));
    assert_eq!(ground.asked(|| client.query(SQL).value()), ("1".to_owned(), true));
    assert_eq!(ground.asked(|| client.query(hinted("100ms")).value()), ("2".to_owned(), false));
    // What it was given is kept for as long as the rule says, for those who do not ask for less.
    ground.direct().query("update items set n = 3").ok();
    std::thread::sleep(AGE);
    assert_eq!(ground.asked(|| client.query(SQL).value()), ("2".to_owned(), true));
    assert_eq!(ground.asked(|| client.query(hinted("100ms")).value()), ("3".to_owned(), false));
    assert_eq!(ground.asked(|| client.query(SQL).value()), ("3".to_owned(), true));
}

//! Limits of tenants beside answers that are kept: whoever may not have one, or not so much, or not so often, is told so as if
//! nothing were kept.

use super::Ground;
use super::apart::{called, ruled};

const SQL: &str = "select id, n from runs where n > 0";

/// `acme` reads without a limit, `acme batch` with this one.
fn with_worker(limit: &str) -> Ground {
    ruled(&format!(
        "[[tenant.classify]]\nfrom = 'application_name'\npattern = 'batch'\nclass = 'worker'\n\
         [tenant.class.worker]\n{limit}\n"
    ))
}

fn beside(limit: &str, code: &str) {
    let ground = with_worker(limit);
    let (mut limited, mut free) = (called(&ground, "tenant:acme batch"), called(&ground, "tenant:acme"));
    assert_eq!(ground.cached(&mut free, SQL).rows().len(), 9);
    for _ in 0..3 {
        assert_eq!(limited.query(SQL).error().code(), code, "{limit}");
        assert_eq!(ground.asked(|| free.query(SQL).ok().rows().len()), (9, true), "{limit}");
    }
}

#[test]
fn an_answer_that_is_kept_is_refused_as_the_server_s_would_be() {
    beside("max_rows = 8", "53400");
    beside("max_bytes = 20", "53400");
    beside("tables = ['other']", "42501");
    beside("blocked = true", "42501");
}

#[test]
fn answers_that_are_kept_count_for_the_rate() {
    let ground = with_worker("statement_rate = 1\nstatement_burst = 5");
    let (mut limited, mut free) = (called(&ground, "tenant:acme batch"), called(&ground, "tenant:acme"));
    ground.cached(&mut free, SQL);
    let before = ground.hits();
    let refused = (0..300).any(|_| {
        let reply = limited.query(SQL);
        let code = reply.errors().first().map(|error| error.code().to_owned());
        assert!(code.as_deref().is_none_or(|code| code == "53400"), "{reply:?}");
        code.is_some()
    });
    assert!(refused && ground.hits() > before, "{}", ground.why());
}

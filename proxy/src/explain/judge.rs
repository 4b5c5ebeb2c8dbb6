//! What limits say against a statement by what it is: in the order in which the proxy looks at them.

use config::{LimitKey, Mode};
use policy::limits::{Effective, LimitTable};
use policy::verdict::Refusal;

use super::{Objection, Statement, Text};
use crate::session::police::{against, said_of};
use crate::session::statement::Known;

/// Whose statements are judged.
pub(super) struct Whose<'a> {
    pub(super) table: &'a LimitTable,
    pub(super) tenant: &'a str,
    pub(super) class: &'a str,
}

impl Whose<'_> {
    /// One of which the fingerprint alone is known.
    pub(super) fn fingerprint(&self, strict: u64) -> Statement {
        Statement { fingerprint: strict, has_limits: self.own(strict).is_some(), text: None }
    }

    /// One whose text is known: what holds for all of the tenant's, then what is said of just this one. Of several in a
    /// text, each has its own.
    pub(super) fn statement(&self, of_session: &Effective, known: &Known) -> Statement {
        let shape = &known.shape;
        let named: Vec<(u64, Effective)> =
            shape.named().filter_map(|(strict, class)| Some((strict, said_of(class, self.own(strict)?)))).collect();
        let mut objections: Vec<Objection> = against(of_session, known, known.script.as_deref(), true)
            .map(|(key, mode, what)| self.objection(None, key, mode, what))
            .collect();
        for (strict, own) in &named {
            objections.extend(own.blocked.map(|mode| self.objection(Some(*strict), LimitKey::Blocked, mode, "")));
        }
        let row_limit = named.iter().find_map(|(_, own)| own.row_limit).or(of_session.row_limit);
        let takes_limit = known.takes_limit();
        let text = Text {
            normalised: shape.text().to_owned(),
            objections,
            row_limit: row_limit.filter(|_| takes_limit).map(|limit| (limit.at, limit.mode)),
        };
        let first = named.first().map(|(strict, _)| *strict);
        Statement { fingerprint: first.unwrap_or(shape.strict), has_limits: first.is_some(), text: Some(text) }
    }

    fn own(&self, strict: u64) -> Option<Effective> {
        self.table.of_statement(self.tenant, self.class, strict)
    }

    fn objection(&self, strict: Option<u64>, key: LimitKey, mode: Mode, what: &str) -> Objection {
        let limited = self.table.limited(self.tenant, self.class, key, strict);
        let refusal = Refusal::NotAllowed { limited, what: what.into() };
        Objection { limit: key.word(), mode, report: refusal.report() }
    }
}

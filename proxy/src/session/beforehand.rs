//! A statement that a limit refuses is refused before an upstream is taken for it: nobody waits in a pool's queue, and no
//! server is made to raise an error, for what is not run.
//!
//! That is the first statement of a request, where nothing stands before it that a server has to do. Others are refused at
//! their place in the pipeline ([`super::refuse`]), and so is one too many of those that run: how many do so is known when
//! it is sent.

use std::rc::Rc;
use std::time::Instant;

use config::{LimitKey, Mode};
use policy::verdict::Refusal;
use wire::frame;
use wire::tag::Frontend;
use wire::view::{self, Bind, Execute, Parse};

use super::Session;
use super::brain::Sent;
use super::cached::Looked;
use super::police::{CommentTags, against, not_allowed, too_fast};
use super::statement::Known;
use crate::trouble::Trouble;

/// The first statement that a request runs.
enum First<'a> {
    /// Of a Query.
    Text(&'a [u8]),
    /// Prepared by the request itself, with its first message: its text, and its name.
    Prepared(&'a [u8], &'a [u8]),
    /// Prepared before, under this name.
    Named(&'a [u8]),
}

impl<'a> First<'a> {
    /// `None`: nothing is run, or something else comes first.
    fn read(whole: &'a [u8]) -> Option<Self> {
        let (mut parse, mut bind, mut at) = (None::<Parse<'a>>, None::<Bind<'a>>, 0);
        loop {
            let rest = whole.get(at..)?;
            let head = frame::head(rest).ok()??;
            let body = rest.get(frame::HEAD..head.total())?;
            let first = at == 0;
            at += head.total();
            match Frontend::from_byte(head.tag)? {
                Frontend::Query if first => return view::query(body).ok().map(First::Text),
                Frontend::Parse if first => parse = Some(Parse::read(body).ok()?),
                Frontend::Bind if bind.is_none() => bind = Some(Bind::read(body).ok()?),
                Frontend::Describe => {}
                Frontend::Execute => {
                    let (bind, execute) = (bind?, Execute::read(body).ok()?);
                    if execute.portal != bind.portal {
                        return None;
                    }
                    let own = parse.filter(|parse| parse.statement == bind.statement);
                    return Some(
                        own.map_or(First::Named(bind.statement), |parse| First::Prepared(parse.query, parse.statement)),
                    );
                }
                _ => return None,
            }
        }
    }
}

impl Session {
    /// Whether a limit may refuse something without asking a server.
    #[inline]
    pub(super) fn judges_beforehand(&self) -> bool {
        self.limits.judges_statements() || self.rules.limits.has_statements() || self.rules.reads_comments
    }

    /// Why the request in `whole` is not run, of a client that holds no upstream. Its text is handed on as it was looked at.
    pub(super) fn judge_beforehand<'a>(
        &mut self,
        whole: &'a [u8],
        looked: Option<Looked<'a>>,
        now: Instant,
    ) -> (Option<Looked<'a>>, Option<Trouble>) {
        let (sql, sent, name) = match First::read(whole) {
            Some(First::Text(sql)) => (sql, Sent::ToRun, &b""[..]),
            Some(First::Prepared(sql, name)) => (sql, Sent::ToPrepare, name),
            Some(First::Named(name)) => {
                let Some(prepared) = self.find_statement(name) else { return (looked, None) };
                if self.rules.reads_comments {
                    let tags = prepared.comment(&self.rules);
                    self.heed_first_comments(tags);
                }
                return (looked, self.objects(&prepared.known, now));
            }
            None => return (looked, None),
        };
        if self.rules.reads_comments {
            let tags = CommentTags::of(sql, &self.rules);
            self.heed_first_comments(tags);
        }
        let looked = looked.unwrap_or_else(|| Looked::now(&self.worker, (sql, self.lexing(), sent)));
        let refused = self.objects(looked.known(), now);
        if refused.is_some() && name.is_empty() {
            // A server forgets the unnamed statement before it looks at what takes its place.
            (self.unnamed, self.unnamed_parsed) = (None, None);
        }
        (Some(looked), refused)
    }

    /// Nothing runs whose end would have to be awaited before another tenant's statement.
    fn heed_first_comments(&mut self, tags: Option<Rc<CommentTags>>) {
        if tags != self.comment {
            self.comment = tags;
            self.resolve_tenant();
        }
    }

    /// What is enforced against a statement. Nothing is taken or told of what only warns or is looked at: that is done when
    /// the statement is sent.
    fn objects(&self, known: &Known, now: Instant) -> Option<Trouble> {
        let limits = self.limits.clone();
        let readable = !self.opaque && !self.escapes;
        // What parameters decide is known when they are bound.
        let script = known.script.as_deref().filter(|script| !script.bound);
        let mut all = against(&limits, known, script, readable);
        if let Some((key, _, what)) = all.find(|(_, mode, _)| *mode == Mode::Enforce) {
            let before = against(&limits, known, script, readable).take_while(|(other, ..)| *other != key);
            before.for_each(|(key, mode, _)| self.reached(key, mode));
            return Some(self.enforced(key, not_allowed(self.limited(key, None), what)));
        }
        let (is_free, is_way_out) = (known.is_free(), known.is_way_out());
        let now_ns = self.now_us(now).saturating_mul(1_000);
        if let Some(rate) = limits.rate.filter(|rate| rate.mode == Mode::Enforce && !is_free)
            && let statements = known.shape.statements
            && let Some(wait) = self.membership.of(limits.by_class.rate).lacks(rate, statements, now_ns)
        {
            let key = LimitKey::StatementRate;
            let wait = (statements <= rate.at.burst.max(1)).then_some(wait);
            return Some(self.enforced(key, too_fast(self.limited(key, None), rate, wait)));
        }
        if is_way_out || !self.rules.limits.has_statements() {
            return None;
        }
        for (strict, own) in self.all_said_by_name(known) {
            let named = Some(strict);
            if own.blocked == Some(Mode::Enforce) {
                let key = LimitKey::Blocked;
                return Some(self.enforced(key, not_allowed(self.limited(key, named), "")));
            }
            if let Some(rate) = own.rate.filter(|rate| rate.mode == Mode::Enforce && !is_free)
                && let Some(wait) = self.worker.shared.tenancy.of_statement(self.tenant, strict).lacks(rate, 1, now_ns)
            {
                let key = LimitKey::StatementRate;
                return Some(self.enforced(key, too_fast(self.limited(key, named), rate, Some(wait))));
            }
        }
        None
    }

    fn enforced(&self, key: LimitKey, refusal: Refusal) -> Trouble {
        self.reached(key, Mode::Enforce);
        refusal.into()
    }
}

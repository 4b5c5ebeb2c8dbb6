//! A statement that a limit refuses is refused before an upstream is taken for it: nobody waits in a pool's queue, and no
//! server is made to raise an error, for what is not run.
//!
//! That is the first statement of a request, where nothing stands before it that a server has to do. Others are refused at
//! their place in the pipeline ([`super::refuse`]): those before them are to be run. So is what turns out to be one too many
//! when it is sent, as others have begun meanwhile.
//!
//! Of a message that is too long to be held its beginning is enough: what counts for it is looked at again when it is sent,
//! and nothing else of it is ever seen. A Parse or Bind that long says nothing of whether its statement will be run: the
//! Execute is still to come.

use std::rc::Rc;
use std::time::Instant;

use config::{LimitKey, Mode};
use policy::limits::{Bound, Effective, Rate};
use policy::verdict::Refusal;
use wire::frame;
use wire::tag::Frontend;
use wire::view::{self, Bind, Execute, Parse};

use super::Session;
use super::brain::Sent;
use super::cached::Looked;
use super::large_objects::concerns_call;
use super::police::{CommentTags, against, not_allowed, too_fast};
use super::request::Due;
use super::script::Script;
use super::statement::Known;
use crate::tenancy::Usage;
use crate::trouble::Trouble;

/// The first statement that a request runs.
enum First<'a> {
    /// Of a Query.
    Text(&'a [u8]),
    /// Prepared by the request itself, with its first message: its text.
    Prepared(&'a [u8]),
    /// Prepared before, under this name.
    Named(&'a [u8]),
    /// Of a Query that is too long to be held: its beginning.
    Beginning(&'a [u8]),
    /// A function, called by its number.
    Call(Option<u32>),
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
                Frontend::FunctionCall if first => return Some(First::Call(view::function(body).ok())),
                Frontend::Parse if first => parse = Some(Parse::read(body).ok()?),
                Frontend::Bind if bind.is_none() => bind = Some(Bind::read(body).ok()?),
                Frontend::Describe => {}
                Frontend::Execute => {
                    let (bind, execute) = (bind?, Execute::read(body).ok()?);
                    if execute.portal != bind.portal {
                        return None;
                    }
                    let own = parse.filter(|parse| parse.statement == bind.statement);
                    return Some(own.map_or(First::Named(bind.statement), |parse| First::Prepared(parse.query)));
                }
                _ => return None,
            }
        }
    }

    /// Of a message of which `bytes` are only the beginning.
    fn read_long(bytes: &'a [u8]) -> Option<Self> {
        let body = bytes.get(frame::HEAD..)?;
        match Frontend::from_byte(*bytes.first()?)? {
            Frontend::Query => Some(First::Beginning(body)),
            Frontend::FunctionCall => Some(First::Call(view::function(body).ok())),
            _ => None,
        }
    }
}

impl Session {
    /// Whether a limit may refuse something without asking a server.
    #[inline]
    pub(super) fn judges_beforehand(&self) -> bool {
        self.limits.judges_statements() || self.rules.limits.has_statements() || self.rules.reads_comments
    }

    /// Why the request in `bytes` is not run, of a client that holds no upstream. Its text is handed on as it was looked at.
    pub(super) fn judge_beforehand<'a>(
        &mut self,
        bytes: &'a [u8],
        due: Due,
        looked: Option<Looked<'a>>,
        now: Instant,
    ) -> (Option<Looked<'a>>, Option<Trouble>) {
        let long = due.long.is_some() && due.whole == 0;
        let first = if long { First::read_long(bytes) } else { bytes.get(..due.whole).and_then(First::read) };
        let (sql, sent) = match first {
            Some(First::Text(sql)) => (sql, Sent::ToRun),
            Some(First::Prepared(sql)) => (sql, Sent::ToPrepare),
            Some(First::Beginning(sql)) => {
                if self.rules.reads_comments {
                    let tags = CommentTags::of(sql, &self.rules);
                    self.heed_first_comments(tags);
                }
                let mut known = Looked::now(&self.worker, (sql, self.lexing(), Sent::ToRun)).known().clone();
                known.whole = false;
                return (looked, self.objects(&known, now));
            }
            Some(First::Call(function)) => return (looked, self.objects_to_call(function, now)),
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
        // What parameters decide is known when they are bound.
        let script = known.script.as_deref().filter(|script| !script.bound);
        self.objects_to_kind(known, script, |_| true).or_else(|| self.objects_to_one_more(known, now))
    }

    /// The same against a function that is called by its number.
    fn objects_to_call(&self, function: Option<u32>, now: Instant) -> Option<Trouble> {
        let known = self.worker.brain.borrow_mut().unknown();
        let concerns = |key| concerns_call(function, key);
        self.objects_to_kind(&known, None, concerns).or_else(|| self.objects_to_one_more(&known, now))
    }

    /// By what it is.
    fn objects_to_kind(
        &self,
        known: &Known,
        script: Option<&Script>,
        concerns: impl Fn(LimitKey) -> bool,
    ) -> Option<Trouble> {
        let all = || against(&self.limits, known, script, self.is_readable()).filter(|(key, ..)| concerns(*key));
        if !self.is_cleared(known, script)
            && let Some((key, _, what)) = all().find(|(_, mode, _)| *mode == Mode::Enforce)
        {
            all().take_while(|(other, ..)| *other != key).for_each(|(key, mode, _)| self.reached(key, mode));
            return Some(self.enforced(key, not_allowed(self.limited(key, None), what)));
        }
        let blocked = |own: &Effective| own.blocked.filter(|mode| *mode == Mode::Enforce);
        let (strict, _) = self.said_by_name(known, blocked)?;
        let key = LimitKey::Blocked;
        Some(self.enforced(key, not_allowed(self.limited(key, Some(strict)), "")))
    }

    /// By how many there are.
    fn objects_to_one_more(&self, known: &Known, now: Instant) -> Option<Trouble> {
        if known.is_free() {
            return None;
        }
        let (limits, usage) = (&*self.limits, |by_class| self.membership.of(by_class));
        let by_class = limits.by_class;
        let refusal = self.lacks_room(limits.max_statements, None, usage(by_class.statements));
        let refusal =
            refusal.or_else(|| self.lacks_token(limits.rate, None, usage(by_class.rate), known.shape.statements, now));
        if refusal.is_some() || !self.rules.limits.has_statements() {
            return refusal;
        }
        self.all_said_by_name(known).find_map(|(strict, own)| {
            let (named, usage) = (Some(strict), self.worker.shared.tenancy.of_statement(self.tenant, strict));
            let refusal = self.lacks_room(own.max_statements, named, &usage);
            refusal.or_else(|| self.lacks_token(own.rate, named, &usage, 1, now))
        })
    }

    /// As many run as may. Its own client runs nothing: it holds no upstream.
    fn lacks_room(&self, most: Option<Bound<u32>>, named: Option<u64>, usage: &Usage) -> Option<Trouble> {
        let limit = most.and_then(Bound::enforced).filter(|limit| usage.running() >= *limit)?;
        let key = LimitKey::MaxStatements;
        let limited = self.limited(key, named);
        Some(self.enforced(key, Refusal::TooMany { limited, limit: limit.into(), retry_in: None }))
    }

    /// There are not as many tokens as it takes.
    fn lacks_token(
        &self,
        rate: Option<Bound<Rate>>,
        named: Option<u64>,
        usage: &Usage,
        statements: u32,
        now: Instant,
    ) -> Option<Trouble> {
        let rate = rate.filter(|rate| rate.mode == Mode::Enforce)?;
        let wait = usage.lacks(rate, statements, self.now_us(now).saturating_mul(1_000))?;
        let key = LimitKey::StatementRate;
        // So many at once never pass: there is no time to come again at.
        let wait = (statements <= rate.at.burst.max(1)).then_some(wait);
        Some(self.enforced(key, too_fast(self.limited(key, named), rate, wait)))
    }

    fn enforced(&self, key: LimitKey, refusal: Refusal) -> Trouble {
        self.reached(key, Mode::Enforce);
        refusal.into()
    }
}

//! Statements that a rule of the cache may be about.

use std::rc::Rc;

use super::looked::Looked;
use super::plan::{Planned, Plans, Words};
use super::request::{Asked, Request};
use crate::cache::here::Here;
use crate::session::Session;
use crate::session::brain::{Lexing, Sent};
use crate::session::statement::{Known, Prepared, Tags};

/// A statement that a rule may be about, and how it is asked for.
pub(super) struct Candidate<'a> {
    pub(super) request: Request<'a>,
    pub(super) known: Known,
    /// Its text.
    pub(super) sql: &'a [u8],
    /// It was prepared, now or before.
    pub(super) prepared: Option<Rc<Prepared>>,
    /// What its comments say, where it was not prepared.
    pub(super) tags: Tags,
    /// How its text was looked at, where it came with one.
    pub(super) looked: Option<Looked<'a>>,
}

impl Candidate<'_> {
    /// Its constants, as events carry them.
    pub(super) fn literals(&self) -> &[u8] {
        self.looked.as_ref().map(|looked| &*looked.literals).unwrap_or_default()
    }

    /// Its text as it is judged; `None`: it is too long to be kept.
    pub(super) fn words(&self) -> Option<Words<'_>> {
        match &self.looked {
            Some(Looked { look, .. }) => Some(Words::new(look.body, &look.comments)),
            None => self.prepared.as_ref().and_then(|prepared| prepared.words()),
        }
    }

    /// Where its plans are kept, if anywhere.
    pub(super) fn planned(&self) -> Option<&Planned> {
        match &self.looked {
            Some(Looked { look, .. }) => look.planned(),
            None => self.prepared.as_ref().map(|prepared| &prepared.planned),
        }
    }
}

impl Session {
    /// A request that a rule may be about.
    ///
    /// # Errors
    /// None is, or it is none that is looked at; with how its text was looked at, if it was.
    pub(super) fn candidate<'a>(
        &self,
        here: &Here,
        request: Request<'a>,
        version: u64,
    ) -> Result<Candidate<'a>, Option<Looked<'a>>> {
        let (sql, sent) = match request.asked {
            Asked::Query(sql) => (sql, Sent::ToRun),
            Asked::Parsed(parse, _) => (parse.query, Sent::ToPrepare),
            Asked::Bound(bind) => {
                let prepared = self.find_statement(bind.statement).ok_or(None)?;
                if !self.is_concerned(here, &prepared.known, version) {
                    return Err(None);
                }
                let known = prepared.known.clone();
                let tags = prepared.tags;
                return Ok(Candidate { request, known, sql: b"", prepared: Some(prepared), tags, looked: None });
            }
        };
        let hash = Plans::hash(sql, version);
        if self.worker.plans.borrow().is_unconcerned(hash) {
            return Err(None);
        }
        let mut brain = self.worker.brain.borrow_mut();
        let mut literals = self.worker.rooms.literals.take();
        let look = brain.look_at(sql, Lexing::default(), sent, &mut literals);
        if !self.is_concerned(here, &look.known, version) {
            self.worker.plans.borrow().note_unconcerned(hash);
            return Err(Some(Looked { look, literals }));
        }
        let tags = self.tags(&look.comments);
        let prepared = match request.asked {
            Asked::Parsed(parse, _) => {
                Some(brain.prepare_unnamed((&look, &literals), parse, tags, &self.worker.shared))
            }
            _ => None,
        };
        let known = look.known.clone();
        Ok(Candidate { request, known, sql, prepared, tags, looked: Some(Looked { look, literals }) })
    }

    /// Whether any rule may be about statements of this kind.
    #[inline]
    fn is_concerned(&self, here: &Here, known: &Known, version: u64) -> bool {
        known.shape.concerned.or_look(version, || {
            let rules = here.rules(&self.worker.shared.caches, version);
            rules.may_concern(known.shape.strict, known.shape.tables())
        })
    }
}

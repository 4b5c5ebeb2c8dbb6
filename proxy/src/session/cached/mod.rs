//! Answers from the cache, and replies that are kept: what a session does about them.
//!
//! ```text
//!   a whole request, nothing under way ──► a rule? ──► its plan ──► key ──► kept and true? ──► answered here
//!                                            │ no                               │ no
//!                                            ▼                                  ▼
//!                                         the server                 Reading::begin, the server ──► Filling ──► kept
//! ```
//!
//! It waits where somebody else asks for the same ([`flights`](crate::cache::flights)), and where its rule is `strict` and the
//! end of the log has to be known ([`ends`](crate::cache::ends)); once for each, and then begins from the left again.
//!
//! Nothing here fails a request: whatever cannot be told sends it to the server.

mod filling;
mod hit;
mod identity;
mod plan;
mod request;
mod standing;
mod waiting;
mod writing;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::{Duration, Instant};

use policy::cache::{Bypass, Counter, Key, Miss, Mode, NotServed, Parts, Protocol, Reading, Served, SettingsId};
use policy::tenant::TenantId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::brain::Sent;
use super::statement::{Known, Prepared, Shape, Tags};
use super::{End, Session};
use crate::cache::Fate;
use crate::cache::flights::Takeoff;
use crate::cache::here::Here;
use crate::cache::store::Entry;
pub use filling::Filling;
pub use identity::Identity;
use plan::Readable;
pub use plan::{Plan, Plans};
use request::{Asked, Request};
pub use standing::Standing;
use waiting::{Waited, end_known};

/// How long somebody waits for what somebody else asks for, before he asks for himself.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a session keeps for the cache.
#[derive(Debug, Default)]
pub struct Caching {
    /// Who it is.
    pub identity: Option<Rc<Identity>>,
    /// The reply to the request that goes to the server next is to be kept.
    pub filling: Option<Box<Filling>>,
    /// It waits: for somebody else who asks for what it wants, or for the end of the log.
    pub waits: bool,
    /// What it has waited for, for the request that it looks at next.
    pub waited: Waited,
    /// What its statements with constants were prepared under.
    pub prepared_under: Under,
    /// Whose it is: the name, and what operators end the tenant's answers by.
    owner: Option<(TenantId, Rc<Here>, Rc<Owner>)>,
}

/// When a request is looked at, and under what.
#[derive(Clone, Copy)]
struct Moment {
    mode: Mode,
    /// Of the rules.
    version: u64,
    now: Instant,
    waited: Waited,
}

/// A tenant, as its answers know it.
#[derive(Debug)]
struct Owner {
    name: Box<str>,
    mark: Arc<Counter>,
}

/// What constants meant when a session's statements were prepared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Under {
    /// It has prepared none.
    #[default]
    Nothing,
    /// All under these settings.
    One(u64),
    /// Under different ones: who knows which.
    Several,
}

/// A statement that a rule may be about, and how it is asked for.
struct Candidate<'a> {
    request: Request<'a>,
    known: Known,
    /// Its text.
    sql: &'a [u8],
    /// It was prepared, now or before.
    prepared: Option<Rc<Prepared>>,
    /// What its comments say, where it was not prepared.
    tags: Tags,
    /// Its constants, as events carry them.
    literals: Vec<u8>,
}

impl Session {
    /// Nothing of its client's is under way, and its database is one that is followed.
    #[inline]
    pub(super) fn is_unoccupied(&self) -> bool {
        let free = |upstream: &crate::upstream::Upstream| {
            upstream.pipeline.is_boundary()
                && !upstream.work.held
                && upstream.cancels.get() == 0
                && upstream.unsent.is_empty()
        };
        self.pool.follows() && self.lease.as_deref().is_none_or(free) && self.unsent.is_empty()
    }

    /// Answers the first request in `whole` from the cache, if it may be; how many bytes are dealt with then. Otherwise it is
    /// noted whether its reply shall be kept. Nothing is under way when this is called.
    pub(super) fn answer_cached(
        &mut self,
        cx: &mut Context<'_>,
        whole: &[u8],
        now: Instant,
    ) -> Result<Option<usize>, End> {
        // Taken whatever comes: an end of the log that was asked for is good for no request but this one.
        let waited = self.caching.as_deref_mut().map_or(Waited::default(), |caching| {
            caching.filling = None;
            std::mem::take(&mut caching.waited)
        });
        let Some(here) = self.pool.here() else { return Ok(None) };
        let worker = self.worker.clone();
        let caches = &worker.shared.caches;
        let mode = caches.mode();
        if mode == Mode::Off || self.skipping || self.leaving || self.pending_trouble.is_some() {
            return Ok(None);
        }
        let Some(request) = Request::read(whole) else { return Ok(None) };
        let version = caches.version();
        let Some(candidate) = self.candidate(&here, request, version) else { return Ok(None) };
        let shape = candidate.known.shape.clone();
        match self.look_up(&here, &candidate, Moment { mode, version, now, waited }) {
            Ok(Some(entry)) => {
                self.note_fate(&shape, Fate::Hit);
                let used = candidate.request.bytes;
                self.tell_hit(cx, candidate, &entry, (waited.since.unwrap_or(now), now))?;
                Ok(Some(used))
            }
            // Dealt with later: nothing of it.
            Ok(None) if self.waits_for_an_answer() => Ok(Some(0)),
            Ok(None) => Ok(None),
            Err(bypass) => {
                if !matches!(bypass, Bypass::NoRule | Bypass::Off) {
                    self.note_fate(&shape, Fate::Bypass(bypass));
                }
                caches.counters.bypasses.count(bypass);
                Ok(None)
            }
        }
    }

    /// What it keeps for the cache: nothing until there is something.
    pub(super) fn caching(&mut self) -> &mut Caching {
        self.caching.get_or_insert_default()
    }

    /// Said when it is another one than the last time.
    fn note_fate(&self, shape: &Shape, fate: Fate) {
        if shape.fate.replace(Some(fate)) != Some(fate) {
            self.worker.shared.caches.tell(shape.strict, fate);
        }
    }

    /// Whose the session is.
    fn owner(&mut self, here: &Rc<Here>) -> Rc<Owner> {
        if let Some((tenant, known, owner)) = self.caching.as_deref().and_then(|caching| caching.owner.as_ref())
            && *tenant == self.tenant
            && Rc::ptr_eq(known, here)
        {
            return owner.clone();
        }
        let name = self.worker.shared.directory.name(self.tenant);
        let mark = here.cached.generations.tenant(&name);
        let owner = Rc::new(Owner { name: (&*name).into(), mark });
        let tenant = self.tenant;
        self.caching().owner = Some((tenant, here.clone(), owner.clone()));
        owner
    }

    /// A request that a rule may be about; `None`: none is, or it is none that is looked at.
    fn candidate<'a>(&self, here: &Here, request: Request<'a>, version: u64) -> Option<Candidate<'a>> {
        match request.asked {
            Asked::Query(sql) => {
                let hash = xxh3_64_with_seed(sql, version).max(1);
                if self.worker.plans.borrow().is_unconcerned(hash) || self.escapes || self.opaque {
                    return None;
                }
                let mut literals = Vec::new();
                let look = self.worker.brain.borrow_mut().look_at(sql, false, Sent::ToRun, &mut literals);
                if !self.is_concerned(here, &look.known, version) {
                    self.worker.plans.borrow().note_unconcerned(hash);
                    return None;
                }
                let tags = self.tags(&look.comments);
                Some(Candidate { request, known: look.known, sql, prepared: None, tags, literals })
            }
            Asked::Parsed(parse, _) => {
                let hash = xxh3_64_with_seed(parse.query, version).max(1);
                if self.worker.plans.borrow().is_unconcerned(hash) || self.escapes || self.opaque {
                    return None;
                }
                let mut brain = self.worker.brain.borrow_mut();
                let look = brain.look_at(parse.query, false, Sent::ToPrepare, &mut Vec::new());
                if !self.is_concerned(here, &look.known, version) {
                    drop(brain);
                    self.worker.plans.borrow().note_unconcerned(hash);
                    return None;
                }
                let tags = self.tags(&look.comments);
                let prepared = brain.prepare_unnamed(&look, parse, tags, &self.worker.shared);
                Some(Candidate {
                    request,
                    known: look.known,
                    sql: parse.query,
                    prepared: Some(prepared),
                    tags,
                    literals: Vec::new(),
                })
            }
            Asked::Bound(bind) => {
                let prepared = self.find_statement(bind.statement)?;
                if !self.is_concerned(here, &prepared.known, version) || self.escapes || self.opaque {
                    return None;
                }
                let known = prepared.known.clone();
                let tags = prepared.tags;
                Some(Candidate { request, known, sql: b"", prepared: Some(prepared), tags, literals: Vec::new() })
            }
        }
    }

    /// Whether any rule may be about statements of this kind.
    #[inline]
    fn is_concerned(&self, here: &Here, known: &Known, version: u64) -> bool {
        known.shape.concerned.or_look(version, || {
            let rules = here.rules(&self.worker.shared.caches, version);
            rules.may_concern(known.shape.strict, known.shape.tables())
        })
    }

    /// The entry that answers it. `None`: the server has to, and the reply is kept if it may be.
    fn look_up(
        &mut self,
        here: &Rc<Here>,
        candidate: &Candidate<'_>,
        moment: Moment,
    ) -> Result<Option<Arc<Entry>>, Bypass> {
        let Moment { mode, version, now, waited } = moment;
        let worker = self.worker.clone();
        let caches = &worker.shared.caches;
        let shape = &candidate.known.shape;
        if self.rules.reads_comments {
            self.heed_its_comments(candidate, now);
        }
        // Found first: what is judged below is judged by the settings of now.
        let identity = self.identity()?;
        self.may_be_cached(candidate, &identity)?;
        identity.bypass.map_or(Ok(()), Err)?;
        let settings = identity.id.ok_or(Bypass::TooManySettings)?;
        let view = here.view_now().ok_or(Bypass::CatalogUnread)?;
        view.unfit.map_or(Ok(()), Err)?;
        if !self.was_judged_by(view.epoch.generation()) {
            return Err(Bypass::CatalogUnread);
        }
        let path = match &identity.path {
            Some(path) => path.clone(),
            None => here.default_path(&view, &identity.user, &identity.becomes).ok_or(Bypass::UnknownPath)?,
        };
        let (strict, rules) = (shape.strict, here.rules(caches, version));
        let plan = {
            let sql: &[u8] = match &candidate.prepared {
                Some(prepared) => prepared.query.as_deref().ok_or(Bypass::Unreadable)?,
                None => candidate.sql,
            };
            let make = || Plan::new(sql, here, view.clone(), &rules, version, &path, strict);
            // The rules depend on the fingerprint too, which is the text's own.
            self.worker.plans.borrow_mut().of(sql, |plan| plan.is_of(&view, version, &path), make)
        };
        let readable = plan.decide(here, &rules, &identity.application)?;
        let owner = self.owner(here);
        let key = Arc::new(self.key_of(candidate, &plan, &readable, &identity, (settings, &owner.name))?);
        let mut compared = None;
        match caches.store.get(&key) {
            Some(entry) => match entry.dependencies.serve(now, end_known(here, waited)) {
                Ok(served) => {
                    let refreshes = served == Served::Stale && !entry.refreshing.swap(true, Ordering::AcqRel);
                    let serves = mode.serves() && !refreshes && !self.is_long_unheard(now);
                    if serves && self.fits(&candidate.known, &entry)? {
                        caches.counters.hit(entry.cost_us, served == Served::Stale);
                        caches.counters.joined.fetch_add(u64::from(waited.flight), Ordering::Relaxed);
                        return Ok(Some(entry));
                    }
                    compared = (mode == Mode::Observe).then_some(entry);
                }
                Err(NotServed::Miss(miss)) => {
                    caches.counters.misses.count(miss);
                    if miss == Miss::Changed || miss == Miss::Expired {
                        caches.store.remove(&key);
                    }
                    self.note_fate(shape, Fate::Miss(miss));
                }
                Err(NotServed::Ask | NotServed::Wait(_)) => match self.wait_for_end(here, &entry, moment) {
                    Ok(()) => return Ok(None),
                    Err(miss) => {
                        caches.counters.misses.count(miss);
                        self.note_fate(shape, Fate::Miss(miss));
                    }
                },
            },
            None => {
                caches.counters.misses.count(Miss::Absent);
                self.note_fate(shape, Fate::Miss(Miss::Absent));
            }
        }
        self.ask_the_server(here, shape, key, &readable, compared, moment);
        Ok(None)
    }

    /// Nothing true is kept: the reply of the server shall be, unless somebody else asks for it already.
    fn ask_the_server(
        &mut self,
        here: &Rc<Here>,
        shape: &Shape,
        key: Arc<Key>,
        readable: &Readable,
        compared: Option<Arc<Entry>>,
        moment: Moment,
    ) {
        let Moment { now, waited, .. } = moment;
        let worker = self.worker.clone();
        let caches = &worker.shared.caches;
        let marks = readable.marks(&self.owner(here).mark);
        match Reading::begin(&here.cached.generations, &readable.sources, &marks, readable.terms, now) {
            Ok(reading) => {
                // Who has waited for the end of the log in vain has lost enough. Who is in a transaction has a server that
                // others may wait for, who asks among them: he does not wait.
                let waits = !waited.flight
                    && (waited.end.is_none() || end_known(here, waited).is_some())
                    && self.open_transaction().is_none();
                let flight = match caches.flights.takeoff(&key, (worker.index, self.ctl.client), waits) {
                    Takeoff::Waits if compared.is_none() => {
                        let waited = Waited { flight: true, ..waited };
                        return self.wait_for_answer(now.checked_add(PATIENCE), now, waited);
                    }
                    Takeoff::Leads(flight) => Some(flight),
                    Takeoff::Waits | Takeoff::Alone => None,
                };
                let mut filling = Filling::new(key, reading, self.tenant, shape.strict, &caches.budget(), now);
                filling.within = self.open_transaction().is_some();
                filling.compared = compared;
                filling.flight = flight;
                self.caching().filling = Some(Box::new(filling));
            }
            Err(refused) => {
                caches.counters.refused.count(refused);
                self.note_fate(shape, Fate::Refused(refused));
            }
        }
    }

    /// What of the session and of how it asks speaks against it.
    fn may_be_cached(&self, candidate: &Candidate<'_>, identity: &Identity) -> Result<(), Bypass> {
        candidate.request.execution.bypass().map_or(Ok(()), Err)?;
        if self.listening.is_some() {
            return Err(Bypass::Listens);
        }
        if candidate.known.script.is_some() {
            // It sets, begins, prepares or the like.
            return Err(Bypass::NotARead);
        }
        if !candidate.known.whole {
            return Err(Bypass::Unreadable);
        }
        if let Some(upstream) = self.lease.as_deref() {
            self.reads_as_outside(upstream)?;
            if upstream.tainted || upstream.work.pinned.is_some() {
                return Err(Bypass::Tainted);
            }
        }
        if let Some(prepared) =
            candidate.prepared.as_ref().filter(|_| matches!(candidate.request.asked, Asked::Bound(_)))
        {
            if prepared.stale.get() {
                return Err(Bypass::CatalogUnread);
            }
            // What a date in its text means was decided when it was prepared.
            let under = self.caching.as_deref().map_or(Under::Nothing, |caching| caching.prepared_under);
            if prepared.known.has_strings && under != Under::One(identity.input) {
                return Err(Bypass::Tainted);
            }
        }
        let suspect = match &candidate.prepared {
            Some(prepared) => self.is_suspect(Some(&prepared.inspected), &prepared.known, prepared.query.as_deref()),
            None => self.is_suspect(None, &candidate.known, Some(candidate.sql)),
        };
        if suspect { Err(Bypass::Tainted) } else { Ok(()) }
    }

    fn key_of(
        &self,
        candidate: &Candidate<'_>,
        plan: &Plan,
        readable: &Readable,
        identity: &Identity,
        (settings, tenant): (SettingsId, &str),
    ) -> Result<Key, Bypass> {
        let (parameters, formats) = candidate.request.bound()?;
        let inputs: Vec<(&str, Option<&str>)> = readable
            .inputs
            .iter()
            .map(|name| {
                let value = identity.settings.find(name).and_then(|value| {
                    let (wire::params::Value::Plain(bytes) | wire::params::Value::Clause(bytes)) = value;
                    std::str::from_utf8(bytes).ok()
                });
                (name.as_str(), value)
            })
            .collect();
        let types: Vec<u32> = match &candidate.prepared {
            Some(prepared) => wire::view::parameter_types(&prepared.types).map_err(|_| Bypass::Unreadable)?.collect(),
            None => Vec::new(),
        };
        Key::of(&Parts {
            epoch: readable.sources.epoch(),
            tenant,
            database: &self.pool.shared.database,
            text: &plan.body,
            protocol: match candidate.request.asked {
                Asked::Query(_) => Protocol::Simple,
                _ => Protocol::Extended { described: candidate.request.described },
            },
            parameter_types: &types,
            parameters: &parameters,
            result_formats: &formats,
            relations: &readable.named,
            role: &identity.role,
            session_user: &identity.user,
            inputs: &inputs,
            settings,
        })
    }
}

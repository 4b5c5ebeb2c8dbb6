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

mod apart;
mod candidate;
mod few;
mod filling;
mod hit;
mod identity;
mod key;
mod looked;
mod plan;
mod request;
mod standing;
mod waiting;
mod writing;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Instant;

use policy::cache::{Bypass, Counter, Miss, Mode, NotServed, Reading, Served, SettingsId, Sought};
use policy::tenant::TenantId;

use super::statement::Shape;
use super::{End, Session};
use crate::cache::Fate;
use crate::cache::flights::Takeoff;
use crate::cache::here::Here;
use crate::cache::store::{Entry, Refresh};
use candidate::Candidate;
pub use few::Rooms;
pub use filling::Filling;
pub use identity::Identity;
pub use looked::{Answer, Looked, look_once};
pub use plan::{Ends, Planned, Plans, Words};
use plan::{Ground, Readable};
use request::{Asked, Request};
pub use standing::Standing;
use waiting::{Waited, end_known};

/// What a session keeps for the cache.
#[derive(Debug, Default)]
pub struct Caching {
    /// Who it is.
    pub identity: Option<Rc<Identity>>,
    /// The reply to the request that goes to the server next is to be kept.
    pub filling: Option<Box<Filling>>,
    /// The same, as it was when that request was looked at before.
    early: Option<Box<Filling>>,
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

/// Who is asked for and what it needs to be found, from a candidate.
struct Wanted {
    readable: Readable,
    identity: Rc<Identity>,
    settings: SettingsId,
    owner: Rc<Owner>,
}

impl Session {
    /// Nothing of its client's is under way, and its database is one that is followed.
    #[inline]
    pub(super) fn is_unoccupied(&self) -> bool {
        let free = |upstream: &crate::upstream::Upstream| {
            upstream.pipeline.is_boundary()
                && !upstream.work.held
                && !upstream.cancels.are_under_way()
                && upstream.unsent.is_empty()
        };
        self.pool.follows() && self.lease.as_deref().is_none_or(free) && self.unsent.is_empty()
    }

    /// Answers the first request in `whole` from the cache, if it may be. Otherwise it is noted whether its reply shall be
    /// kept. Nothing is under way when this is called.
    pub(super) fn answer_cached<'a>(
        &mut self,
        cx: &mut Context<'_>,
        whole: &'a [u8],
        now: Instant,
    ) -> Result<Answer<'a>, End> {
        // It may have been here with this request before, and then have waited for a server, or for the outcome of settings:
        // whoever waits for its answer goes on waiting.
        let early = self.lease.as_deref_mut().and_then(|upstream| upstream.work.filling.take());
        if let Some(caching) = self.caching.as_deref_mut() {
            caching.early = caching.filling.take().or(early);
        }
        let answer = self.answer_from_cache(cx, whole, now);
        if let Some(caching) = self.caching.as_deref_mut() {
            caching.early = None;
        }
        answer
    }

    fn answer_from_cache<'a>(
        &mut self,
        cx: &mut Context<'_>,
        whole: &'a [u8],
        now: Instant,
    ) -> Result<Answer<'a>, End> {
        const UNSEEN: Answer<'_> = Answer::FromServer(None);
        // Taken whatever comes: an end of the log that was asked for is good for no request but this one.
        let waited =
            self.caching.as_deref_mut().map_or(Waited::default(), |caching| std::mem::take(&mut caching.waited));
        let Some(here) = self.pool.here() else { return Ok(UNSEEN) };
        let worker = self.worker.clone();
        let caches = &worker.shared.caches;
        let mode = caches.mode();
        if mode == Mode::Off || self.skipping || self.leaving || self.pending_trouble.is_some() {
            return Ok(UNSEEN);
        }
        let Some(request) = Request::read(whole) else { return Ok(UNSEEN) };
        if let Some(bypass) = self.reads_otherwise() {
            caches.counters.bypasses.count(bypass);
            return Ok(UNSEEN);
        }
        let version = caches.version();
        let candidate = match self.candidate(&here, request, version) {
            Ok(candidate) => candidate,
            Err(looked) => return Ok(Answer::FromServer(looked)),
        };
        let shape = candidate.known.shape.clone();
        match self.look_up(&here, &candidate, Moment { mode, version, now, waited }) {
            Ok(Some(entry)) => {
                self.note_fate(&shape, Fate::Hit);
                let used = candidate.request.bytes;
                self.tell_hit(cx, candidate, &entry, (waited.since.unwrap_or(now), now))?;
                Ok(Answer::Given(used))
            }
            // Dealt with later: nothing of it.
            Ok(None) if self.waits_for_an_answer() => Ok(Answer::Given(0)),
            Ok(None) => Ok(Answer::FromServer(candidate.looked)),
            Err(bypass) => {
                self.note_fate(&shape, Fate::Bypass(bypass));
                caches.counters.bypasses.count(bypass);
                Ok(Answer::FromServer(candidate.looked))
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

    /// The entry that answers it. `None`: the server has to, and the reply is kept if it may be.
    fn look_up(
        &mut self,
        here: &Rc<Here>,
        candidate: &Candidate<'_>,
        moment: Moment,
    ) -> Result<Option<Arc<Entry>>, Bypass> {
        let worker = self.worker.clone();
        let wanted = self.wanted(here, candidate, moment)?;
        let mut room = worker.rooms.key.take();
        let found = match self.key_of(here, candidate, &wanted, &mut room) {
            Ok(sought) => self.find(here, candidate, &wanted, sought, moment),
            Err(bypass) => Err(bypass),
        };
        worker.rooms.key.put(room);
        found
    }

    /// What a candidate is looked up by, if it may be answered from the cache at all.
    fn wanted(&mut self, here: &Rc<Here>, candidate: &Candidate<'_>, moment: Moment) -> Result<Wanted, Bypass> {
        let Moment { version, now, .. } = moment;
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
        if self.tenant == TenantId::OTHER {
            // Whoever finds no place of its own shares it with others.
            return Err(Bypass::TooManyTenants);
        }
        let settings = identity.id.ok_or(Bypass::TooManySettings)?;
        let view = here.view_now().ok_or(Bypass::CatalogUnread)?;
        view.unfit.map_or(Ok(()), Err)?;
        if !self.was_judged_by(view.epoch.generation()) {
            return Err(Bypass::CatalogUnread);
        }
        if self.lease.as_deref().is_some_and(|upstream| !view.paths.hold_for(upstream.opened)) {
            return Err(Bypass::UnknownPath);
        }
        let path = match &identity.path {
            Some(path) => path.clone(),
            None => here.default_path(&view, &identity.user, &identity.becomes).ok_or(Bypass::UnknownPath)?,
        };
        let (strict, rules) = (shape.strict, here.rules(caches, version));
        let words = candidate.words().ok_or(Bypass::Unreadable)?;
        let ground = Ground { here, view: &view, rules: &rules, version, path: &path };
        // The rules depend on the fingerprint too, which is the text's own.
        let plan = match candidate.planned() {
            Some(planned) => planned.of(words.body, strict, ground),
            None => self.worker.plans.borrow_mut().of(words.body, strict, ground),
        };
        let readable = plan.decide(words, &identity.application, ground)?;
        let owner = self.owner(here);
        Ok(Wanted { readable, identity, settings, owner })
    }

    /// What is kept under a key, if it is true and may be served.
    fn find(
        &mut self,
        here: &Rc<Here>,
        candidate: &Candidate<'_>,
        wanted: &Wanted,
        sought: Sought<'_>,
        moment: Moment,
    ) -> Result<Option<Arc<Entry>>, Bypass> {
        let Moment { mode, now, waited, .. } = moment;
        let worker = self.worker.clone();
        let caches = &worker.shared.caches;
        let shape = &candidate.known.shape;
        // A request that waits for a server is looked at again when it has one: it is one miss.
        let again = self.caching.as_deref().is_some_and(|caching| caching.early.is_some());
        let (mut compared, mut missed, mut refresh) = (None, None, None);
        match caches.store.get(sought) {
            // It stays: others may have it, whose hints ask for nothing younger.
            Some(entry) if wanted.readable.youth.is_some_and(|youth| entry.dependencies.age(now) >= youth) => {
                missed = Some(Miss::Expired);
            }
            Some(entry) => match entry.dependencies.serve(now, end_known(here, waited)) {
                Ok(served) => {
                    refresh = if served == Served::Stale { self.refreshes(&entry) } else { None };
                    let serves = mode.serves() && refresh.is_none() && !self.is_long_unheard(now);
                    if serves && self.fits(&candidate.known, &entry)? {
                        caches.counters.hit(entry.cost_us, served == Served::Stale);
                        caches.counters.joined.fetch_add(u64::from(waited.flight), Ordering::Relaxed);
                        return Ok(Some(entry));
                    }
                    if mode == Mode::Observe && refresh.is_none() && !again {
                        caches.counters.observed_hit(entry.cost_us);
                        self.note_fate(shape, Fate::Observed);
                    }
                    compared = (mode == Mode::Observe).then_some(entry);
                }
                Err(NotServed::Miss(miss)) => {
                    if miss == Miss::Changed || miss == Miss::Expired {
                        caches.store.remove(sought);
                    }
                    missed = Some(miss);
                }
                Err(NotServed::Ask | NotServed::Wait(_)) => match self.wait_for_end(here, &entry, moment) {
                    Ok(()) => return Ok(None),
                    Err(miss) => missed = Some(miss),
                },
            },
            None => missed = Some(Miss::Absent),
        }
        if let Some(miss) = missed {
            self.note_fate(shape, Fate::Miss(miss));
        }
        self.ask_the_server(here, shape, sought, wanted, (compared, refresh), moment);
        // One that waits for an answer is none yet.
        if let Some(miss) = missed.filter(|_| !again && !self.waits_for_an_answer()) {
            caches.counters.misses.count(miss);
        }
        Ok(None)
    }

    /// Whether it is this client that fetches a new answer instead of one that is too old: where it came to do so before, and
    /// has waited for a server since, it still does.
    fn refreshes(&mut self, entry: &Arc<Entry>) -> Option<Refresh> {
        let early = self.caching.as_deref_mut().and_then(|caching| caching.early.as_deref_mut());
        let begun = early.and_then(|early| early.refresh.take()).filter(|refresh| refresh.is_of(entry));
        begun.or_else(|| Refresh::begin(entry))
    }

    /// Nothing true is kept: the reply of the server shall be, unless somebody else asks for it already.
    fn ask_the_server(
        &mut self,
        here: &Rc<Here>,
        shape: &Shape,
        sought: Sought<'_>,
        wanted: &Wanted,
        (compared, refresh): (Option<Arc<Entry>>, Option<Refresh>),
        moment: Moment,
    ) {
        let Moment { now, waited, .. } = moment;
        let worker = self.worker.clone();
        let caches = &worker.shared.caches;
        let readable = &wanted.readable;
        let marks = readable.marks(&wanted.owner.mark);
        let sources = readable.sources.apart(self.parts_read(here, wanted));
        match Reading::begin(&here.cached.generations, &sources, &marks, readable.terms, now) {
            Ok(reading) => {
                // Who has waited for the end of the log in vain has lost enough. Who has a server may have one that others
                // wait for, who asks among them: he does not wait. Who only observes keeps nobody waiting.
                let waits = moment.mode.serves()
                    && !waited.flight
                    && (waited.end.is_none() || end_known(here, waited).is_some())
                    && self.lease.is_none();
                let key = Arc::new(sought.to_key());
                let own = self.caching().early.take().filter(|early| early.key == key).and_then(|early| early.flight);
                let takeoff = match own {
                    Some(flight) => Takeoff::Leads(flight),
                    None => caches.flights.takeoff(&key, (worker.index, self.ctl.client), waits),
                };
                let flight = match takeoff {
                    Takeoff::Waits if compared.is_none() => {
                        let waited = Waited { flight: true, ..waited };
                        return self.wait_for_answer(self.waits_until(now), now, waited);
                    }
                    Takeoff::Leads(flight) => Some(flight),
                    Takeoff::Waits | Takeoff::Alone => None,
                };
                let what = (key, shape.strict, self.tenant);
                let mut filling = Filling::new(what, reading, worker.rooms.replies.take(), &caches.budget(), now);
                filling.within = self.open_transaction().is_some();
                (filling.compared, filling.refresh) = (compared, refresh);
                filling.flight = flight;
                self.caching().filling = Some(Box::new(filling));
            }
            Err(refused) => {
                caches.counters.refused.count(refused);
                self.note_fate(shape, Fate::Refused(refused));
            }
        }
    }

    /// Its texts are not what they seem: nothing of them is looked at, not even whether a rule is about it.
    fn reads_otherwise(&self) -> Option<Bypass> {
        match (self.escapes, self.opaque) {
            (true, _) => Some(Bypass::Backslashes),
            (_, true) => Some(Bypass::Unreadable),
            _ => None,
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
        if self.rewrites(&candidate.known) {
            // The limit is of the tenant, the class or the statement, and may be another one tomorrow.
            return Err(Bypass::Limited);
        }
        if let Some(upstream) = self.lease.as_deref() {
            self.reads_as_outside(upstream)?;
            // A retired one may be of another place than the one that its pool leads to now.
            if upstream.tainted || upstream.work.pinned.is_some() || upstream.is_retired() {
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
}

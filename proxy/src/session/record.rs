//! What is noted of a statement: its beginning, its rows, its end.

use std::ops::Range;
use std::time::Instant;

use policy::comment::{Comments, Tag, route_name};
use wire::frame;
use wire::view::{self, Bind, Columns};

use super::Session;
use super::brain::Look;
use super::held::Held;
use super::portals::Portal;
use super::statement::{Known, Prepared, Running, Tags};
use super::verify::result_of;
use super::work::MAX_SAMPLES;
use crate::telemetry::{Column, Description, EventFlags, EventHeader, Finished, Payload, RouteTag, Sqlstate};
use crate::trouble::Trouble;
use crate::upstream::Upstream;
use std::rc::Rc;

/// Bytes of rows kept of one result.
const MAX_ROW_BYTES: usize = crate::telemetry::ring::MAX_ROWS;
/// Rows kept of one result.
const MAX_ROWS: u64 = 128;

impl Session {
    /// A simple query is on its way to the server.
    #[expect(clippy::too_many_arguments, reason = "one call per statement, on the hot path; a struct would be copied")]
    pub(super) fn start(
        &mut self,
        upstream: &mut Upstream,
        look: &Look<'_>,
        prepared: Option<Rc<Prepared>>,
        sample: Range<usize>,
        bytes_in: usize,
        held: Held,
        now: Instant,
    ) {
        self.may_alter(upstream, look.known.script.as_deref());
        let now_us = self.now_us(now);
        let queued = std::mem::take(&mut upstream.work.queued_us);
        upstream.work.vacates |= look.known.script.as_ref().is_some_and(|script| !script.vacates.is_empty());
        self.ctl.statement.set(look.known.shape.strict);
        let within = upstream.work.is_within(upstream.pipeline.status());
        upstream.work.drawn |= look.known.draws();
        upstream.work.running.push_back(Running {
            known: look.known.clone(),
            tags: self.tags(&look.comments),
            prepared,
            start_us: now_us.saturating_sub(queued),
            sent_us: now_us,
            part: 0,
            rows: 0,
            total_rows: 0,
            error: None,
            bytes_in: bytes_in as u64,
            bytes_out: 0,
            sample,
            text: 0..0,
            columns: 0,
            extended: false,
            binary: false,
            portal: 0,
            resumed: false,
            within,
            notices: upstream.work.notices.take_next(),
            held,
            left: None,
        });
        self.time_text(upstream, now);
        self.was_sent(upstream, now);
    }

    /// A statement is on its way: where it is the first its time begins.
    #[inline]
    fn was_sent(&self, upstream: &mut Upstream, now: Instant) {
        if upstream.work.running.len() == 1 && self.rules.limits.has_statements() {
            self.time_by_name(upstream, now);
        }
    }

    /// What a Bind has made of a statement.
    pub(super) fn portal_of(&self, upstream: &mut Upstream, bind: &Bind<'_>, prepared: Rc<Prepared>) -> Portal {
        let begin = upstream.work.samples.len();
        let room = MAX_SAMPLES.saturating_sub(begin);
        let kept = bind.rest.len().min(self.kept_of_bind(&upstream.work, &prepared.known)).min(room);
        upstream.work.samples.extend_from_slice(bind.rest.get(..kept).unwrap_or_default());
        let sample = begin..upstream.work.samples.len();
        let script = match &prepared.known.script {
            Some(script) if script.bound => Some(Rc::new(super::effects::bind_script(script, bind))),
            script => script.clone(),
        };
        let binary = bind.wants_binary().unwrap_or(false);
        upstream.work.portals_bound += 1;
        let number = upstream.work.portals_bound;
        Portal { number, prepared, script, sample, binary, suspended: false, left: None }
    }

    /// The execution of a portal is on its way to the server.
    #[inline]
    pub(super) fn start_portal(
        &mut self,
        upstream: &mut Upstream,
        portal: Option<Portal>,
        bytes_in: usize,
        held: Held,
        now: Instant,
    ) {
        let now_us = self.now_us(now);
        let queued = std::mem::take(&mut upstream.work.queued_us);
        let Some(portal) = portal else {
            // A portal that was not made by Bind (a cursor), or one that does not exist: the server knows.
            let known = self.worker.brain.borrow_mut().unknown();
            upstream.work.drawn = true;
            let within = upstream.work.is_within(upstream.pipeline.status());
            let notices = upstream.work.notices.take_next();
            upstream.work.running.push_back(Running { held, within, notices, ..Running::unknown(known, now_us) });
            return;
        };
        let prepared = &portal.prepared;
        if self.is_suspect(Some(&prepared.inspected), &prepared.known, prepared.query.as_deref()) {
            self.distrust(upstream, prepared.known.shape.strict);
        }
        self.may_alter(upstream, portal.script.as_deref());
        upstream.work.vacates |= portal.script.as_ref().is_some_and(|script| !script.vacates.is_empty());
        let mut known = portal.prepared.known.clone();
        known.script = portal.script;
        self.ctl.statement.set(known.shape.strict);
        let within = upstream.work.is_within(upstream.pipeline.status());
        upstream.work.drawn |= known.draws();
        upstream.work.running.push_back(Running {
            known,
            tags: portal.prepared.tags,
            columns: portal.prepared.columns.get(),
            start_us: now_us.saturating_sub(queued),
            sent_us: now_us,
            part: 0,
            rows: 0,
            total_rows: 0,
            error: None,
            bytes_in: bytes_in as u64,
            bytes_out: 0,
            sample: portal.sample,
            text: 0..0,
            extended: true,
            binary: portal.binary,
            portal: portal.number,
            resumed: portal.suspended,
            within,
            notices: upstream.work.notices.take_next(),
            held,
            left: portal.left,
            prepared: Some(portal.prepared),
        });
        self.was_sent(upstream, now);
    }

    /// What the comments at a text's ends say.
    #[inline]
    pub(super) fn tags(&self, comments: &Comments<'_>) -> Tags {
        if comments.is_empty() {
            return Tags::default();
        }
        // The trace, not the span, is what belongs together.
        let trace = comments.tag("traceparent").and_then(|value| {
            policy::observe::trace_of(&value).map(|trace| crate::telemetry::ring::trace_hash(trace.as_bytes()))
        });
        let route = comments.route().map(|route| self.route(route));
        Tags { trace: trace.unwrap_or(0), route: route.unwrap_or_default() }
    }

    /// The number of a route by how its comment spells it, which allocates nothing where that is known.
    fn route(&self, route: (Tag<'_>, Option<Tag<'_>>)) -> RouteTag {
        let (telemetry, name) = (&self.worker.telemetry, || route_name(route).into());
        let (tag, Some(action)) = route else { return telemetry.route(self.meter(), route.0.value, name) };
        let mut spelled = self.worker.rooms.route.take();
        spelled.extend_from_slice(tag.value);
        spelled.push(b'#');
        spelled.extend_from_slice(action.value);
        let found = telemetry.route(self.meter(), &spelled, name);
        self.worker.rooms.route.put(spelled);
        found
    }

    /// A row has come; `false`: it goes no further.
    #[inline]
    pub(super) fn on_row(&mut self, upstream: &mut Upstream, message: &[u8], whole: bool) -> bool {
        let work = &mut upstream.work;
        let Some(running) = work.running.front_mut() else { return true };
        if running.rows == 0 {
            running.go_on();
        }
        running.rows += 1;
        if running.held.is_spent() && self.result_too_large(upstream) {
            return false;
        }
        self.on_row_within(upstream, message, whole)
    }

    /// A part of a COPY to the client has come; the same.
    #[inline]
    pub(super) fn on_copy_out(&mut self, upstream: &mut Upstream, message: &[u8]) -> bool {
        let Some(running) = upstream.work.running.front_mut() else { return true };
        if running.held.is_spent() && self.result_too_large(upstream) {
            return false;
        }
        let Some(running) = upstream.work.running.front_mut() else { return true };
        running.held.spend(message.len());
        running.bytes_out += message.len() as u64;
        true
    }

    #[inline]
    fn on_row_within(&mut self, upstream: &mut Upstream, message: &[u8], whole: bool) -> bool {
        let work = &mut upstream.work;
        let Some(running) = work.running.front_mut() else { return true };
        running.held.spend(message.len());
        running.bytes_out += message.len() as u64;
        if running.rows == 1 {
            work.rows.clear();
        }
        if whole && running.rows <= MAX_ROWS && work.rows.len() + message.len() <= MAX_ROW_BYTES {
            work.rows.extend_from_slice(message);
        }
        true
    }

    /// The columns of a result have been described, for the statement that runs or one that is being described.
    pub(super) fn on_columns(&mut self, upstream: &mut Upstream, message: &[u8], describing: bool) {
        let body = message.get(frame::HEAD..).unwrap_or_default();
        let worker = self.worker.clone();
        let telemetry = &worker.shared.telemetry;
        if describing {
            if let Some(Some(prepared)) = upstream.work.describing.pop_front() {
                let describe = || telemetry.description(description(prepared.parameters.borrow().clone(), body));
                prepared.columns.set(prepared.known.shape.columns(body, describe));
                if prepared.result.get() == 0 {
                    prepared.told(result_of(body));
                }
                tell_running(upstream, &prepared);
            }
        } else if let Some(running) = upstream.work.running.front_mut() {
            let describe = || telemetry.description(description(Box::default(), body));
            running.columns = running.known.shape.columns(body, describe);
        }
    }

    /// A statement returns nothing, as most writes do: what its parameters are is known all the same.
    pub(super) fn on_no_columns(&self, upstream: &mut Upstream, prepared: &Rc<Prepared>) {
        let parameters = prepared.parameters.borrow();
        if parameters.is_empty() || prepared.columns.get() != 0 {
            return;
        }
        let spelled: Vec<u8> = parameters.iter().flat_map(|oid| oid.to_be_bytes()).collect();
        let telemetry = &self.worker.shared.telemetry;
        let described = || Description { parameters: parameters.clone(), columns: Box::default() };
        prepared.columns.set(prepared.known.shape.columns(&spelled, || telemetry.description(described())));
        tell_running(upstream, prepared);
    }

    /// The types of a statement's parameters have been described.
    pub(super) fn on_parameter_types(&mut self, upstream: &mut Upstream, body: &[u8]) {
        if let (Some(Some(prepared)), Ok(types)) = (upstream.work.describing.front(), view::parameter_types(body)) {
            *prepared.parameters.borrow_mut() = types.collect();
        }
    }

    /// A statement has ended: it is counted, and the detector hears of it.
    #[inline]
    pub(super) fn finish(
        &mut self,
        upstream: &mut Upstream,
        rows: u64,
        sqlstate: Option<Sqlstate>,
        suspended: bool,
        now: Instant,
    ) {
        let Some(running) = upstream.work.running.pop_front() else { return };
        if let Some(left) = running.left.as_ref().filter(|_| suspended) {
            left.set(Some(running.held));
        }
        if suspended {
            upstream.work.suspend(running.portal);
        }
        let served = upstream.work.serve(running.sent_us, self.worker.micros(now));
        self.count(upstream, &running, served, rows, sqlstate, suspended, now);
        upstream.work.open.remember(running.known);
    }

    /// `served`: from when to when the server was busy with it.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one call per statement, on the hot path; a struct would be copied")]
    fn count(
        &mut self,
        upstream: &Upstream,
        running: &Running,
        served: (u64, u64),
        rows: u64,
        sqlstate: Option<Sqlstate>,
        suspended: bool,
        now: Instant,
    ) {
        let end_us = self.worker.micros(now);
        let work = &upstream.work;
        let (begun_us, served_us) = served;
        let queue_us = running.sent_us.saturating_sub(running.start_us);
        let back_pressure_us: u64 = std::mem::take(&mut self.clogged_us).into();
        let finished = Finished {
            start_us: begun_us.saturating_sub(queue_us),
            end_us: served_us,
            queue_us,
            // While the client took its rows the server was not read.
            server_us: served_us.saturating_sub(begun_us).saturating_sub(back_pressure_us),
            back_pressure_us,
            rows,
            bytes_in: running.bytes_in,
            bytes_out: running.bytes_out,
            prepared: running.extended,
            cached: false,
            error: sqlstate,
        };
        let Some(statement) = self.charge(&running.known, running.tags, &finished) else { return };
        let observe = &self.rules.settings.observe;
        let telemetry = &self.worker.telemetry;
        if let Some(sqlstate) = sqlstate {
            telemetry.statement_failed(self.meter(), sqlstate);
        }
        let slow = self.slow_threshold_us().is_some_and(|slow| finished.total_us() >= slow);
        if observe.samples {
            self.keep_sample(upstream, running, (&finished, end_us), sqlstate, slow);
        }
        // What nobody would look at is not put together.
        let urgent = slow || sqlstate.is_some();
        let admitted = || observe.n_plus_one && telemetry.events.admits(end_us, observe.events_per_second);
        if !urgent && !telemetry.events.is_wanted_whole() && !admitted() {
            return;
        }
        let flags = EventFlags::default()
            .with_if(EventFlags::SLOW, slow)
            .with_if(EventFlags::EXTENDED, running.extended)
            .with_if(EventFlags::ROWS_BINARY, running.binary)
            .with_if(EventFlags::SUSPENDED, suspended)
            .with_if(EventFlags::RESUMED, running.resumed)
            .with_if(EventFlags::IN_TRANSACTION, running.within);
        let header = EventHeader {
            start_us: running.sent_us,
            end_us,
            connection: self.ctl.client,
            trace: running.tags.trace,
            route: running.tags.route.id,
            scope: self.scope.as_ref().map_or(0, |scope| scope.id),
            tenant: self.meter(),
            statement,
            description: running.columns,
            rows,
            queue_us: finished.queue_us.min(u64::from(u32::MAX)) as u32,
            server_us: finished.server_us.min(u64::from(u32::MAX)) as u32,
            sqlstate,
            flags,
        };
        let sample = work.samples.get(running.sample.clone()).unwrap_or_default();
        let prepared = running.prepared.as_deref().map(|prepared| &*prepared.literals).unwrap_or_default();
        let (parameters, literals) = if running.extended { (sample, prepared) } else { (&[][..], sample) };
        let seen = if running.rows > 0 { work.rows.as_slice() } else { &[] };
        self.worker.telemetry.events.push(&header, &Payload { parameters, literals, rows: seen });
        if slow {
            self.want_plan(upstream, running, &finished, sqlstate);
        }
    }

    /// A statement counts for its pool, tenant, application, class and route, whoever has answered it; its number there.
    /// `None`: statements are not observed.
    #[inline]
    pub(super) fn charge(&self, known: &Known, tags: Tags, finished: &Finished) -> Option<u32> {
        self.pool.meter.finished(finished);
        if !self.rules.settings.observe.statements {
            return None;
        }
        let telemetry = &self.worker.telemetry;
        let statement = known.shape.with_meter(self.meter(), telemetry, |meter| {
            meter.record(finished);
            meter.statement_id()
        });
        if let Some(application) = &self.application {
            application.record(finished);
        }
        if let Some((class, latency)) = self.class_usage.as_deref() {
            class.record(finished);
            latency.record(finished.total_us());
        }
        telemetry.record_route(tags.route, finished);
        Some(statement)
    }

    /// Where the whole stream is wanted: the client has come, or has gone.
    pub(super) fn tell_border(&self, border: EventFlags) {
        let events = &self.worker.telemetry.events;
        if !events.is_wanted_whole() {
            return;
        }
        let now_us = self.now_us(Instant::now());
        let header = EventHeader {
            start_us: now_us,
            end_us: now_us,
            connection: self.ctl.client,
            scope: self.scope.as_ref().map_or(0, |scope| scope.id),
            tenant: self.meter(),
            flags: border,
            ..EventHeader::default()
        };
        events.push(&header, &Payload::default());
    }

    /// A text was turned down when it was prepared: it counts as a failed call.
    pub(super) fn count_failed_parse(&mut self, upstream: &mut Upstream, sqlstate: Sqlstate, now: Instant) {
        let Some(prepared) = upstream.work.parsed.take() else { return };
        let mut running = Running::unknown(prepared.known.clone(), upstream.work.begun_us);
        running.known.script = None;
        running.tags = prepared.tags;
        running.within = upstream.pipeline.status() != wire::tag::TransactionStatus::Idle;
        upstream.work.running.push_front(running);
        self.finish(upstream, 0, Some(sqlstate), false, now);
    }

    pub(super) fn slow_threshold_us(&self) -> Option<u64> {
        let own = self.limits.slow_threshold;
        own.or(self.rules.settings.slow_log.threshold).map(|threshold| threshold.as_micros() as u64)
    }

    /// The client is told an error of ours.
    pub(super) fn count_trouble(&self, trouble: &Trouble) {
        let sqlstate = Sqlstate::new(trouble.sqlstate().as_bytes());
        self.worker.telemetry.refused(Some(&self.pool.meter), self.meter(), sqlstate);
    }
}

/// An Execute that was sent in the same request as the Describe knows only now.
fn tell_running(upstream: &mut Upstream, prepared: &Rc<Prepared>) {
    let columns = prepared.columns.get();
    for running in upstream.work.running.iter_mut().filter(|running| running.columns != columns) {
        if running.prepared.as_ref().is_some_and(|other| Rc::ptr_eq(other, prepared)) {
            running.columns = columns;
        }
    }
}

fn description(parameters: Box<[u32]>, body: &[u8]) -> Description {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into();
    let columns = Columns::read(body).map(|columns| {
        // A result that is wider is not looked into: what it would take to describe it is its client's choice.
        let known = columns.map_while(Result::ok);
        let described: Box<[Column]> = known
            .take(Description::MAX_COLUMNS + 1)
            .map(|column| Column {
                name: text(column.name),
                table: column.table,
                attribute: column.attribute,
                type_oid: column.type_oid,
                binary: column.format == 1,
            })
            .collect();
        described
    });
    let columns = columns.unwrap_or_default();
    let columns = if columns.len() > Description::MAX_COLUMNS { Box::default() } else { columns };
    Description { parameters, columns }
}

//! A login to the console: it needs no server, no pool and no place among the clients.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use config::Settings;
use policy::verdict::{LoginRefusal, Refusal};
use wire::encode::backend as say;
use wire::login::server::Started;
use wire::startup::{ProtocolVersion, Replication};
use wire::tag::TransactionStatus;

use super::rules::rule_for;
use super::secrets::Known;
use super::{Denied, Gate, Guest, Wish, limited};
use crate::cancel::key::{LONG_KEY, SHORT_KEY};
use crate::console::{self, Role, Seat, Visitor, WELCOME};
use crate::stream::Stream;

impl Wish {
    /// Whether the client asks for the console.
    pub(super) fn is_for_the_console(&self) -> bool {
        config::Console::is_named(&self.database) && self.replication == Replication::No
    }
}

impl Gate {
    /// The conversation up to the first ReadyForQuery.
    pub(super) async fn log_in_to_console(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: Wish,
    ) -> Result<Seat, Denied> {
        let settings = self.shared.settings();
        let source = limited(guest.peer, &settings.auth.limits);
        self.may_try(source, &settings.auth.limits)?;
        let (version, role) = if console::is_own_user(guest.stream.as_ref(), &wish.user) {
            (started.trust(&mut guest.out).version(), Role::Admin)
        } else {
            let version = self.prove_to_console(guest, started, &wish, &settings).await;
            let version = self.judged(guest, source, &settings, version)?;
            // Told only to who has proven to be this user: nobody learns whose names are listed.
            let role = Role::of(&settings.console, &wish.user);
            (version, role.ok_or_else(|| Refusal::Login(LoginRefusal::Console { user: wish.shown_user() }))?)
        };
        let now_us = self.shared.telemetry.clock.micros(Instant::now());
        let visitor = Visitor {
            address: guest.peer.to_string().into(),
            local: guest.stream.as_ref().and_then(Stream::local_addr),
            application: wish.application.as_str().into(),
            tls: guest.secured.as_ref().map(|secured| secured.face()),
            ..Visitor::new(self.shared.next_id(), &wish.user, role, now_us)
        };
        let key = if version == ProtocolVersion::V3_0 { SHORT_KEY } else { LONG_KEY };
        let seat = self.console.enter(visitor, key)?;
        for (name, value) in WELCOME {
            say::parameter_status(&mut guest.out, name.as_bytes(), value.as_bytes())?;
        }
        say::backend_key_data(&mut guest.out, seat.identity.process.number(), &seat.identity.key)?;
        say::ready_for_query(&mut guest.out, TransactionStatus::Idle);
        Ok(seat)
    }

    /// By what the proxy itself knows. Servers are not asked: whoever owns one would own the proxy.
    async fn prove_to_console(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: &Wish,
        settings: &Arc<Settings>,
    ) -> Result<ProtocolVersion, Denied> {
        let rule = rule_for(guest, wish, settings)?;
        self.look_at_secrets(settings);
        let known = Known::listed(settings, &wish.user);
        let proven = self.by_rule(guest, started, wish, settings, &rule, &known).await?;
        Ok(proven.logged_in.version())
    }

    /// Leaves the connection to the console.
    pub(super) fn hand_over_to_console(self: &Rc<Self>, guest: Guest, seat: Seat) {
        let Some(stream) = guest.stream else { return };
        self.telemetry.load().logins.increment();
        let gate = self.clone();
        console::begin(seat, stream, guest.bytes, Rc::new(move || gate.guests()));
    }
}

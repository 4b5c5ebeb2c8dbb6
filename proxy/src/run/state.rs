//! What the admin port asks of the running proxy.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use config::Settings;
use tokio::sync::oneshot;

use crate::admin::{ClientState, Readiness, StateFuture, StateSource, UpstreamState};
use crate::shared::Shared;
use crate::worker::Mail;

/// What the admin port asks.
pub(super) struct State(pub(super) Arc<Shared>);

impl State {
    fn look(&self, limit: usize) -> impl Future<Output = (Vec<ClientState>, Vec<UpstreamState>)> + Send + use<> {
        let answers: Vec<_> = (0..self.0.workers.len())
            .map(|worker| {
                let (answer, answered) = oneshot::channel();
                self.0.send(worker, Mail::Look(limit, answer));
                answered
            })
            .collect();
        async move {
            let (mut clients, mut upstreams) = (Vec::new(), Vec::new());
            for answered in answers {
                if let Ok((some, others)) = answered.await {
                    clients.extend(some);
                    upstreams.extend(others);
                }
            }
            clients.truncate(limit);
            upstreams.truncate(limit);
            (clients, upstreams)
        }
    }
}

impl StateSource for State {
    fn readiness(&self) -> Readiness {
        match self.0.draining.load(Ordering::Relaxed) {
            true => Readiness::NotReady(vec!["draining".to_owned()]),
            false => Readiness::Ready,
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.0.settings()
    }

    fn clients(&self, limit: usize) -> StateFuture<Vec<ClientState>> {
        let look = self.look(limit);
        Box::pin(async move { look.await.0 })
    }

    fn upstreams(&self, limit: usize) -> StateFuture<Vec<UpstreamState>> {
        let look = self.look(limit);
        Box::pin(async move { look.await.1 })
    }
}

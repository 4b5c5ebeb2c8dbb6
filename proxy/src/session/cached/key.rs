//! What a request is looked up by: all that its answer depends on.

use policy::cache::{Bypass, Parts, Protocol, Sought};
use wire::params::Value;

use super::few::Few;
use super::request::Asked;
use super::{Candidate, Wanted};
use crate::cache::here::Here;
use crate::session::Session;

impl Session {
    /// Its key, put together in `room`.
    pub(super) fn key_of<'a>(
        &self,
        here: &Here,
        candidate: &Candidate<'_>,
        Wanted { readable, identity, settings, owner }: &Wanted,
        room: &'a mut Vec<u8>,
    ) -> Result<Sought<'a>, Bypass> {
        let (parameters, formats) = candidate.request.bound()?;
        let mut inputs = Few::<(&str, Option<&str>)>::default();
        for name in readable.inputs.iter() {
            let value = identity.settings.find(name).and_then(|value| {
                let (Value::Plain(bytes) | Value::Clause(bytes)) = value;
                std::str::from_utf8(bytes).ok()
            });
            inputs.push((name.as_str(), value));
        }
        let mut types = Few::<u32>::default();
        if let Some(prepared) = &candidate.prepared {
            let all = wire::view::parameter_types(&prepared.types).map_err(|_| Bypass::Unreadable)?;
            all.for_each(|oid| types.push(oid));
        }
        let parts = Parts {
            epoch: readable.sources.epoch(),
            tenant: &owner.name,
            place: &here.cached.name,
            database: &self.pool.shared.database,
            text: candidate.words().ok_or(Bypass::Unreadable)?.body,
            protocol: match candidate.request.asked {
                Asked::Query(_) => Protocol::Simple,
                _ => Protocol::Extended { described: candidate.request.described },
            },
            prepared: match (candidate.request.asked, &candidate.prepared) {
                (Asked::Bound(_), Some(prepared)) => Some((prepared.epoch, prepared.result.get())),
                _ => None,
            },
            parameter_types: &types,
            parameters: &parameters,
            result_formats: &formats,
            relations: &readable.named,
            role: &identity.role,
            session_user: &identity.user,
            inputs: &inputs,
            settings: *settings,
            rule: readable.rule,
        };
        Sought::of(&parts, room)
    }
}

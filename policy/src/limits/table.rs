//! Limits by tenant, class and statement, and where each of them comes from.

use std::sync::Arc;

use config::{LimitKey, LimitValue, Limits, Mode, Tenants};
use rustc_hash::FxHashMap;

use super::effective::{Effective, is_none, mode_of};
use crate::tenant::{ClassId, Directory, TenantId};
use crate::verdict::Limited;

/// Limits by tenant, compiled. Immutable; a reload makes a new one and swaps it in.
#[derive(Debug, Clone)]
pub struct LimitTable {
    /// By tenant; `None`: it has no table of its own.
    by_id: Box<[Option<ByClass>]>,
    default: ByClass,
    /// Where a class stands in these, by its number; 0: it is in no table of the configuration.
    places: Box<[u8]>,
    /// Of no class and no tenant in particular.
    plain: Arc<Effective>,
    /// What is said of single statements, with what is said of everybody's.
    statements: FxHashMap<u64, Limits>,
    layers: Arc<Tenants>,
}

/// Limits of each class that the configuration knows, no class first.
type ByClass = Box<[Arc<Effective>]>;

/// Which table says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// Nobody does: it is so unless somebody does.
    Usual,
    /// `[tenant.default]`.
    Default,
    /// `[tenant.class.NAME]`.
    Class(String),
    /// `[tenant.limits.NAME]`.
    Tenant(String),
    /// `[tenant.fingerprint.HEX]`.
    Fingerprint(u64),
}

impl Layer {
    /// The table's header.
    pub fn shown(&self) -> String {
        match self {
            Self::Usual => "built in".to_owned(),
            Self::Default => "[tenant.default]".to_owned(),
            Self::Class(name) => format!("[tenant.class.{name}]"),
            Self::Tenant(name) => format!("[tenant.limits.{name}]"),
            Self::Fingerprint(strict) => format!("[tenant.fingerprint.{strict:016x}]"),
        }
    }
}

/// A table, and what it says.
type Named<'a> = (Layer, &'a Limits);

/// What the last of these says of a key, in the mode that follows from `modes`.
fn explained(key: LimitKey, layers: &[Named<'_>], modes: &[Named<'_>]) -> Explained {
    let said = layers.iter().rev().find_map(|(layer, limits)| Some((layer, limits.get(key)?)));
    let value = said.map(|(_, value)| value).filter(|value| !is_none(key, value)).cloned();
    let modes: Vec<&Limits> = modes.iter().map(|(_, limits)| *limits).collect();
    let mode = (key.has_mode() && value.is_some()).then(|| mode_of(&modes, key));
    Explained { key, value, from: said.map_or(Layer::Usual, |(layer, _)| layer.clone()), mode }
}

/// One limit of a tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Which.
    pub key: LimitKey,
    /// Its value; `None`: no limit.
    pub value: Option<LimitValue>,
    /// Which table says so.
    pub from: Layer,
    /// What happens when it is reached, where that can be chosen.
    pub mode: Option<Mode>,
}

impl Explained {
    /// It is the class's own part of what its tenant gets of a pool, beside the tenant's.
    pub fn is_of_class(&self) -> bool {
        self.key.is_of_share() && matches!(self.from, Layer::Class(_))
    }

    /// Whether a table says something about it, be it that there is no limit.
    pub fn is_said(&self) -> bool {
        self.from != Layer::Usual
    }
}

impl LimitTable {
    /// Looks up each configured tenant's id. Call [`Directory::reload`] with the same settings before.
    pub fn new(tenants: &Tenants, directory: &Directory) -> Self {
        let names = tenants.class_names();
        let mut places = Vec::new();
        for (place, name) in (1..).zip(&names) {
            let number = directory.class(name).index();
            if places.len() <= number {
                places.resize(number + 1, 0);
            }
            if let Some(slot) = places.get_mut(number).filter(|_| number > 0) {
                *slot = place;
            }
        }
        let classes: Vec<Option<&Limits>> =
            std::iter::once(None).chain(names.into_iter().map(|name| tenants.class_limits.get(name))).collect();
        let compiled = |own: Option<&Limits>| -> ByClass {
            let of = |class: &Option<&Limits>| Arc::new(Effective::of_session(&tenants.default_limits, *class, own));
            classes.iter().map(of).collect()
        };
        let mut by_id: Vec<Option<ByClass>> = Vec::new();
        for (name, limits) in &tenants.limits {
            let Some(id) = directory.known(name) else {
                continue;
            };
            if by_id.len() <= id.index() {
                by_id.resize(id.index() + 1, None);
            }
            if let Some(slot) = by_id.get_mut(id.index()) {
                *slot = Some(compiled(Some(limits)));
            }
        }
        let statements = tenants.fingerprints.iter().map(|(strict, limits)| (*strict, limits.clone())).collect();
        Self {
            by_id: by_id.into(),
            default: compiled(None),
            places: places.into(),
            plain: Arc::new(Effective::of(&[&tenants.default_limits])),
            statements,
            layers: Arc::new(tenants.clone()),
        }
    }

    /// The limits of a tenant's sessions of a class. Those that share [`TenantId::OTHER`] have the default ones.
    pub fn of(&self, tenant: TenantId, class: ClassId) -> &Arc<Effective> {
        let by_class = self.by_id.get(tenant.index()).and_then(Option::as_ref).unwrap_or(&self.default);
        // A class from before a reload may be gone: no class is always there.
        let place = self.places.get(class.index()).map_or(0, |place| usize::from(*place));
        by_class.get(place).or(by_class.first()).unwrap_or(&self.plain)
    }

    /// Whether any statement has limits of its own.
    #[inline]
    pub fn has_statements(&self) -> bool {
        !self.statements.is_empty()
    }

    /// Whether this statement has limits of its own.
    #[inline]
    pub fn limits_statement(&self, strict: u64) -> bool {
        self.statements.contains_key(&strict)
    }

    /// What the configuration says of one statement and of nothing else; modes are inherited.
    pub fn of_statement(&self, tenant: &str, class: &str, strict: u64) -> Option<Effective> {
        let own = self.statements.get(&strict)?;
        let layers: Vec<&Limits> =
            self.layers_of(tenant, class, Some(strict)).into_iter().map(|(_, limits)| limits).collect();
        Some(Effective::of_own(&layers, own))
    }

    /// The tables that say something of a tenant's sessions of a class, or of one statement in them; each wins over those
    /// before it.
    fn layers_of(&self, tenant: &str, class: &str, strict: Option<u64>) -> Vec<Named<'_>> {
        let layers = [
            Some((Layer::Default, &self.layers.default_limits)),
            self.layers.class_limits.get(class).map(|own| (Layer::Class(class.to_owned()), own)),
            self.layers.limits.get(tenant).map(|own| (Layer::Tenant(tenant.to_owned()), own)),
            strict.and_then(|strict| Some((Layer::Fingerprint(strict), self.statements.get(&strict)?))),
        ];
        layers.into_iter().flatten().collect()
    }

    /// A limit of a tenant's session of a class, or of one statement in it, as its refusals tell it. Of a limit on a part of a
    /// pool, the class's own where it has one.
    pub fn limited(&self, tenant: &str, class: &str, key: LimitKey, strict: Option<u64>) -> Limited {
        let own = strict.map(|strict| self.explain_statement(tenant, class, strict)).unwrap_or_default();
        let all = own.into_iter().rev().chain(self.explain(tenant, class).into_iter().rev());
        let holds = |limit: &Explained| limit.key == key && (limit.value.is_some() || !limit.is_of_class());
        let from = all.into_iter().find(holds).map_or(Layer::Usual, |limit| limit.from);
        let class = if matches!(from, Layer::Class(_)) { class } else { "" };
        Limited { tenant: tenant.into(), class: class.into(), key, rule: from.shown().into() }
    }

    /// Every limit of a tenant's session of a class, and which table says so. What a class says of its part of a pool stands
    /// behind what holds for the whole tenant: both do.
    pub fn explain(&self, tenant: &str, class: &str) -> Vec<Explained> {
        let layers = self.layers_of(tenant, class, None);
        let whole: Vec<Named<'_>> =
            layers.iter().filter(|(layer, _)| !matches!(layer, Layer::Class(_))).cloned().collect();
        let keys = LimitKey::ALL.into_iter().filter(|key| *key != LimitKey::Mode);
        let each = keys.flat_map(|key| {
            if !key.is_of_share() {
                return [Some(explained(key, &layers, &layers)), None];
            }
            let of_class =
                layers.iter().find(|(layer, own)| matches!(layer, Layer::Class(_)) && own.get(key).is_some());
            let part = of_class.map(|own| explained(key, std::slice::from_ref(own), &layers));
            [Some(explained(key, &whole, &whole)), part]
        });
        each.flatten().collect()
    }

    /// What the configuration says of one statement and of nothing else, in the modes that hold for it there. It stands beside
    /// what holds for its tenant's sessions.
    pub fn explain_statement(&self, tenant: &str, class: &str, strict: u64) -> Vec<Explained> {
        let layers = self.layers_of(tenant, class, Some(strict));
        let Some(own) = layers.last().filter(|(layer, _)| *layer == Layer::Fingerprint(strict)) else {
            return Vec::new();
        };
        let said = own.1.said().map(|(key, _)| key).filter(|key| *key != LimitKey::Mode);
        said.map(|key| explained(key, std::slice::from_ref(own), &layers)).collect()
    }
}

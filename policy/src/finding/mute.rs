//! Which findings a mute keeps silent.

use config::Mute;

use super::Finding;

/// Whether everything that the mute names holds for the finding. Whether it has ended is not asked here.
pub fn silences(mute: &Mute, finding: &Finding) -> bool {
    let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
    let fingerprint = || u64::from_str_radix(&finding.child.fingerprint, 16).ok();
    is(&mute.kind, finding.kind.name())
        && is(&mute.database, &finding.database)
        && is(&mute.user, &finding.user)
        && is(&mute.application, &finding.application)
        && is(&mute.client, &finding.client)
        && is(&mute.tenant, &finding.tenant)
        && is(&mute.route, finding.route.as_deref().unwrap_or_default())
        && mute.fingerprint.is_none_or(|wanted| Some(wanted) == fingerprint())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::finding::{Kind, Severity, Side, Timestamp};

    /// A finding with something in every field.
    pub(in crate::finding) fn finding() -> Finding {
        let side = |text: &str, fingerprint: &str, column: &str, parameter| Side {
            fingerprint: fingerprint.into(),
            text: text.into(),
            column: Some(column.into()),
            parameter,
        };
        Finding {
            id: "5d1c0f6a92e7b384".into(),
            kind: Kind::NPlusOne,
            severity: Severity::High,
            tenant: "acme".into(),
            database: "shop".into(),
            user: "app".into(),
            application: "web".into(),
            client: "10.0.0.7".into(),
            route: Some("GET /posts".into()),
            traced: false,
            parent: Some(side("select id from posts", "00000000000000aa", "posts.id", None)),
            child: side("select * from comments where post_id = $1", "00000000000000bb", "comments.post_id", Some(1)),
            evidence: Some("posts.id → comments.post_id = $1".into()),
            count: 10,
            parent_executions: 1,
            connections: 4,
            wasted_ms: 4.5,
            occurrences: 1,
            statements: 10,
            per_minute: 1,
            first_seen: Timestamp(1_000_000),
            last_seen: Timestamp(1_100_000),
            rewrite: Some("select * from comments where post_id = ANY($1::int4[])".into()),
            detail: None,
            source: None,
        }
    }

    #[test]
    fn all_that_is_named_has_to_hold() {
        type Change = fn(&mut Mute, &str);
        let keys: [(Change, &str, &str); 7] = [
            (|mute, text| mute.kind = Some(text.into()), "n_plus_one", "insert_loop"),
            (|mute, text| mute.database = Some(text.into()), "shop", "sho"),
            (|mute, text| mute.user = Some(text.into()), "app", "App"),
            (|mute, text| mute.application = Some(text.into()), "web", "worker"),
            (|mute, text| mute.client = Some(text.into()), "10.0.0.7", "10.0.0"),
            (|mute, text| mute.tenant = Some(text.into()), "acme", ""),
            (|mute, text| mute.route = Some(text.into()), "GET /posts", "GET /"),
        ];
        let mut all = Mute { fingerprint: Some(0xbb), ..Mute::default() };
        assert!(silences(&all, &finding()));
        assert!(!silences(&Mute { fingerprint: Some(0xaa), ..Mute::default() }, &finding()), "the parent's");
        for (set, right, wrong) in keys {
            let mut other = all.clone();
            set(&mut other, wrong);
            assert!(!silences(&other, &finding()), "{wrong}");
            set(&mut all, right);
            assert!(silences(&all, &finding()), "{right}");
        }
        let no_route = Finding { route: None, ..finding() };
        assert!(!silences(&all, &no_route));
    }
}

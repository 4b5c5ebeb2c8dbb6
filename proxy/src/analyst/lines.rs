//! Findings as lines of the log, under the target `finding`.

use policy::finding::Kept;

/// Writes one line with everything that the admin port shows of a finding but its sequence number. Texts are normalised:
/// no constant, no bound value.
pub(super) fn write(kept: &Kept) {
    let finding = &kept.finding;
    let parent = finding.parent.as_ref();
    tracing::info!(
        target: "finding",
        id = finding.id,
        kind = finding.kind.name(),
        severity = finding.severity.name(),
        state = kept.state.name(),
        tenant = finding.tenant,
        database = finding.database,
        user = finding.user,
        application = finding.application,
        client = finding.client,
        route = finding.route,
        traced = finding.traced,
        count = finding.count,
        parent_executions = finding.parent_executions,
        connections = finding.connections,
        wasted_ms = finding.wasted_ms,
        occurrences = finding.occurrences,
        statements = finding.statements,
        evidence = finding.evidence,
        child_fingerprint = finding.child.fingerprint,
        child = finding.child.text,
        parent_fingerprint = parent.map(|side| &*side.fingerprint),
        parent = parent.map(|side| &*side.text),
        rewrite = finding.rewrite,
        detail = finding.detail.as_ref().and_then(|detail| serde_json::to_string(detail).ok()),
        "finding"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::analyst::finding;
    use crate::log::testing::json_line;

    #[test]
    fn a_line_holds_all_of_a_finding() {
        let mut kept = Kept::new(finding("5d1c0f6a92e7b384", "acme", 9));
        kept.finding.rewrite = Some("select …".into());
        let line = json_line(|| write(&kept));
        assert_eq!((&line["target"], &line["level"]), (&"finding".into(), &"INFO".into()));
        let fields = &line["fields"];
        let shown = serde_json::to_value(&kept).unwrap();
        for name in [
            "id",
            "kind",
            "severity",
            "state",
            "tenant",
            "database",
            "user",
            "application",
            "client",
            "traced",
            "count",
            "parent_executions",
            "connections",
            "wasted_ms",
            "occurrences",
            "statements",
            "evidence",
            "rewrite",
        ] {
            assert!(!shown[name].is_null());
            assert_eq!(fields[name], shown[name], "{name}");
        }
        for side in ["child", "parent"] {
            assert_eq!(fields[side], shown[side]["text"]);
            assert_eq!(fields[format!("{side}_fingerprint")], shown[side]["fingerprint"]);
        }
        assert_eq!(fields.get("route"), None, "what is not known is left out");
        assert_ne!(fields["message"], json!(null));
    }
}

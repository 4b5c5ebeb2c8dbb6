//! Findings as lines of the log, under the target `finding`.

use policy::finding::Kept;

/// Lines that may be written at once.
const AT_ONCE: u64 = 60;
/// And one more each time that this has passed.
const EVERY_US: u64 = 1_000_000;

/// How many lines are written, whatever they are about: an application that is new, or a client that names itself anew
/// each time, has thousands of findings at once.
#[derive(Debug)]
pub(super) struct Lines {
    left: u64,
    /// Up to when lines have been added.
    filled_us: u64,
    held_back: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Self { left: AT_ONCE, filled_us: 0, held_back: 0 }
    }
}

impl Lines {
    /// Whether another line may be written; if so, how many were held back before it.
    pub(super) fn admit(&mut self, now_us: u64) -> Option<u64> {
        let due = now_us.saturating_sub(self.filled_us) / EVERY_US;
        self.filled_us += due * EVERY_US;
        self.left = self.left.saturating_add(due).min(AT_ONCE);
        let Some(left) = self.left.checked_sub(1) else {
            self.held_back += 1;
            return None;
        };
        self.left = left;
        Some(std::mem::take(&mut self.held_back))
    }
}

/// Writes one line with everything that the admin port shows of a finding but its sequence number. Texts are normalised:
/// no constant, no bound value. `held_back`: lines that were not written in front of it.
pub(super) fn write(kept: &Kept, held_back: u64) {
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
        held_back,
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
        let line = json_line(|| write(&kept, 5));
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
        assert_eq!(fields["held_back"], 5);
    }

    #[test]
    fn so_many_lines_are_written_at_once_and_then_one_a_second() {
        let mut lines = Lines::default();
        let start = 1_000 * EVERY_US;
        let written = |lines: &mut Lines, now_us| (0..1_000).filter_map(|_| lines.admit(now_us)).collect::<Vec<_>>();
        assert_eq!(written(&mut lines, start), [0; AT_ONCE as usize]);
        assert_eq!(written(&mut lines, start + EVERY_US - 1), [0; 0]);
        assert_eq!(written(&mut lines, start + EVERY_US), [2_000 - AT_ONCE]);
        assert_eq!(written(&mut lines, start + 3 * EVERY_US), [999, 0]);
        assert_eq!(written(&mut lines, start + 1_000 * EVERY_US).len(), AT_ONCE as usize);
    }
}

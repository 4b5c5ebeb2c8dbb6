//! `pool.on_…`: what is done about session state that cannot be followed.

use super::*;

impl Builder<'_> {
    /// Answers by kind and the general one; each from the section itself before that of `[pool]`.
    pub(super) fn untracked(&self, at: impl Fn(&'static str) -> Vec<String>) -> Untracked {
        // Only what somebody wrote: the table's defaults by kind are those of `Untracked` too.
        let answer = |key| {
            let path = at(key);
            let given = self.written.values.contains_key(&path);
            given.then(|| OnUntracked::from_word(&self.word_at(&path))).flatten()
        };
        let general = answer("on_untracked").map_or_else(Untracked::default, Untracked::all);
        SessionState::ALL.into_iter().fold(general, |all, state| all.with(state, answer(on_key(state))))
    }
}

fn on_key(state: SessionState) -> &'static str {
    match state {
        SessionState::Listen => "on_listen",
        SessionState::TemporaryObject => "on_temporary_object",
        SessionState::AdvisoryLock => "on_advisory_lock",
        SessionState::HeldCursor => "on_held_cursor",
        SessionState::SqlPrepare => "on_sql_prepare",
        SessionState::StatementNames => "on_statement_names",
        SessionState::Load => "on_load",
        SessionState::HiddenSetting => "on_hidden_setting",
        SessionState::Block => "on_block",
        SessionState::Function => "on_function",
        SessionState::SequenceState => "on_sequence_state",
        SessionState::Seed => "on_seed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_key_named_after_it() {
        for state in SessionState::ALL {
            assert_eq!(on_key(state), format!("on_{}", state.label()));
            let path = format!("pool.{}", on_key(state));
            let row = schema::POOL.iter().find(|row| row.path == path).unwrap();
            assert_eq!(row.default, Some(state.usual().word()), "{path}");
        }
    }
}

//! A state of the model in words, by which it is known again.

use super::*;

impl World<'_> {
    /// All that the future depends on.
    pub(in crate::cache) fn fingerprint(&self) -> String {
        use std::fmt::Write as _;
        let mut out = format!("{}{:?}{:?}{:?}{:?}", self.ticks, self.log, self.acked, self.seen, self.acked_via);
        for writer in &self.writers {
            let WriterNow { state, shown, aborted, at, held, begun, .. } = writer;
            let old = |(epoch, wide): (Generation, bool)| {
                (self.processes.iter().map(move |p| p.epoch.generation() == epoch).collect::<Vec<_>>(), wide)
            };
            let _ = write!(out, "|{state:?}{shown}{aborted}{at}{held}{}", writer.token.is_some());
            let _ = write!(out, "{:?}{:?}", begun.map(old), writer.versions);
        }
        for (r, (state, round, floor, end)) in self.readers.iter().enumerate() {
            let process = &self.processes[self.scenario.readers[r].at];
            let slot = process.database.slot().number();
            let _ = write!(out, "|{:?}", end.map(|end| (end.at, end.slot == slot)));
            let _ = match state {
                ReaderNow::Idle => write!(out, "|i{round}"),
                ReaderNow::Asked => write!(out, "|a{round}{floor:?}"),
                ReaderNow::Waits(ticket) => {
                    write!(out, "|w{round}{floor:?}{:?}", process.questions.standing_of(*ticket))
                }
                ReaderNow::Joined(leader) => write!(out, "|j{round}{floor:?}{leader}"),
                ReaderNow::Sent(reading) => {
                    write!(out, "|s{round}{floor:?}{:?}", reading.as_ref().map(Reading::standing))
                }
                ReaderNow::Executed(reading, values, snapshot) => {
                    let standing = reading.as_ref().map(Reading::standing);
                    write!(out, "|x{round}{floor:?}{standing:?}{values:?}{snapshot:?}")
                }
            };
        }
        for process in &self.processes {
            let mut unseen = vec![Default::default(); 3];
            process.database.heard.copy(&mut unseen[0]);
            process.tables.iter().zip(&mut unseen[1..]).for_each(|(table, copy)| table.heard.copy(copy));
            let writers = process.tables.iter().map(|table| table.writers()).collect::<Vec<_>>();
            let (catalog, hears) = (process.database.epoch().writers(), process.database.slot().hears());
            let Process { next, current_to, drops_left, knows, .. } = process;
            let everything = process.database.everything.now().writers();
            let read = process.epoch.generation() == process.database.epoch();
            let _ = write!(out, "|{everything}{knows}{read}");
            let _ = write!(out, "|{unseen:?}{writers:?}{catalog}{hears}{next}{current_to}{drops_left}");
            let asking = process.asking.map(|(_, end)| end);
            let _ = write!(out, "{asking:?}{:?}", process.questions.standing());
            for (values, dependencies) in process.entries.iter().flatten() {
                let _ = write!(out, "{values:?}{:?}", dependencies.standing());
            }
        }
        out
    }
}

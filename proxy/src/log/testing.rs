//! What is logged, for tests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// What has been written, to whichever of its clones.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// All of it so far.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The one line that `logs` writes, in the json format.
pub(crate) fn json_line(logs: impl FnOnce()) -> Value {
    let mut lines = json_lines(logs);
    let line = lines.pop().unwrap();
    assert!(lines.is_empty(), "{lines:?}");
    line
}

/// All that it writes on this thread.
pub(crate) fn json_lines(logs: impl FnOnce()) -> Vec<Value> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, logs);
    serde_json::Deserializer::from_slice(&lines.written()).into_iter().map(Result::unwrap).collect()
}

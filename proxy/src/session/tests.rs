//! What a client costs while it says nothing. Bytes here are multiplied by every connection of every application.

use super::*;

/// How much a future takes, without one being made.
fn size_of_future<F: Future>(_: impl FnOnce(Box<Session>, Option<usize>) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn an_idle_client_takes_little_memory() {
    let (task, session, ctl) = (size_of_future(run), size_of::<Session>(), size_of::<Ctl>());
    println!("task {task}, session {session}, notes {ctl} bytes");
    assert!(task <= 128, "{task}");
    assert!(session <= 512, "{session}");
    assert!(ctl <= 480, "{ctl}");
}

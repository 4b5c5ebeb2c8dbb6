use super::*;
use Awaited as A;
use Backend as B;

const CLIENT: u64 = 7;

fn owed(awaited: Awaited, fate: Fate) -> Owed {
    Owed { awaited, fate, client: CLIENT, note: 0 }
}

fn pipeline(entries: &[(Awaited, Fate)]) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for (awaited, fate) in entries {
        assert!(pipeline.push(owed(*awaited, *fate)));
    }
    pipeline
}

fn forward(entries: &[Awaited]) -> Pipeline {
    pipeline(&entries.iter().map(|a| (*a, Fate::Forward)).collect::<Vec<_>>())
}

fn say(pipeline: &mut Pipeline, tag: Backend) -> Reply {
    pipeline.reply(tag, |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

fn ready(pipeline: &mut Pipeline) {
    pipeline.ready(TransactionStatus::Idle).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_prepared_request_is_forwarded_and_ends_at_a_boundary() {
    let mut p = forward(&[A::Parse, A::Bind, A::DescribePortal, A::Execute, A::Sync]);
    for (tag, done) in [
        (B::ParseComplete, true),
        (B::BindComplete, true),
        (B::RowDescription, true),
        (B::DataRow, false),
        (B::DataRow, false),
        (B::CommandComplete, true),
    ] {
        let reply = say(&mut p, tag);
        assert_eq!((reply.delivery, reply.done), (Delivery::Forward, done), "{tag:?}");
        assert!(!p.is_boundary());
    }
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn a_query_ends_what_stood_before_it_unless_it_is_skipped() {
    let mut p = pipeline(&[(A::Parse, Fate::Swallow), (A::Query, Fate::Forward)]);
    assert!(!p.is_unsynced());
    say(&mut p, B::ParseComplete);
    say(&mut p, B::CommandComplete);
    ready(&mut p);
    assert!(p.is_free());
    let mut p = forward(&[A::Parse, A::Query]);
    say(&mut p, B::ErrorResponse);
    assert!(!p.is_boundary() && p.is_unsynced(), "the server waits for a Sync");
    assert!(p.push(owed(A::Sync, Fate::Forward)));
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn a_made_up_reply_waits_for_its_turn() {
    let mut p = pipeline(&[
        (A::Bind, Fate::Forward),
        (A::Parse, Fate::Substitute),
        (A::Close, Fate::Substitute),
        (A::Sync, Fate::Forward),
    ]);
    assert_eq!(p.made_up(), None);
    say(&mut p, B::BindComplete);
    assert_eq!(p.made_up().map(|o| o.awaited), Some(A::Parse));
    assert_eq!(p.made_up().map(|o| o.awaited), Some(A::Close));
    assert_eq!(p.made_up(), None);
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn our_own_messages_are_swallowed_with_all_that_they_cause() {
    let mut p = pipeline(&[
        (A::Query, Fate::Swallow),
        (A::Parse, Fate::Swallow),
        (A::Bind, Fate::Forward),
        (A::Execute, Fate::Forward),
        (A::Sync, Fate::Forward),
    ]);
    assert_eq!(say(&mut p, B::ParameterStatus).delivery, Delivery::Swallow);
    assert_eq!(say(&mut p, B::NotificationResponse).delivery, Delivery::Forward);
    assert_eq!(say(&mut p, B::CommandComplete).delivery, Delivery::Swallow);
    assert_eq!(p.ready(TransactionStatus::Idle).map(|r| r.delivery), Ok(Delivery::Swallow));
    assert_eq!(say(&mut p, B::ParseComplete).delivery, Delivery::Swallow);
    assert_eq!(say(&mut p, B::BindComplete).delivery, Delivery::Forward);
    assert_eq!(say(&mut p, B::ParameterStatus).delivery, Delivery::Forward);
}

#[test]
fn an_attempt_of_ours_that_fails_is_told_to_nobody() {
    let mut p = pipeline(&[
        (A::Parse, Fate::Attempt),
        (A::Sync, Fate::Swallow),
        (A::Parse, Fate::Attempt),
        (A::Sync, Fate::Swallow),
        (A::Query, Fate::Forward),
    ]);
    assert_eq!(say(&mut p, B::NoticeResponse).delivery, Delivery::Swallow);
    let mut skipped = Vec::new();
    let failed = p.reply(B::ErrorResponse, |owed| skipped.push(owed.awaited));
    assert_eq!((failed.map(|reply| reply.delivery), skipped), (Ok(Delivery::Swallow), vec![A::Parse]));
    assert_eq!(p.ready(TransactionStatus::Failed).map(|reply| reply.delivery), Ok(Delivery::Swallow));
    assert_eq!(say(&mut p, B::ParseComplete).delivery, Delivery::Swallow);
    assert_eq!(p.ready(TransactionStatus::Idle).map(|reply| reply.delivery), Ok(Delivery::Swallow));
    assert_eq!(say(&mut p, B::CommandComplete).delivery, Delivery::Forward);
}

#[test]
fn an_error_takes_everything_up_to_the_next_sync() {
    let mut p = forward(&[A::Parse, A::Bind, A::Execute, A::Query, A::Sync, A::Parse, A::Sync]);
    say(&mut p, B::ParseComplete);
    let mut skipped = Vec::new();
    let reply = p.reply(B::ErrorResponse, |o| skipped.push(o.awaited)).unwrap();
    assert_eq!(reply.delivery, Delivery::Forward);
    assert_eq!(skipped, [A::Bind, A::Execute, A::Query]);
    assert_eq!(p.made_up(), None);
    ready(&mut p);
    say(&mut p, B::ParseComplete);
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn nothing_is_recorded_between_an_error_and_the_sync_that_ends_it() {
    let mut p = forward(&[A::Parse]);
    say(&mut p, B::ErrorResponse);
    assert!(!p.is_boundary());
    assert!(!p.push(owed(A::Bind, Fate::Forward)));
    assert!(!p.push(owed(A::Query, Fate::Forward)));
    assert!(!p.push(owed(A::Parse, Fate::Substitute)));
    assert_eq!(p.made_up(), None);
    assert!(p.push(owed(A::Sync, Fate::Forward)));
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn an_error_in_a_simple_query_waits_for_its_ready() {
    let mut p = forward(&[A::Query, A::Query]);
    let reply = say(&mut p, B::ErrorResponse);
    assert!(!reply.done);
    ready(&mut p);
    assert_eq!(p.len(), 1);
    say(&mut p, B::CommandComplete);
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn an_error_at_sync_belongs_to_the_sync() {
    let mut p = forward(&[A::Sync]);
    assert_eq!(say(&mut p, B::ErrorResponse).delivery, Delivery::Forward);
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn a_refused_statement_gets_our_error_in_its_place() {
    let mut p = forward(&[A::Bind]);
    assert!(p.push(Owed { awaited: A::Parse, fate: Fate::Refuse, client: CLIENT, note: 3 }));
    assert!(p.push(owed(A::Sync, Fate::Forward)));
    say(&mut p, B::BindComplete);
    assert_eq!(say(&mut p, B::ErrorResponse).delivery, Delivery::Replace(3));
    ready(&mut p);
    assert!(p.is_free());

    let mut succeeded = pipeline(&[(A::Parse, Fate::Refuse)]);
    assert!(succeeded.reply(B::ParseComplete, |_| {}).is_err());
}

#[test]
fn failed_settings_are_never_passed_over() {
    let mut p = pipeline(&[(A::Query, Fate::Swallow), (A::Query, Fate::Forward)]);
    assert_eq!(say(&mut p, B::ErrorResponse).delivery, Delivery::OursFailed);
}

#[test]
fn a_failed_parse_of_ours_is_told_to_the_client() {
    let mut p = pipeline(&[(A::Parse, Fate::Swallow), (A::Bind, Fate::Forward), (A::Sync, Fate::Forward)]);
    assert_eq!(say(&mut p, B::ErrorResponse).delivery, Delivery::Forward);
}

#[test]
fn syncs_during_copy_in_are_ignored_as_the_server_ignores_them() {
    let mut p = forward(&[A::Bind, A::Execute, A::Sync]);
    say(&mut p, B::BindComplete);
    say(&mut p, B::CopyInResponse);
    assert!(p.is_copying_in());
    assert_eq!(p.len(), 1);
    assert!(!p.push(owed(A::Sync, Fate::Forward)));
    assert!(p.copy_data());
    assert!(p.copy_end(CLIENT));
    assert!(p.push(owed(A::Sync, Fate::Forward)));
    say(&mut p, B::CommandComplete);
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn a_copy_that_was_sent_before_the_server_asked_ends_where_the_client_ended_it() {
    let mut p = forward(&[A::Query]);
    assert!(p.copy_data());
    assert!(p.copy_end(CLIENT));
    say(&mut p, B::CopyInResponse);
    assert!(!p.is_copying_in());
    say(&mut p, B::CommandComplete);
    ready(&mut p);
    assert!(p.is_free());

    let mut extended = forward(&[A::Execute, A::Sync]);
    assert!(extended.copy_end(CLIENT));
    assert!(extended.push(owed(A::Sync, Fate::Forward)));
    say(&mut extended, B::CopyInResponse);
    assert_eq!(extended.len(), 2);
    say(&mut extended, B::CommandComplete);
    ready(&mut extended);
    assert!(extended.is_free());
}

#[test]
fn late_copy_rows_have_no_place() {
    let mut p = forward(&[A::Query]);
    say(&mut p, B::CopyInResponse);
    say(&mut p, B::ErrorResponse);
    ready(&mut p);
    assert!(p.is_free());
    assert!(!p.copy_data());
    assert!(!p.copy_end(CLIENT));
    assert!(p.is_free());
}

#[test]
fn a_failed_extended_copy_skips_to_the_clients_next_sync() {
    let mut p = forward(&[A::Execute, A::Sync]);
    say(&mut p, B::CopyInResponse);
    say(&mut p, B::ErrorResponse);
    assert!(!p.is_boundary());
    assert!(p.push(owed(A::Sync, Fate::Forward)));
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn another_message_during_copy_in_fails_the_copy_and_is_lost() {
    let mut p = forward(&[A::Execute, A::Sync]);
    say(&mut p, B::CopyInResponse);
    assert!(!p.push(owed(A::Parse, Fate::Forward)));
    assert!(p.push(owed(A::Sync, Fate::Forward)));
    say(&mut p, B::ErrorResponse);
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn an_error_that_nothing_asked_for_means_the_server_is_leaving() {
    let mut p = Pipeline::new();
    assert_eq!(say(&mut p, B::ErrorResponse).delivery, Delivery::Unasked);
}

#[test]
fn a_marker_of_a_copy_that_never_began_disappears() {
    let mut p = forward(&[A::Query]);
    assert!(p.copy_end(CLIENT));
    say(&mut p, B::CommandComplete);
    ready(&mut p);
    assert_eq!(p.made_up(), None);
    assert!(p.is_free());
}

/// Every reply type against every awaited head: what fits, what is out of turn.
#[test]
fn the_whole_table_of_heads_and_replies() {
    let heads = [
        A::Parse,
        A::Bind,
        A::DescribeStatement,
        A::DescribePortal,
        A::Execute,
        A::Close,
        A::Sync,
        A::Query,
        A::FunctionCall,
    ];
    let any = [B::NoticeResponse, B::ParameterStatus, B::NotificationResponse, B::ErrorResponse];
    let rows = [
        B::DataRow,
        B::CopyData,
        B::CopyDone,
        B::CopyOutResponse,
        B::CopyInResponse,
        B::CopyBothResponse,
        B::CommandComplete,
        B::EmptyQueryResponse,
    ];
    for head in heads {
        let fitting: Vec<Backend> = match head {
            A::Parse => vec![B::ParseComplete],
            A::Bind => vec![B::BindComplete],
            A::DescribeStatement => vec![B::ParameterDescription, B::RowDescription, B::NoData],
            A::DescribePortal => vec![B::RowDescription, B::NoData],
            A::Execute => [&rows[..], &[B::PortalSuspended]].concat(),
            A::Close => vec![B::CloseComplete],
            A::Query => [&rows[..], &[B::RowDescription]].concat(),
            A::FunctionCall => vec![B::FunctionCallResponse],
            A::Sync | A::CopyEnd => vec![],
        };
        for tag in B::ALL {
            if *tag == B::ReadyForQuery {
                let fits = forward(&[head]).ready(TransactionStatus::Idle).is_ok();
                assert_eq!(fits, matches!(head, A::Sync | A::Query | A::FunctionCall), "{head:?} {tag:?}");
                continue;
            }
            let fits = forward(&[head]).reply(*tag, |_| {}).is_ok();
            assert_eq!(fits, fitting.contains(tag) || any.contains(tag), "{head:?} {tag:?}");
        }
    }
    for tag in B::ALL {
        let fits = Pipeline::new().reply(*tag, |_| {}).is_ok();
        assert_eq!(fits, any.contains(tag), "nothing owed, {tag:?}");
    }
    assert!(Pipeline::new().ready(TransactionStatus::Idle).is_err());
}

#[test]
fn a_request_without_its_sync_is_no_boundary_even_when_all_is_answered() {
    let mut p = forward(&[A::Parse, A::DescribeStatement]);
    say(&mut p, B::ParseComplete);
    say(&mut p, B::ParameterDescription);
    say(&mut p, B::NoData);
    assert!(p.is_empty() && !p.is_boundary());
    assert!(p.push(owed(A::Sync, Fate::Forward)));
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn a_simple_copy_is_over_with_its_ready_whatever_was_ignored_in_it() {
    let mut p = forward(&[A::Query]);
    say(&mut p, B::CopyInResponse);
    assert!(!p.push(owed(A::Sync, Fate::Forward)));
    assert!(p.copy_end(CLIENT));
    say(&mut p, B::CommandComplete);
    ready(&mut p);
    assert!(p.is_free());
}

#[test]
fn a_long_queue_gives_its_room_back_and_none_of_its_entries() {
    let mut p = forward(&vec![A::Query; 10_000]);
    p.trim(64);
    assert_eq!(p.len(), 10_000);
    for _ in 0..10_000 {
        ready(&mut p);
    }
    assert!(p.queue.capacity() >= 10_000);
    p.trim(64);
    assert!(p.queue.capacity() < 200 && p.is_free());
}

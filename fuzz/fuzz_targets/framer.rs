//! Anything that a client or a server may send after login, walked as the proxy walks it: by heads, into the few messages
//! that it reads, and through the queue of replies. No panic, nothing read past a message, a queue that stays bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::error::ErrorFields;
use wire::frame;
use wire::pipeline::{Awaited, Fate, Owed, Pipeline};
use wire::tag::{Backend, Frontend, Target};
use wire::view::{self, Bind, Columns, Execute, Named, Parse};

// Each input is a list of turns: a byte whose lowest bit says who speaks, two bytes of length, and what is said.
fuzz_target!(|bytes: &[u8]| {
    let mut pipeline = Pipeline::new();
    let mut sent = 0;
    let mut rest = bytes;
    while let Some((&[who, high, low], behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(behind.len());
        let (said, behind) = behind.split_at(length);
        rest = behind;
        let went_on = if who & 1 == 0 {
            from_client(said, who, &mut pipeline, &mut sent)
        } else {
            from_server(said, &mut pipeline)
        };
        assert!(pipeline.len() <= sent, "nothing is owed that was not asked for");
        assert!(!pipeline.is_free() || pipeline.is_boundary());
        if went_on.is_none() {
            // Here the proxy closes the connection.
            return;
        }
    }
});

fn from_client(mut said: &[u8], who: u8, pipeline: &mut Pipeline, sent: &mut usize) -> Option<()> {
    while let Some(message) = frame::next(&mut said, frame::MAX_BODY).ok()? {
        let body = message.body();
        let awaited = match Frontend::from_byte(message.tag)? {
            Frontend::Query => {
                assert!(view::query(body).ok()?.len() < body.len());
                Awaited::Query
            }
            Frontend::Parse => {
                let parse = Parse::read(body).ok()?;
                assert!(parse.statement.len() + parse.query.len() + parse.types.len() + 2 == body.len());
                _ = view::parameter_types(parse.types).map(Iterator::count);
                Awaited::Parse
            }
            Frontend::Bind => {
                let bind = Bind::read(body).ok()?;
                if let Ok(parameters) = bind.parameters() {
                    let size: usize =
                        parameters.map_while(Result::ok).map(|one| one.value.map_or(0, <[u8]>::len)).sum();
                    assert!(size <= body.len());
                }
                _ = bind.wants_binary();
                Awaited::Bind
            }
            Frontend::Describe if Named::read(body).ok()?.target == Target::Portal => Awaited::DescribePortal,
            Frontend::Describe => Awaited::DescribeStatement,
            Frontend::Close => Named::read(body).map(|_| Awaited::Close).ok()?,
            Frontend::Execute => Execute::read(body).map(|_| Awaited::Execute).ok()?,
            Frontend::FunctionCall => {
                _ = view::function(body);
                Awaited::FunctionCall
            }
            Frontend::Sync => Awaited::Sync,
            Frontend::CopyDone | Frontend::CopyFail => {
                *sent += usize::from(pipeline.copy_end(1));
                continue;
            }
            Frontend::CopyData | Frontend::Flush => continue,
            Frontend::Terminate | Frontend::Password => return None,
        };
        let fate = match (who >> 1) & 7 {
            1 if awaited == Awaited::Query => Fate::Swallow,
            5 if awaited == Awaited::Parse => Fate::Attempt,
            2 | 3 if matches!(awaited, Awaited::Parse | Awaited::Close) => Fate::Substitute,
            4 if matches!(awaited, Awaited::Parse | Awaited::Query) => Fate::Refuse,
            _ => Fate::Forward,
        };
        *sent += 1;
        pipeline.push(Owed { awaited, fate, client: 1, note: 0 });
        while pipeline.made_up().is_some() {}
    }
    Some(())
}

fn from_server(mut said: &[u8], pipeline: &mut Pipeline) -> Option<()> {
    while let Some(message) = frame::next(&mut said, frame::MAX_BODY).ok()? {
        let (tag, body) = (Backend::from_byte(message.tag)?, message.body());
        let before = pipeline.len();
        let mut skipped = 0;
        match tag {
            Backend::ReadyForQuery => _ = pipeline.ready(view::ready(body).ok()?).ok()?,
            _ => _ = pipeline.reply(tag, |_| skipped += 1).ok()?,
        }
        assert!(pipeline.len() + skipped <= before, "a reply adds nothing to the queue");
        match tag {
            Backend::ErrorResponse => {
                let fields = ErrorFields::new(body);
                // Where there is none it is told to be an error.
                assert!(fields.severity().len() <= body.len().max(b"ERROR".len()));
                _ = fields.sqlstate();
            }
            Backend::CommandComplete => _ = view::rows_of_tag(view::command_tag(body).ok()?),
            Backend::RowDescription => _ = Columns::read(body).map(|columns| columns.map_while(Result::ok).count()),
            Backend::ParameterDescription => _ = view::parameter_types(body).map(Iterator::count),
            _ => {}
        }
        while pipeline.made_up().is_some() {}
    }
    Some(())
}

//! One connection to the console: the protocol, simple and extended.

mod extended;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use policy::verdict::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::encode::{Report, backend as say};
use wire::tag::{Frontend, TransactionStatus};
use wire::view::{self, Bind, Execute, Malformed, Named, Parse};

use super::act::{Done, notice};
use super::command::{Command, commands, error};
use super::protocol::{MAX_MESSAGE, Message, broken, complete, describe, next, row};
use super::table::{Column, Kind, What, lone, shows};
use super::value::{Rows, text};
use super::{Console, Seat};
use crate::stream::Stream;
use crate::trouble::Trouble;

/// Bytes that are gathered before they are sent: results are made as they are taken.
const FLUSH: usize = 32 * 1024;
/// Bytes that are read while a command waits.
const MAX_EARLY: usize = 2 * MAX_MESSAGE;
/// How long one piece of a result may take to be taken.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a conversation ends.
enum End {
    /// The other side has gone, or takes nothing.
    Gone,
    /// With these words.
    Told(Box<Report>),
}

/// A prepared statement: one command, or none.
type Statement = Option<Rc<Command>>;

/// A portal.
struct Portal {
    statement: Statement,
    /// Which columns are asked for in binary.
    binary: Vec<bool>,
    state: State,
}

/// How far a portal has been run.
enum State {
    Fresh,
    /// These rows are still to come.
    Open(Rows),
    Over,
}

/// What running a command gives.
enum Answer {
    Rows(Rows),
    Done {
        notice: Option<Report>,
        tag: &'static str,
    },
    /// Nothing, until the process ends.
    AtTheEnd,
}

/// Connections that are before their login now.
pub(super) type Logins = Rc<dyn Fn() -> usize>;

struct Conversation {
    console: Rc<Console>,
    seat: Seat,
    stream: Stream,
    logins: Logins,
    input: Vec<u8>,
    out: Vec<u8>,
    /// So much of `out` has been sent.
    sent: usize,
    statements: HashMap<Box<[u8]>, Statement>,
    portals: HashMap<Box<[u8]>, Portal>,
    /// After an error in the extended protocol: until Sync.
    skips: bool,
}

/// Begins the conversation with somebody who was told that they are in; `early`: what they have said since.
pub fn begin(seat: Seat, stream: Stream, early: Vec<u8>, logins: Logins) {
    let conversation = Conversation {
        console: seat.console.clone(),
        seat,
        stream,
        logins,
        input: early,
        out: Vec::new(),
        sent: 0,
        statements: HashMap::new(),
        portals: HashMap::new(),
        skips: false,
    };
    drop(tokio::task::spawn_local(conversation.run()));
}

impl Conversation {
    async fn run(mut self) {
        let visitor = self.seat.visitor.clone();
        let mut over = self.console.over.subscribe();
        let end = tokio::select! {
            biased;
            () = visitor.killed.notified() => refused(Refusal::Killed),
            _ = over.wait_for(|over| *over) => refused(Refusal::ShuttingDown),
            end = self.serve() => end,
        };
        if let End::Told(report) = end {
            say::error_response(&mut self.out, &report);
        }
        let farewell = async {
            drop(self.flush().await);
            self.stream.shutdown().await
        };
        drop(tokio::time::timeout(LAST_WORDS, farewell).await);
    }

    async fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    /// Answers what is there, then waits for more.
    async fn turn(&mut self) -> Result<(), End> {
        while let Some(message) = next(&mut self.input).map_err(told)? {
            self.answer(message).await?;
            if self.out.len() >= FLUSH {
                self.flush().await?;
            }
        }
        self.flush().await?;
        self.seat.visitor.state.set((false, self.console.now_us()));
        read_more(&mut self.stream, &mut self.input, &self.console).await?;
        self.seat.visitor.state.set((true, self.console.now_us()));
        Ok(())
    }

    async fn answer(&mut self, Message { tag, body }: Message) -> Result<(), End> {
        let ends = matches!(tag, Frontend::Terminate | Frontend::Sync);
        if self.skips && !ends {
            return Ok(());
        }
        let answered = match tag {
            Frontend::Terminate => return Err(End::Gone),
            Frontend::Query => return self.query(view::query(&body).map_err(malformed)?).await,
            Frontend::Sync => {
                self.skips = false;
                self.portals.clear();
                self.ready();
                return Ok(());
            }
            Frontend::FunctionCall => {
                say::error_response(&mut self.out, &error(b"0A000", "the console has no functions").hint(HELP));
                self.ready();
                return Ok(());
            }
            // As a server takes them outside of a copy.
            Frontend::CopyData | Frontend::CopyDone | Frontend::CopyFail | Frontend::Flush => {
                return if tag == Frontend::Flush { self.flush().await } else { Ok(()) };
            }
            Frontend::Password => return Err(told(broken("a password was sent where none is asked for"))),
            Frontend::Parse => self.parse(&Parse::read(&body).map_err(malformed)?),
            Frontend::Bind => self.bind(&Bind::read(&body).map_err(malformed)?)?,
            Frontend::Describe => self.describe(&Named::read(&body).map_err(malformed)?),
            Frontend::Close => {
                self.close(&Named::read(&body).map_err(malformed)?);
                Ok(())
            }
            Frontend::Execute => self.execute(&Execute::read(&body).map_err(malformed)?).await?,
        };
        if let Err(report) = answered {
            say::error_response(&mut self.out, &report);
            self.skips = true;
        }
        Ok(())
    }

    fn ready(&mut self) {
        say::ready_for_query(&mut self.out, TransactionStatus::Idle);
    }

    /// A text with any number of commands; an error ends it.
    async fn query(&mut self, text: &[u8]) -> Result<(), End> {
        self.portals.clear();
        self.statements.remove(&b""[..]);
        let answered = match read(text) {
            Ok(all) if all.is_empty() => {
                say::empty_query_response(&mut self.out);
                Ok(())
            }
            Ok(all) => self.run_all(all).await?,
            Err(report) => Err(report),
        };
        if let Err(report) = answered {
            say::error_response(&mut self.out, &report);
        }
        self.ready();
        Ok(())
    }

    async fn run_all(&mut self, all: Vec<Command>) -> Result<Result<(), Report>, End> {
        for command in all {
            let columns = command.columns();
            let rows = match self.run_one(&command).await? {
                Ok(Answer::Rows(rows)) => rows,
                Ok(answer) => {
                    if let Err(report) = self.finish(answer).await? {
                        return Ok(Err(report));
                    }
                    continue;
                }
                Err(report) => return Ok(Err(report)),
            };
            let begun = describe(&mut self.out, &columns, &[]);
            let done = match begun {
                Ok(()) => self.send(rows, &columns, &[], None).await?.map(drop),
                Err(report) => Err(report),
            };
            if let Err(report) = done.and_then(|()| complete(&mut self.out, command.tag())) {
                return Ok(Err(report));
            }
        }
        Ok(Ok(()))
    }

    /// Sends rows, at most `limit`; returns what is left.
    async fn send(
        &mut self,
        mut rows: Rows,
        columns: &[Column],
        binary: &[bool],
        limit: Option<usize>,
    ) -> Result<Result<Option<Rows>, Report>, End> {
        let mut left = limit.unwrap_or(usize::MAX);
        while left > 0 {
            let Some(values) = rows.next() else { return Ok(Ok(None)) };
            if let Err(report) = row(&mut self.out, columns, binary, &values) {
                return Ok(Err(report));
            }
            left -= 1;
            if self.out.len() >= FLUSH {
                self.flush().await?;
            }
        }
        Ok(Ok(Some(rows)))
    }

    async fn finish(&mut self, answer: Answer) -> Result<Result<(), Report>, End> {
        match answer {
            Answer::Done { notice, tag } => {
                if let Some(notice) = notice {
                    say::notice_response(&mut self.out, &notice);
                }
                Ok(complete(&mut self.out, tag))
            }
            Answer::Rows(_) => Ok(Ok(())),
            Answer::AtTheEnd => {
                self.flush().await?;
                // Ended by the end of the process.
                std::future::pending().await
            }
        }
    }

    /// Runs a command; a cancel, or the client's leaving, ends the wait for it.
    async fn run_one(&mut self, command: &Command) -> Result<Result<Answer, Report>, End> {
        let (console, visitor) = (self.console.clone(), self.seat.visitor.clone());
        let (began, logins) = (Instant::now(), (self.logins)());
        let work = async {
            if let Command::Show(show, _) = command
                && show.what.is_for_admins()
            {
                console.admits(&visitor, &format!("SHOW {}", show.name))?;
            }
            Ok(match command {
                Command::Show(show, _) if show.what == What::Help => {
                    Answer::Done { notice: Some(usage()), tag: command.tag() }
                }
                Command::Show(show, most) => Answer::Rows(console.rows(show.what, *most, logins).await?),
                Command::Setting(_, value) => Answer::Rows(Box::new(std::iter::once(vec![text(value)]))),
                Command::One => Answer::Rows(Box::new(std::iter::once(vec![1u64.into()]))),
                Command::SetSession => Answer::Done { notice: None, tag: command.tag() },
                Command::Nothing(tag) => Answer::Done { notice: None, tag },
                Command::Set(key, value) => done(console.set(key, value, &visitor)?),
                Command::Act(action) => done(console.act(action.clone(), &visitor).await?),
            })
        };
        let answer = self.attend(work).await?;
        self.console.count(|figures| {
            let [_, transactions, statements, _, _, transaction_us, statement_us, ..] = &mut figures.0;
            let took_us = began.elapsed().as_micros() as u64;
            (*transactions, *statements) = (*transactions + 1, *statements + 1);
            (*transaction_us, *statement_us) = (*transaction_us + took_us, *statement_us + took_us);
        });
        Ok(answer)
    }

    /// Waits for this, and hears meanwhile that the client gives up or goes.
    async fn attend<T>(&mut self, work: impl Future<Output = Result<T, Report>>) -> Result<Result<T, Report>, End> {
        let visitor = self.seat.visitor.clone();
        let mut work = std::pin::pin!(work);
        // Most is done at once.
        if let std::task::Poll::Ready(done) =
            std::future::poll_fn(|cx| std::task::Poll::Ready(work.as_mut().poll(cx))).await
        {
            return Ok(done);
        }
        self.flush().await?;
        loop {
            let has_room = self.input.len() < MAX_EARLY;
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = visitor.cancelled.notified() => return Ok(Err(cancelled())),
                read = read_more(&mut self.stream, &mut self.input, &self.console), if has_room => read?,
            }
        }
    }

    /// Sends what is there. Where it was given up, the next one goes on.
    async fn flush(&mut self) -> Result<(), End> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let written = tokio::time::timeout(PATIENCE, self.stream.write(rest)).await;
            match written {
                Ok(Ok(count)) if count > 0 => self.sent += count,
                _ => return Err(End::Gone),
            }
        }
        self.console.count(|figures| figures.0[4] += self.sent as u64);
        self.sent = 0;
        self.out.clear();
        self.out.shrink_to(FLUSH);
        Ok(())
    }
}

async fn read_more(stream: &mut Stream, input: &mut Vec<u8>, console: &Console) -> Result<(), End> {
    match stream.read_buf(input).await {
        Ok(count) if count > 0 => {
            console.count(|figures| figures.0[3] += count as u64);
            Ok(())
        }
        _ => Err(End::Gone),
    }
}

/// The commands of a text that a client has sent.
fn read(text: &[u8]) -> Result<Vec<Command>, Report> {
    let text = std::str::from_utf8(text).map_err(|_| error(b"22021", "invalid byte sequence for encoding \"UTF8\""))?;
    commands(text)
}

fn done(done: Done) -> Answer {
    match done {
        Done::Tag(tag, notice) => Answer::Done { notice, tag },
        Done::AtTheEnd => Answer::AtTheEnd,
    }
}

fn told(report: Report) -> End {
    End::Told(Box::new(report))
}

fn refused(refusal: Refusal) -> End {
    told(Trouble::from(refusal).report(true))
}

fn malformed(what: Malformed) -> End {
    told(broken(what.to_string()))
}

fn cancelled() -> Report {
    error(b"57014", "canceling statement due to user request")
        .detail("The wait is given up. What the command has begun is not taken back.")
        .hint("RESUME ends a pause.")
}

const HELP: &str = "SHOW HELP lists the commands.";

/// What HELP says, laid out as PgBouncer does.
fn usage() -> Report {
    let mut detail = String::new();
    let names = |standard: bool| -> Vec<&'static str> {
        shows().filter(|show| show.what.is_standard() == standard).map(|show| show.name).collect()
    };
    for names in names(true).chunks(8).chain(names(false).chunks(8)) {
        detail.push_str(&format!("\n\tSHOW {}", names.join("|")));
    }
    for verb in super::command::VERBS {
        detail.push_str(&format!("\n\t{}", verb.usage));
    }
    notice("Console usage").detail(detail)
}

impl Command {
    /// The columns of its result; none: it has no rows.
    fn columns(&self) -> Vec<Column> {
        match self {
            Self::Show(show, _) => show.columns.to_vec(),
            Self::Setting(name, _) => vec![lone(name, Kind::Text)],
            Self::One => vec![lone("?column?", Kind::Int4)],
            Self::Set(..) | Self::SetSession | Self::Nothing(_) | Self::Act(_) => Vec::new(),
        }
    }

    /// Its command tag, where running it gives no other.
    fn tag(&self) -> &'static str {
        match self {
            Self::Show(..) | Self::Setting(..) => "SHOW",
            Self::One => "SELECT 1",
            Self::Set(..) | Self::SetSession => "SET",
            Self::Nothing(tag) => tag,
            Self::Act(action) => action.tag(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_everything_and_is_not_cut() {
        let said = usage().detail.unwrap();
        assert!(said.len() < wire::encode::MAX_REPORT_FIELD, "{} bytes", said.len());
        assert!(shows().all(|show| said.contains(show.name)));
        assert!(super::super::command::VERBS.iter().all(|verb| said.contains(verb.usage)));
    }
}

//! The extended protocol: statements, portals, and their rows in pieces.

use std::rc::Rc;

use wire::encode::{Report, backend as say};
use wire::tag::Target;
use wire::view::{Bind, Execute, Named, Parse};

use super::super::command::error;
use super::super::protocol::{complete, describe};
use super::{Answer, Conversation, End, Portal, State, malformed, read};

/// Statements, and portals, that one connection may have.
const MAX_NAMED: usize = 64;

impl Conversation {
    pub(super) fn parse(&mut self, parse: &Parse<'_>) -> Result<(), Report> {
        let mut all = read(parse.query)?;
        let statement = all.pop().map(Rc::new);
        if !all.is_empty() {
            return Err(error(b"42601", "cannot insert multiple commands into a prepared statement"));
        }
        if !parse.statement.is_empty() {
            let shown = String::from_utf8_lossy(parse.statement);
            if self.statements.contains_key(parse.statement) {
                return Err(error(b"42P05", format!("prepared statement \"{shown}\" already exists")));
            }
            if self.statements.len() >= MAX_NAMED {
                return Err(error(b"54000", "too many prepared statements")
                    .detail(format!("A connection to the console may have {MAX_NAMED}.")));
            }
        }
        self.statements.insert(parse.statement.into(), statement);
        say::parse_complete(&mut self.out);
        Ok(())
    }

    pub(super) fn bind(&mut self, bind: &Bind<'_>) -> Result<Result<(), Report>, End> {
        let (parameters, formats) = (bind.parameters().map_err(malformed)?, bind.result_formats().map_err(malformed)?);
        let Some(statement) = self.statements.get(bind.statement) else {
            return Ok(Err(no_statement(bind.statement)));
        };
        let columns = statement.as_ref().map_or(0, |command| command.columns().len());
        let asked: Vec<i16> = (0..columns).map(|column| formats.of(column)).collect();
        let wrong = match () {
            () if !parameters.is_empty() => Some(error(
                b"08P01",
                format!("bind message supplies {} parameters, but commands of the console take none", parameters.len()),
            )),
            () if formats.len() > 1 && formats.len() != columns => Some(error(
                b"08P01",
                format!("bind message has {} result formats but query has {columns} columns", formats.len()),
            )),
            () if asked.iter().any(|format| !matches!(format, 0 | 1)) => {
                Some(error(b"22023", "unsupported format code"))
            }
            () if !bind.portal.is_empty() && self.portals.contains_key(bind.portal) => {
                let shown = String::from_utf8_lossy(bind.portal);
                Some(error(b"42P03", format!("portal \"{shown}\" already exists")))
            }
            () if self.portals.len() >= MAX_NAMED => Some(error(b"54000", "too many portals")),
            () => None,
        };
        if let Some(report) = wrong {
            return Ok(Err(report));
        }
        let binary = asked.iter().map(|format| *format == 1).collect();
        let portal = Portal { statement: statement.clone(), binary, state: State::Fresh };
        self.portals.insert(bind.portal.into(), portal);
        say::bind_complete(&mut self.out);
        Ok(Ok(()))
    }

    pub(super) fn describe(&mut self, named: &Named<'_>) -> Result<(), Report> {
        let (statement, binary) = match named.target {
            Target::Statement => {
                let statement = self.statements.get(named.name).ok_or_else(|| no_statement(named.name))?;
                say::no_parameters(&mut self.out);
                (statement, &[][..])
            }
            Target::Portal => {
                let portal = self.portals.get(named.name).ok_or_else(|| no_portal(named.name))?;
                (&portal.statement, portal.binary.as_slice())
            }
        };
        let columns = statement.as_ref().map(|command| command.columns()).unwrap_or_default();
        describe(&mut self.out, &columns, binary)
    }

    /// What is not there is closed already.
    pub(super) fn close(&mut self, named: &Named<'_>) {
        match named.target {
            Target::Statement => drop(self.statements.remove(named.name)),
            Target::Portal => drop(self.portals.remove(named.name)),
        }
        say::close_complete(&mut self.out);
    }

    pub(super) async fn execute(&mut self, execute: &Execute<'_>) -> Result<Result<(), Report>, End> {
        let Some(mut portal) = self.portals.remove(execute.portal) else {
            return Ok(Err(no_portal(execute.portal)));
        };
        let Some(command) = portal.statement.clone() else {
            self.portals.insert(execute.portal.into(), portal);
            say::empty_query_response(&mut self.out);
            return Ok(Ok(()));
        };
        let rows = match std::mem::replace(&mut portal.state, State::Over) {
            State::Open(rows) => rows,
            State::Over => {
                let shown = String::from_utf8_lossy(execute.portal);
                return Ok(Err(error(b"55000", format!("portal \"{shown}\" cannot be run"))));
            }
            State::Fresh => match self.run_one(&command).await? {
                Ok(Answer::Rows(rows)) => rows,
                Ok(answer) => {
                    let done = self.finish(answer).await?;
                    self.portals.insert(execute.portal.into(), portal);
                    return Ok(done);
                }
                Err(report) => return Ok(Err(report)),
            },
        };
        let limit = usize::try_from(execute.limit).ok().filter(|limit| *limit > 0);
        let left = match self.send(rows, &command.columns(), &portal.binary, limit).await? {
            Ok(left) => left,
            Err(report) => return Ok(Err(report)),
        };
        let done = match left {
            Some(rows) => {
                portal.state = State::Open(rows);
                say::portal_suspended(&mut self.out);
                Ok(())
            }
            None => complete(&mut self.out, command.tag()),
        };
        self.portals.insert(execute.portal.into(), portal);
        Ok(done)
    }
}

fn no_statement(name: &[u8]) -> Report {
    error(b"26000", format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name)))
}

fn no_portal(name: &[u8]) -> Report {
    error(b"34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)))
}

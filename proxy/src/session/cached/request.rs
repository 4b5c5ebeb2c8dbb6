//! The first request in what a client has sent, as far as the cache understands it.

use policy::cache::{Bypass, Execution, Parameter, means_a_moment};
use wire::frame;
use wire::tag::{Frontend, Target};
use wire::view::{self, Bind, Execute, Named, Parse};

use super::few::Few;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// A Query.
    Query(&'a [u8]),
    /// An unnamed statement is prepared and executed.
    Parsed(Parse<'a>, Bind<'a>),
    /// A statement that was prepared before is executed.
    Bound(Bind<'a>),
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// What is asked for.
    pub asked: Asked<'a>,
    /// How.
    pub execution: Execution,
    /// With a Describe of the portal.
    pub described: bool,
    /// How many bytes it has.
    pub bytes: usize,
}

/// Parameters and result formats of a Bind.
type Bound<'a> = (Few<Parameter<'a>>, Few<i16>);

impl<'a> Request<'a> {
    /// Reads the first request. `None`: it is one that the cache has nothing to do with, or not whole.
    pub(super) fn read(whole: &'a [u8]) -> Option<Self> {
        let (mut parse, mut bind) = (None, None);
        let (mut described, mut at) = (false, 0);
        let mut execution = Execution::default();
        loop {
            let rest = whole.get(at..)?;
            let head = frame::head(rest).ok()??;
            let body = rest.get(frame::HEAD..head.total())?;
            let first = at == 0;
            at += head.total();
            match Frontend::from_byte(head.tag)? {
                Frontend::Query if first => {
                    let asked = Asked::Query(view::query(body).ok()?);
                    let execution = Execution { executes: 1, ..Execution::default() };
                    return Some(Self { asked, execution, described: false, bytes: at });
                }
                Frontend::Parse if first => {
                    let read = Parse::read(body).ok()?;
                    parse = Some(read).filter(|parse| parse.statement.is_empty());
                    parse?;
                }
                Frontend::Bind if bind.is_none() => {
                    let read = Bind::read(body).ok()?;
                    // Of another statement than the one that is prepared beside it.
                    if (parse.is_some() && !read.statement.is_empty()) || !read.portal.is_empty() {
                        return None;
                    }
                    bind = Some(read);
                }
                Frontend::Describe if bind.is_some() && !described && execution.executes == 0 => {
                    let named = Named::read(body).ok()?;
                    if named.target != Target::Portal || !named.name.is_empty() {
                        return None;
                    }
                    described = true;
                }
                Frontend::Execute if bind.is_some() => {
                    let execute = Execute::read(body).ok()?;
                    execution.executes += 1;
                    execution.row_limited |= execute.limit != 0 || !execute.portal.is_empty();
                }
                // More stands before the Sync: whatever it is, one answer is not all that is asked for.
                Frontend::Parse | Frontend::Bind | Frontend::Describe | Frontend::Close if execution.executes > 0 => {
                    execution.executes += 1;
                }
                Frontend::Sync => {
                    let bind = bind?;
                    let asked = parse.map_or(Asked::Bound(bind), |parse| Asked::Parsed(parse, bind));
                    return Some(Self { asked, execution, described, bytes: at });
                }
                Frontend::Flush if execution.executes > 0 => {
                    let bind = bind?;
                    let asked = parse.map_or(Asked::Bound(bind), |parse| Asked::Parsed(parse, bind));
                    execution.flush = true;
                    return Some(Self { asked, execution, described, bytes: at });
                }
                _ => return None,
            }
        }
    }

    /// What is bound.
    ///
    /// # Errors
    /// Why it is not cached.
    pub(super) fn bound(&self) -> Result<Bound<'a>, Bypass> {
        let bind = match self.asked {
            Asked::Query(_) => return Ok(Bound::default()),
            Asked::Parsed(_, bind) | Asked::Bound(bind) => bind,
        };
        let mut parameters = Few::default();
        for parameter in bind.parameters().map_err(|_| Bypass::Unreadable)? {
            let parameter = parameter.map_err(|_| Bypass::Unreadable)?;
            // In either format: a text has the same bytes in both.
            if parameter.value.is_some_and(means_a_moment) {
                return Err(Bypass::TimeParameter);
            }
            parameters.push(Parameter { format: parameter.format, value: parameter.value });
        }
        let formats = bind.result_formats().map_err(|_| Bypass::Unreadable)?;
        // As they were sent: one for all is another reply than none.
        let mut sent = Few::default();
        (0..formats.len()).for_each(|column| sent.push(formats.of(column)));
        Ok((parameters, sent))
    }

    /// The parameters as they came, for whoever looks at executions.
    pub(super) fn sample(&self) -> &'a [u8] {
        match self.asked {
            Asked::Query(_) => &[],
            Asked::Parsed(_, bind) | Asked::Bound(bind) => bind.rest,
        }
    }

    /// Whether every column of the result is in binary format.
    pub(super) fn binary(&self) -> bool {
        match self.asked {
            Asked::Query(_) => false,
            Asked::Parsed(_, bind) | Asked::Bound(bind) => bind.wants_binary().unwrap_or(false),
        }
    }
}

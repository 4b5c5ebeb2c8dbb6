//! Bind: which statement, with which values, and in which formats.

use std::ops::Range;

use super::{Malformed, int16, text, value};

/// Bind: the names, and the rest as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Destination portal; empty: unnamed.
    pub portal: &'a [u8],
    /// The client's name for the statement; empty: unnamed.
    pub statement: &'a [u8],
    /// Parameter formats, values and result formats, possibly cut short (see [`Bind::parameters`]).
    pub rest: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads the head of a Bind; its values may still be on their way.
    #[inline]
    pub fn read(mut body: &'a [u8]) -> Result<Self, Malformed> {
        let portal = text(&mut body, "Bind without a portal name")?;
        let statement = text(&mut body, "Bind without a statement name")?;
        Ok(Self { portal, statement, rest: body })
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> Result<Parameters<'a>, Malformed> {
        Parameters::read(self.rest)
    }

    /// Where the value of `$number` stands in [`Bind::rest`], and its format; `None`: there is no such parameter, or it is
    /// NULL. Fails where the values before it are cut short.
    pub fn place_of(&self, number: u16) -> Result<Option<(Range<usize>, i16)>, Malformed> {
        let mut parameters = self.parameters()?;
        for at in 1..=number {
            let Some(parameter) = parameters.next() else { return Ok(None) };
            let Parameter { format, value } = parameter?;
            if at == number {
                let end = self.rest.len() - parameters.values.len();
                return Ok(value.map(|value| (end - value.len()..end, format)));
            }
        }
        Ok(None)
    }

    /// Whether every column of the result is asked for in binary format. Fails where the values are cut short.
    pub fn wants_binary(&self) -> Result<bool, Malformed> {
        let ResultFormats(formats) = self.result_formats()?;
        Ok(!formats.is_empty() && formats.chunks(2).all(|format| format == [0, 1]))
    }

    /// The formats that the columns of the result are asked for in. Fails where the values are cut short.
    pub fn result_formats(&self) -> Result<ResultFormats<'a>, Malformed> {
        let mut parameters = self.parameters()?;
        for parameter in parameters.by_ref() {
            parameter?;
        }
        let mut formats = parameters.values;
        int16(&mut formats, "Bind without result formats")?;
        Ok(ResultFormats(formats))
    }
}

/// The result formats of a Bind, two bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultFormats<'a>(&'a [u8]);

impl ResultFormats<'_> {
    /// How many there are. None: everything is text. One: it stands for all columns.
    pub fn len(&self) -> usize {
        self.0.len() / 2
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That of a column, counted from 0: 0 text, 1 binary.
    pub fn of(&self, column: usize) -> i16 {
        format_at(self.0, column)
    }
}

/// One code stands for all, none means text.
fn format_at(formats: &[u8], index: usize) -> i16 {
    let at = if formats.len() == 2 { 0 } else { index.saturating_mul(2) };
    match formats.get(at..at.saturating_add(2)) {
        Some(&[a, b]) => i16::from_be_bytes([a, b]),
        _ => 0,
    }
}

/// The parameter section of a Bind.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    formats: &'a [u8],
    values: &'a [u8],
    left: u16,
    next: usize,
}

impl<'a> Parameters<'a> {
    /// Reads the section that begins with the format codes.
    pub fn read(mut rest: &'a [u8]) -> Result<Self, Malformed> {
        let what = "Bind with a broken parameter section";
        let count = int16(&mut rest, what)?;
        let size = usize::try_from(count).map_err(|_| Malformed(what))? * 2;
        let (formats, mut values) = rest.split_at_checked(size).ok_or(Malformed(what))?;
        let left = int16(&mut values, what)? as u16;
        Ok(Self { formats, values, left, next: 0 })
    }

    /// How many parameters are left.
    pub fn len(&self) -> usize {
        usize::from(self.left)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

/// One bound parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// 0 text, 1 binary.
    pub format: i16,
    /// The value; `None`: NULL.
    pub value: Option<&'a [u8]>,
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<Parameter<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let format = format_at(self.formats, self.next);
        self.next += 1;
        let read = value(&mut self.values, "Bind with a broken value");
        if read.is_err() {
            self.left = 0;
        }
        Some(read.map(|value| Parameter { format, value }))
    }
}

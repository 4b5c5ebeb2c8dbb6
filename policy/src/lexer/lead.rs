//! What the first byte of a token says about it.

use super::{Kind, Nature, Step, Word};

/// What a byte may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Lead {
    Space,
    Letter,
    Digit,
    Dollar,
    Comma,
    Open,
    Close,
    Minus,
    Operator,
    Dot,
    Colon,
    Quote,
    DoubleQuote,
    Semicolon,
    Other,
}

const LEADS: [Lead; 256] = {
    let mut table = [Lead::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            table[byte] = lead(byte as u8);
        }
        byte += 1;
    }
    table
};

/// What `byte` says.
#[inline(always)]
pub(super) fn lead_of(byte: u8) -> Lead {
    LEADS.get(usize::from(byte)).copied().unwrap_or(Lead::Other)
}

const fn lead(byte: u8) -> Lead {
    match byte {
        b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Lead::Space,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Lead::Letter,
        b'0'..=b'9' => Lead::Digit,
        b'$' => Lead::Dollar,
        b',' => Lead::Comma,
        b'(' | b'[' => Lead::Open,
        b')' | b']' => Lead::Close,
        b'-' => Lead::Minus,
        b'.' => Lead::Dot,
        b':' => Lead::Colon,
        b'\'' => Lead::Quote,
        b'"' => Lead::DoubleQuote,
        b';' => Lead::Semicolon,
        _ if is_operator(byte) => Lead::Operator,
        _ => Lead::Other,
    }
}

/// Whether operators are made of this byte.
pub(super) const fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

impl Lead {
    /// Whether it is a token of one byte, given what comes `next`: a single mark, or an operator that nothing continues.
    const fn stands_alone(self, next: Self) -> bool {
        match self {
            Self::Comma | Self::Open | Self::Close | Self::Semicolon | Self::Other => true,
            Self::Minus | Self::Operator => !matches!(next, Self::Minus | Self::Operator),
            Self::Dot => !matches!(next, Self::Digit | Self::Dot),
            _ => false,
        }
    }

    /// What a token is that begins so and is nothing special.
    const fn nature(self) -> Nature {
        let (kind, step) = match self {
            Self::Letter => (Kind::Word, Step::Plain),
            Self::Digit => (Kind::Number, Step::Constant),
            Self::Dollar => (Kind::Parameter, Step::Parameter),
            Self::Comma => (Kind::Symbol, Step::Comma),
            Self::Open => (Kind::Symbol, Step::Open),
            Self::Close => (Kind::Symbol, Step::Close),
            Self::Minus => (Kind::Symbol, Step::Minus),
            _ => (Kind::Symbol, Step::Plain),
        };
        Nature::new(kind, Word::None, step)
    }
}

const ALL_LEADS: [Lead; 16] = [
    Lead::Space,
    Lead::Letter,
    Lead::Digit,
    Lead::Dollar,
    Lead::Comma,
    Lead::Open,
    Lead::Close,
    Lead::Minus,
    Lead::Operator,
    Lead::Dot,
    Lead::Colon,
    Lead::Quote,
    Lead::DoubleQuote,
    Lead::Semicolon,
    Lead::Other,
    Lead::Other,
];

/// [`Lead::stands_alone`] of every pair: one load instead of a branch for each, which the processor would guess wrongly
/// too often.
const ALONE: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            table[at] = ALL_LEADS[at / 16].stands_alone(ALL_LEADS[at % 16]);
        }
        at += 1;
    }
    table
};

const NATURES: [Nature; 16] = {
    let mut table = [Lead::Other.nature(); 16];
    let mut at = 0;
    while at < 16 {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            table[at] = ALL_LEADS[at].nature();
        }
        at += 1;
    }
    table
};

impl Lead {
    /// Whether it is a token of one byte, given what comes `next`.
    #[inline(always)]
    pub(super) fn is_alone(self, next: Self) -> bool {
        ALONE.get((self as usize) << 4 | next as usize).copied().unwrap_or(false)
    }

    /// What a token is that begins so and is nothing special.
    #[inline(always)]
    pub(super) fn usual(self) -> &'static Nature {
        static TABLE: [Nature; 16] = NATURES;
        TABLE.get(self as usize).unwrap_or(&const { Self::Other.nature() })
    }
}

/// What a byte behind a name in double quotes says about it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum After {
    /// A mark behind which it is a name and nothing else.
    Mark,
    Space,
    Quote,
    /// The beginning of a word, a number or an operator, and of no comment.
    Other,
    /// Anything else: it may be called, or what comes next does not show.
    Unknown,
}

const AFTERS: [After; 256] = {
    let mut table = [After::Unknown; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            table[byte] = match lead(byte as u8) {
                _ if matches!(byte as u8, b',' | b'.' | b')') => After::Mark,
                _ if byte as u8 == b' ' => After::Space,
                Lead::DoubleQuote => After::Quote,
                Lead::Letter | Lead::Digit | Lead::Operator if byte as u8 != b'/' => After::Other,
                _ => After::Unknown,
            };
        }
        byte += 1;
    }
    table
};

/// What `byte` says about a name in double quotes before it.
#[inline(always)]
pub(super) fn after_of(byte: u8) -> After {
    static TABLE: [After; 256] = AFTERS;
    TABLE.get(usize::from(byte)).copied().unwrap_or(After::Unknown)
}

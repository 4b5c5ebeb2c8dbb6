//! Where one message ends and the next begins. The only reader of a length field.
//!
//! Two shapes exist: the untyped packet that a client opens with (length, code, …) and the typed message
//! (type byte, length, body). "Need more bytes" is `Ok(None)`; a length that no peer may send is an error, found
//! before anything is allocated by it.

use std::fmt;

/// Bytes before a typed message's body: type and length.
pub const HEAD: usize = 5;

/// Longest body that PostgreSQL itself accepts or sends (`PQ_LARGE_MESSAGE_LIMIT`): one byte below 1 GiB.
pub const MAX_BODY: usize = 0x3fff_ffff;

/// Longest startup packet (`MAX_STARTUP_PACKET_LENGTH` of PostgreSQL), its length field included.
pub const MAX_STARTUP: usize = 10_000;

/// A length that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLength {
    /// Type byte of the message; `None` for a startup packet.
    pub tag: Option<u8>,
    /// The length as sent, its own four bytes included.
    pub length: u32,
}

impl fmt::Display for BadLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tag {
            Some(tag) => write!(f, "message type 0x{tag:02x} with invalid length {}", self.length),
            None => write!(f, "startup packet with invalid length {}", self.length),
        }
    }
}

impl std::error::Error for BadLength {}

/// The head of a typed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Type byte, unchecked: see [`crate::tag`].
    pub tag: u8,
    /// Bytes of the body, without the head; at most [`MAX_BODY`].
    pub body: usize,
}

impl Head {
    /// Bytes of the whole message.
    #[inline]
    pub const fn total(self) -> usize {
        HEAD + self.body
    }
}

/// Reads the head that `bytes` begin with; `None`: fewer than five bytes are there.
#[inline]
pub fn head(bytes: &[u8]) -> Result<Option<Head>, BadLength> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    match (length as usize).checked_sub(4) {
        Some(body) if body <= MAX_BODY => Ok(Some(Head { tag, body })),
        _ => Err(BadLength { tag: Some(tag), length }),
    }
}

/// One whole typed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type byte, unchecked.
    pub tag: u8,
    /// Head and body.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The body, without the head.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEAD..).unwrap_or_default()
    }
}

/// Takes one whole message of at most `max_body` bytes from the front of `bytes`; `None`: it is not all there yet.
/// For conversations that are read message by message (login, cold paths); the relay walks by [`head`] alone.
pub fn next<'a>(bytes: &mut &'a [u8], max_body: usize) -> Result<Option<Frame<'a>>, BadLength> {
    let Some(head) = head(bytes)? else {
        return Ok(None);
    };
    if head.body > max_body {
        let length = u32::try_from(head.body + 4).unwrap_or(u32::MAX);
        return Err(BadLength { tag: Some(head.tag), length });
    }
    let Some((message, rest)) = bytes.split_at_checked(head.total()) else {
        return Ok(None);
    };
    *bytes = rest;
    Ok(Some(Frame { tag: head.tag, bytes: message }))
}

/// An untyped opening packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening<'a> {
    /// Protocol version or request code.
    pub code: u32,
    /// What follows the code.
    pub body: &'a [u8],
    /// Bytes of the whole packet, length field included.
    pub total: usize,
}

/// Takes the untyped packet that a client opens with; `None`: it is not all there yet.
/// A length under 8 or over [`MAX_STARTUP`] is refused as soon as its four bytes are there.
pub fn opening(bytes: &[u8]) -> Result<Option<Opening<'_>>, BadLength> {
    let Some(&[a, b, c, d]) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let total = length as usize;
    if !(8..=MAX_STARTUP).contains(&total) {
        return Err(BadLength { tag: None, length });
    }
    let (Some(&[e, f, g, h]), Some(body)) =
        (bytes.get(4..8).and_then(|code| code.first_chunk::<4>()), bytes.get(8..total))
    else {
        return Ok(None);
    };
    Ok(Some(Opening { code: u32::from_be_bytes([e, f, g, h]), body, total }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_five_bytes_and_says_so() {
        for n in 0..HEAD {
            assert_eq!(head(&[b'Q', 0, 0, 0, 4][..n]), Ok(None));
        }
        assert_eq!(head(b"Q\0\0\0\x04"), Ok(Some(Head { tag: b'Q', body: 0 })));
    }

    #[test]
    fn refuses_lengths_under_four_and_over_the_limit_at_once() {
        for length in [0u32, 1, 2, 3, 0x4000_0004, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(head(&bytes), Err(BadLength { tag: Some(b'Q'), length }), "{length}");
        }
    }

    #[test]
    fn takes_messages_one_by_one_at_every_cut() {
        let whole = b"Q\0\0\0\x06a\0S\0\0\0\x04";
        for cut in 0..=whole.len() {
            let mut rest = &whole[..cut];
            let mut seen = 0;
            while let Some(frame) = next(&mut rest, 100).unwrap() {
                seen += frame.bytes.len();
            }
            let expected = if cut == 12 {
                12
            } else if cut >= 7 {
                7
            } else {
                0
            };
            assert_eq!(seen, expected, "cut at {cut}");
        }
        assert!(next(&mut &whole[..], 1).is_err());
    }

    #[test]
    fn opening_packets_are_bounded_before_they_are_whole() {
        for length in [0u32, 4, 7, 10_001, u32::MAX] {
            assert!(opening(&length.to_be_bytes()).is_err(), "{length}");
        }
        let packet = [0, 0, 0, 10, 0, 3, 0, 0, 7, 0];
        for cut in 0..10 {
            assert_eq!(opening(&packet[..cut]), Ok(None));
        }
        let taken = opening(&packet).unwrap().unwrap();
        assert_eq!((taken.code, taken.body, taken.total), (0x0003_0000, &[7u8, 0][..], 10));
    }
}

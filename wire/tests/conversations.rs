//! Whole conversations, cut at every byte offset of either direction: the same actions as in one piece.
#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use wire::frame;
use wire::pipeline::{Awaited, Delivery, Fate, Owed, Pipeline};
use wire::tag::{Backend, Frontend, Target};
use wire::view::{self, Named, Parse};

/// What one side says, until the other side answers.
enum Said {
    Client(Vec<u8>),
    Server(Vec<u8>),
}

use Said::{Client, Server};

/// Walks both directions as a pooler does, and notes what it would do.
///
/// Written as: a client's message by its tag, `?` behind it where the server will ignore it, `×` where it is dropped;
/// a server's message by its tag if the client gets it, `(x)` if not, `[x]` if it is made up, `<n>` where refusal n
/// stands for it; `-x` for a client's message that an error took with it; `.` at a boundary, `;` at a free one.
#[derive(Default)]
struct Walk {
    pipeline: Pipeline,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    actions: String,
}

impl Walk {
    fn hear(&mut self, said: &Said, piece: &[u8]) {
        let client = matches!(said, Client(_));
        let buffer = if client { &mut self.from_client } else { &mut self.from_server };
        buffer.extend_from_slice(piece);
        let bytes = std::mem::take(buffer);
        let mut rest = bytes.as_slice();
        while let Some(head) = frame::head(rest).unwrap()
            && let Some((message, behind)) = rest.split_at_checked(head.total())
        {
            rest = behind;
            let body = message.split_at(frame::HEAD).1;
            if client { self.send(head.tag, body) } else { self.reply(head.tag, body) }
        }
        let buffer = if client { &mut self.from_client } else { &mut self.from_server };
        *buffer = rest.to_vec();
    }

    fn send(&mut self, tag: u8, body: &[u8]) {
        let message = Frontend::from_byte(tag).unwrap();
        self.actions.push(char::from(tag));
        let kept = match message {
            Frontend::CopyData => self.pipeline.copy_data(),
            Frontend::CopyDone | Frontend::CopyFail => self.pipeline.copy_end(1),
            _ => {
                let Some((awaited, fate)) = owed_for(message, body) else { return };
                if !self.pipeline.push(Owed { awaited, fate, client: 1, note: 4 }) {
                    self.actions.push('?');
                }
                self.make_up();
                return;
            }
        };
        if !kept {
            self.actions.push('×');
        }
    }

    fn reply(&mut self, tag: u8, body: &[u8]) {
        let message = Backend::from_byte(tag).unwrap();
        let mut skipped = Vec::new();
        let reply = match message {
            Backend::ReadyForQuery => self.pipeline.ready(view::ready(body).unwrap()),
            _ => self.pipeline.reply(message, |owed| skipped.push(owed.awaited)),
        };
        let tag = char::from(tag);
        match reply.unwrap().delivery {
            Delivery::Forward => self.actions.push(tag),
            Delivery::Swallow => write!(self.actions, "({tag})").unwrap(),
            Delivery::Replace(note) => write!(self.actions, "<{note}>").unwrap(),
            other => write!(self.actions, "{other:?}").unwrap(),
        }
        for awaited in skipped {
            write!(self.actions, "-{}", letter(awaited)).unwrap();
        }
        self.make_up();
        if self.pipeline.is_boundary() && message == Backend::ReadyForQuery {
            self.actions.push(if self.pipeline.is_free() { ';' } else { '.' });
        }
    }

    fn make_up(&mut self) {
        while let Some(owed) = self.pipeline.made_up() {
            let tag = if owed.awaited == Awaited::Close { Backend::CloseComplete } else { Backend::ParseComplete };
            write!(self.actions, "[{}]", char::from(tag.byte())).unwrap();
        }
    }
}

fn letter(awaited: Awaited) -> char {
    match awaited {
        Awaited::Parse => 'P',
        Awaited::Bind => 'B',
        Awaited::DescribeStatement | Awaited::DescribePortal => 'D',
        Awaited::Execute => 'E',
        Awaited::Close => 'C',
        Awaited::Sync => 'S',
        Awaited::Query => 'Q',
        Awaited::FunctionCall => 'F',
        Awaited::CopyEnd => 'c',
    }
}

/// What a message makes the server say. In these conversations a Parse named `known` is held by the server already,
/// the text `*` stands for a refused one, and a query that begins with SET is ours.
fn owed_for(message: Frontend, body: &[u8]) -> Option<(Awaited, Fate)> {
    let forward = |awaited| Some((awaited, Fate::Forward));
    match message {
        Frontend::Parse => {
            let parse = Parse::read(body).unwrap();
            let fate = match (parse.statement, parse.query) {
                (b"known", _) => Fate::Substitute,
                (_, b"*") => Fate::Refuse,
                _ => Fate::Forward,
            };
            Some((Awaited::Parse, fate))
        }
        Frontend::Query => {
            let ours = view::query(body).unwrap().starts_with(b"SET");
            Some((Awaited::Query, if ours { Fate::Swallow } else { Fate::Forward }))
        }
        Frontend::Describe => match Named::read(body).unwrap().target {
            Target::Statement => forward(Awaited::DescribeStatement),
            Target::Portal => forward(Awaited::DescribePortal),
        },
        Frontend::Close => Some((Awaited::Close, Fate::Substitute)),
        Frontend::Bind => forward(Awaited::Bind),
        Frontend::Execute => forward(Awaited::Execute),
        Frontend::Sync => forward(Awaited::Sync),
        Frontend::FunctionCall => forward(Awaited::FunctionCall),
        _ => None,
    }
}

/// One message.
fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag as u8];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Messages in short: tags one by one, each with a body that is typical of it.
fn says(tags: &str, body: impl Fn(char) -> Vec<u8>) -> Vec<u8> {
    tags.chars().flat_map(|tag| message(tag, &body(tag))).collect()
}

/// The client's messages: `P` unnamed, `K` a Parse of what the server knows, `R` a refused one, `s` a setting of ours,
/// `d`, `c` and `f` copy rows and their end, `T` Describe of a statement, `D` of a portal.
fn client(tags: &str) -> Said {
    let one = |tag| match tag {
        'K' => message('P', b"known\0select 1\0\0\0"),
        'R' => message('P', b"\0*\0\0\0"),
        's' => message('Q', b"SET search_path = a\0"),
        'T' => message('D', b"S\0"),
        _ => says(&tag.to_string(), |tag| match tag {
            'P' => b"\0select $1\0\0\x01\0\0\0\x19".to_vec(),
            'B' => b"\0\0\0\0\0\x01\0\0\0\x01x\0\0".to_vec(),
            'D' => b"P\0".to_vec(),
            'E' => b"\0\0\0\0\0".to_vec(),
            'C' => b"Sknown\0".to_vec(),
            'Q' => b"select 1\0".to_vec(),
            'F' => b"\0\0\x03\xb8\0\0\0\0\0\0".to_vec(),
            'd' => b"1\t2\n".to_vec(),
            'f' => b"given up\0".to_vec(),
            _ => Vec::new(),
        }),
    };
    Client(tags.chars().flat_map(one).collect())
}

/// The server's messages; `z` is ReadyForQuery in a transaction, `e` in a failed one.
fn server(tags: &str) -> Said {
    let one = |tag| match tag {
        'z' => message('Z', b"T"),
        'e' => message('Z', b"E"),
        _ => says(&tag.to_string(), |tag| match tag {
            'Z' => b"I".to_vec(),
            'C' => b"SELECT 1\0".to_vec(),
            'D' => b"\0\x01\0\0\0\x01x".to_vec(),
            'T' => b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0".to_vec(),
            't' => b"\0\x01\0\0\0\x19".to_vec(),
            'E' | 'N' => b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0".to_vec(),
            'S' => b"TimeZone\0UTC\0".to_vec(),
            'A' => b"\0\0\0\x07channel\0payload\0".to_vec(),
            'G' | 'H' => b"\0\0\x01\0\0".to_vec(),
            'V' => b"\0\0\0\x01x".to_vec(),
            'd' => b"1\t2\n".to_vec(),
            _ => Vec::new(),
        }),
    };
    Server(tags.chars().flat_map(one).collect())
}

/// What it is about, what is said, what is done about it.
fn conversations() -> Vec<(&'static str, Vec<Said>, &'static str)> {
    vec![
        ("a simple query", vec![client("Q"), server("TDDCZ")], "QTDDCZ;"),
        ("several statements, one empty", vec![client("Q"), server("TDCICZ")], "QTDCICZ;"),
        ("an error in a simple query", vec![client("QQ"), server("EZTDCZ")], "QQEZTDCZ;"),
        (
            "a transaction",
            vec![client("Q"), server("Cz"), client("Q"), server("Ee"), client("Q"), server("CZ")],
            "QCZ.QEZ.QCZ;",
        ),
        ("an extended request", vec![client("PBDES"), server("12TDCZ")], "PBDES12TDCZ;"),
        ("a description alone", vec![client("PTS"), server("1tTZ"), client("TS"), server("tnZ")], "PDS1tTZ;DStnZ;"),
        ("a suspended portal", vec![client("PBEH"), server("12Ds"), client("ES"), server("DCZ")], "PBEH12DsESDCZ;"),
        ("an empty statement", vec![client("PBES"), server("12IZ")], "PBES12IZ;"),
        ("pipelined requests", vec![client("PBESPBES"), server("12DCZ12DCZ")], "PBESPBES12DCZ12DCZ;"),
        (
            "an error in the middle of a pipeline",
            vec![client("PBEPBEPBESPBES"), server("12DC1EZ12DCZ")],
            "PBEPBEPBESPBES12DC1E-B-E-P-B-EZ12DCZ;",
        ),
        (
            "messages behind an error, before the Sync",
            vec![client("PH"), server("E"), client("BES"), server("Z")],
            "PHE-PB?E?SZ;",
        ),
        ("a simple query within an extended request", vec![client("PQS"), server("1TDCZZ")], "PQS1TDCZZ;"),
        ("a Parse that the server knows", vec![client("KBES"), server("2DCZ")], "P[1]BES2DCZ;"),
        ("one that waits for its turn", vec![client("PBEKBES"), server("12DC2DCZ")], "PBEPBES12DC[1]2DCZ;"),
        ("one that an error takes with it", vec![client("PKBES"), server("EZ")], "PPBESE-P-P-B-EZ;"),
        ("a Close that is answered here", vec![client("PCS"), server("1Z")], "PCS1[3]Z;"),
        ("a refused Parse", vec![client("RBES"), server("EZ")], "PBES<4>-P-B-EZ;"),
        ("a refused Parse behind an error", vec![client("PRBES"), server("EZ")], "PPBESE-P-P-B-EZ;"),
        ("settings of ours before a query", vec![client("sQ"), server("SNCZTDCZ")], "QQ(S)(N)(C)(Z)TDCZ;"),
        ("settings of ours before a request", vec![client("sPBES"), server("CZ12DCZ")], "QPBES(C)(Z)12DCZ;"),
        ("notices, notifications, reports", vec![client("Q"), server("NTSDACNZ"), server("NAS")], "QNTSDACNZ;NAS"),
        ("a copy out", vec![client("Q"), server("HdddcCZ")], "QHdddcCZ;"),
        ("a copy out with an error", vec![client("Q"), server("HddEZ")], "QHddEZ;"),
        ("an extended copy out", vec![client("PBES"), server("12HddcCZ")], "PBES12HddcCZ;"),
        ("an extended copy out with an error", vec![client("PBES"), server("12HdEZ")], "PBES12HdE-EZ;"),
        ("a copy in", vec![client("Q"), server("G"), client("ddc"), server("CZ")], "QGddcCZ;"),
        ("a copy in sent ahead", vec![client("QddcQ"), server("GCZTDCZ")], "QddcQGCZTDCZ;"),
        ("a copy in given up", vec![client("Q"), server("G"), client("df"), server("EZ")], "QGdfEZ;"),
        (
            "an error in a copy in",
            vec![client("Q"), server("G"), client("d"), server("EZ"), client("dc")],
            "QGdEZ;d×c×",
        ),
        (
            "an extended copy in, with a Sync that the server ignores",
            vec![client("PBES"), server("12G"), client("dSdcS"), server("CZ")],
            "PBES12GdS?dcSCZ;",
        ),
        (
            "an error in an extended copy in",
            vec![client("PBEH"), server("12G"), client("d"), server("E"), client("dcS"), server("Z")],
            "PBEH12GdE-Ed×c×SZ;",
        ),
        ("a statement that breaks a copy in", vec![client("Q"), server("G"), client("dQ"), server("EZ")], "QGdQ?EZ;"),
        ("a function call", vec![client("F"), server("VZ")], "FVZ;"),
        ("a function call that fails", vec![client("F"), server("EZ")], "FEZ;"),
        ("a lone Sync", vec![client("S"), server("Z")], "SZ;"),
    ]
}

fn actions(said: &[Said], cut: impl Fn(usize, &[u8]) -> Vec<usize>) -> String {
    let mut walk = Walk::default();
    for (index, part) in said.iter().enumerate() {
        let (Client(bytes) | Server(bytes)) = part;
        let mut from = 0;
        for at in cut(index, bytes).into_iter().chain([bytes.len()]) {
            walk.hear(part, bytes.get(from..at).unwrap());
            from = at;
        }
    }
    assert!(walk.from_client.is_empty() && walk.from_server.is_empty(), "bytes were left over");
    walk.actions
}

#[test]
fn every_conversation_leads_to_what_stands_in_the_table() {
    for (about, said, expected) in conversations() {
        assert_eq!(actions(&said, |_, _| Vec::new()), expected, "{about}");
    }
}

#[test]
fn every_conversation_cut_at_every_offset_leads_to_the_same_actions() {
    let mut cuts = 0;
    for (about, said, expected) in conversations() {
        for (part, Client(bytes) | Server(bytes)) in said.iter().enumerate() {
            for at in 0..=bytes.len() {
                let cut = |index: usize, _: &[u8]| if index == part { vec![at] } else { Vec::new() };
                assert_eq!(actions(&said, cut), expected, "{about}: part {part} cut at {at}");
                cuts += 1;
            }
        }
    }
    assert!(cuts > 3000, "{cuts} cuts");
}

#[test]
fn every_conversation_byte_by_byte_leads_to_the_same_actions() {
    for (about, said, expected) in conversations() {
        assert_eq!(actions(&said, |_, bytes| (1..bytes.len()).collect()), expected, "{about}");
    }
}

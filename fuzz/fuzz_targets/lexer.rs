//! Any bytes as a statement: no panic, every range inside of the text, and what is cut off the ends changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::comment::strip_ends;
use policy::fingerprint::{Analyser, Compat, normalise, normalise_family};
use policy::statement::Flags;

fuzz_target!(|sql: &[u8]| {
    let mut analyser = Analyser::new(if sql.len() % 2 == 0 { Compat::V15 } else { Compat::V18 });
    let whole = analyser.analyse(sql);
    for literal in &whole.literals {
        assert!(literal.span.start < literal.span.end && literal.span.end as usize <= sql.len());
    }
    for part in &whole.parts {
        assert!(part.span.start < part.span.end && part.span.end as usize <= sql.len());
    }
    let (strict, effects) = (whole.strict, whole.effects.len());
    // The server refuses a text whose quote has no end.
    let refused = whole.flags.contains(Flags::UNTERMINATED);

    let (body, comments) = strip_ends(sql);
    comments.tags().for_each(|tag| drop(tag.decoded()));
    let cut = analyser.analyse(body);
    assert!(refused || (cut.strict, cut.effects.len()) == (strict, effects));

    normalise(sql, analyser.compat());
    normalise_family(sql);
});

//! Blocks against the plain way: whatever shows at a glance is what reading on from byte to byte finds.

use super::*;

/// What texts are made of, such that every kind of token meets every other one at every place of a block.
#[rustfmt::skip]
const PIECES: &[&[u8]] = &[
    b" ", b"\n", b"  \n ", b"\t", b"'", b"''", b"'a'", b"'it''s'", b"'a' \n 'b'", b"'a'\n-- x\n'b'", b"'a'-- x\n", b"'a' - 1",
    b"'a string of more than sixty-four bytes, which goes on behind the end of its block'", b"\\", b"\"", b"\"\"", b"\"a\"",
    b"\"created_at\".", b"\"Tenant\"", b"\"a\"\"b\"", b"\"a b\"", b"\"select\"", b"\"role\" ", b"\"a\"(", b"\"abcdefghijklmnop\",",
    b"\"abcdefghijklmnopq\"", b"$$", b"$1", b"$12345678", b"$a$", b"$", b"--", b"-- x\n", b"/*", b"*/", b"e'", b"u&'", b"U&\"x\"",
    b"x'1f'", b"n'a'", b"1", b"12345678", b"123456789", b"1234567890123456", b"12345678901234567", b"1.5", b"1.5e3", b".5",
    b"1.5a", b"1e", b"0x1F", b"1_000", b"a", b"abcdefgh", b"abcdefghi", b"abcdefghabcdefghi", b"select", b"FROM", b"\xc3\xa4", b"\xff",
    b"a_name_of_more_than_sixty_four_bytes_that_goes_on_behind_the_end_of_its_block_", b"pg_advisory_lock(", b"\x01", b"\0", b";",
    b",", b"(", b")", b"[", b"]", b"::", b":=", b":", b"..", b".", b"!=", b"<>", b">=", b"->>", b"->", b"||", b"=-", b"@-", b"*", b"=",
    b"-", b"+", b"_", b"&", b"date '1'",
];

/// The tokens of `sql`, one after the other.
fn plainly(sql: &[u8], standard_strings: bool) -> (Vec<Token>, Scan) {
    let (mut tokens, mut noticed, mut at) = (Vec::new(), Scan::default(), 0);
    while let Some(byte) = sql.get(at) {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) {
            at += 1;
            continue;
        }
        let (token, end) = odd::odd(sql, at, standard_strings);
        if token.is_some_and(|token| token.kind == Kind::String) {
            types_string(&mut tokens);
        }
        noticed.semicolons += u32::from(token.is_some_and(|token| token.is(symbol(";"))));
        noticed.unterminated |= end > sql.len();
        tokens.extend(token);
        at = end;
    }
    (tokens, noticed)
}

/// A token but for the key of a quoted name and for the step, which are chosen where it is found.
fn seen(token: &Token) -> (u32, u32, Kind, Word, u64) {
    let key = if matches!(token.kind, Kind::Word | Kind::Symbol) { token.key } else { 0 };
    (token.start, token.end, token.kind, token.word, key)
}

#[test]
fn blocks_find_what_reading_on_finds() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % bound
    };
    let mut tokens = Vec::new();
    for round in 0..20_000 {
        let mut sql = Vec::new();
        for _ in 0..below(30) {
            sql.extend_from_slice(PIECES[below(PIECES.len())]);
            sql.extend_from_slice(&b"  "[..below(3)]);
        }
        let standard_strings = round % 4 != 0;
        let noticed = scan(&sql, standard_strings, &mut tokens);
        let (plain, expected) = plainly(&sql, standard_strings);
        let text = String::from_utf8_lossy(&sql);
        assert_eq!(tokens.iter().map(seen).collect::<Vec<_>>(), plain.iter().map(seen).collect::<Vec<_>>(), "{text:?}");
        assert_eq!(
            (noticed.semicolons, noticed.unterminated),
            (expected.semicolons, expected.unterminated),
            "{text:?}"
        );
    }
}

#[test]
fn every_token_is_found_at_every_place_of_a_block() {
    let mut tokens = Vec::new();
    for piece in PIECES {
        for before in 0..130 {
            for behind in [&b""[..], b" ", b"a", b"'", b"\"", b"1", b" x = 1"] {
                let sql = [&b" ".repeat(before), *piece, behind].concat();
                scan(&sql, true, &mut tokens);
                let (plain, _) = plainly(&sql, true);
                let text = String::from_utf8_lossy(&sql);
                assert!(tokens.iter().map(seen).eq(plain.iter().map(seen)), "{text:?}");
            }
        }
    }
}

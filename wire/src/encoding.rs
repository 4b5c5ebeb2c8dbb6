//! What PostgreSQL calls an encoding that a client may spell in several ways.

/// The names that a server reports, and other spellings of the same: letters and digits only, in lower case.
const NAMES: &[(&str, &[&str])] = &[
    ("SQL_ASCII", &["sqlascii"]),
    ("EUC_JP", &["eucjp"]),
    ("EUC_CN", &["euccn"]),
    ("EUC_KR", &["euckr"]),
    ("EUC_TW", &["euctw"]),
    ("EUC_JIS_2004", &["eucjis2004"]),
    ("UTF8", &["utf8", "unicode"]),
    ("MULE_INTERNAL", &["muleinternal"]),
    ("LATIN1", &["latin1", "iso88591"]),
    ("LATIN2", &["latin2", "iso88592"]),
    ("LATIN3", &["latin3", "iso88593"]),
    ("LATIN4", &["latin4", "iso88594"]),
    ("LATIN5", &["latin5", "iso88599"]),
    ("LATIN6", &["latin6", "iso885910"]),
    ("LATIN7", &["latin7", "iso885913"]),
    ("LATIN8", &["latin8", "iso885914"]),
    ("LATIN9", &["latin9", "iso885915"]),
    ("LATIN10", &["latin10", "iso885916"]),
    ("WIN1256", &["win1256", "windows1256"]),
    ("WIN1258", &["win1258", "windows1258", "abc", "tcvn", "tcvn5712", "vscii"]),
    ("WIN866", &["win866", "windows866", "alt"]),
    ("WIN874", &["win874", "windows874"]),
    ("KOI8R", &["koi8r", "koi8"]),
    ("KOI8U", &["koi8u"]),
    ("WIN1250", &["win1250", "windows1250"]),
    ("WIN1251", &["win1251", "windows1251", "win"]),
    ("WIN1252", &["win1252", "windows1252"]),
    ("WIN1253", &["win1253", "windows1253"]),
    ("WIN1254", &["win1254", "windows1254"]),
    ("WIN1255", &["win1255", "windows1255"]),
    ("WIN1257", &["win1257", "windows1257"]),
    ("ISO_8859_5", &["iso88595"]),
    ("ISO_8859_6", &["iso88596"]),
    ("ISO_8859_7", &["iso88597"]),
    ("ISO_8859_8", &["iso88598"]),
    ("SJIS", &["sjis", "mskanji", "shiftjis", "windows932", "win932"]),
    ("BIG5", &["big5", "win950", "windows950"]),
    ("GBK", &["gbk", "win936", "windows936"]),
    ("UHC", &["uhc", "win949", "windows949"]),
    ("GB18030", &["gb18030"]),
    ("JOHAB", &["johab"]),
    ("SHIFT_JIS_2004", &["shiftjis2004", "sjis2004"]),
];

/// The name under which a server reports the encoding that a client calls `spelled`: `utf-8` is `UTF8`. One that is not
/// known comes back as it is.
///
/// A server compares letters and digits alone, without regard to case.
pub fn reported(spelled: &[u8]) -> &[u8] {
    let clean: Vec<u8> =
        spelled.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    let known = NAMES.iter().find(|(_, spellings)| spellings.iter().any(|known| known.as_bytes() == clean));
    known.map_or(spelled, |(name, _)| name.as_bytes())
}

/// Whether the second byte of a character can be a backslash, so that nobody who reads bytes can tell where an escaped
/// string ends.
pub fn is_opaque(spelled: &[u8]) -> bool {
    matches!(reported(spelled), b"SJIS" | b"BIG5" | b"GBK" | b"UHC" | b"GB18030" | b"JOHAB" | b"SHIFT_JIS_2004")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_told_as_the_server_tells_it() {
        for (spelled, name) in [
            ("utf8", "UTF8"),
            ("utf-8", "UTF8"),
            ("UTF_8", "UTF8"),
            ("euc-jp", "EUC_JP"),
            ("iso-8859-1", "LATIN1"),
            ("ISO_8859_5", "ISO_8859_5"),
            ("klingon", "klingon"),
        ] {
            assert_eq!(reported(spelled.as_bytes()), name.as_bytes(), "{spelled}");
        }
        for (name, _) in NAMES {
            assert_eq!(reported(name.as_bytes()), name.as_bytes());
        }
    }
}

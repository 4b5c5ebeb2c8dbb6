//! What an application asks for in a comment: `/*+ cache ttl=30 */`, `/*+ cache off */`.

use std::time::Duration;

use crate::comment::Comments;

/// A hint, as far as it was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// `off`: not this one.
    pub off: bool,
    /// `ttl=30`, `ttl=500ms`, `ttl=5m`: no older than this. A rule's own limit holds as well.
    pub ttl: Option<Duration>,
}

/// The hint at the ends of a text, those behind it first. Other hints, of pg_hint_plan for instance, are nobody's here. One
/// that says `cache` and something that is not understood is `off`: whoever wrote it meant something.
///
/// ```
/// use policy::cache::hint_of;
/// use policy::comment::strip_ends;
/// let (_, comments) = strip_ends(b"select 1 from runs /*+ cache ttl=30 */");
/// assert_eq!(hint_of(&comments).unwrap().ttl, Some(std::time::Duration::from_secs(30)));
/// ```
pub fn hint_of(comments: &Comments<'_>) -> Option<Hint> {
    comments.insides().find_map(|inside| {
        let inside = inside.strip_prefix(b"+")?;
        let mut words =
            inside.split(|byte| byte.is_ascii_whitespace() || *byte == b',').filter(|word| !word.is_empty());
        words.next().filter(|first| first.eq_ignore_ascii_case(b"cache"))?;
        let mut hint = Hint { off: false, ttl: None };
        for word in words {
            match word.split_at_checked(4) {
                Some((name, value)) if name.eq_ignore_ascii_case(b"ttl=") => match duration(value) {
                    Some(ttl) => hint.ttl = Some(hint.ttl.map_or(ttl, |other| other.min(ttl))),
                    None => hint.off = true,
                },
                _ => hint.off = true,
            }
        }
        Some(hint)
    })
}

/// A number with `ms`, `s`, `m`, `h`, or without: seconds. Nothing is 0.
fn duration(value: &[u8]) -> Option<Duration> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = value.split_at_checked(digits)?;
    let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let unit = match unit.to_ascii_lowercase().as_slice() {
        b"ms" => Duration::from_millis(1),
        b"" | b"s" => Duration::from_secs(1),
        b"m" | b"min" => Duration::from_secs(60),
        b"h" => Duration::from_secs(3_600),
        _ => return None,
    };
    unit.checked_mul(number).filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comment::strip_ends;

    fn hint(sql: &str) -> Option<Hint> {
        hint_of(&strip_ends(sql.as_bytes()).1)
    }

    #[test]
    fn hints_are_read_wherever_they_stand_at_the_ends() {
        let ttl = |millis| Some(Hint { off: false, ttl: Some(Duration::from_millis(millis)) });
        let off = Some(Hint { off: true, ttl: None });
        for (sql, expected) in [
            ("select 1", None),
            ("select 1 /* cache ttl=30 */", None),
            ("/*+ cache ttl=30 */ select 1", ttl(30_000)),
            ("select 1 /*+cache ttl=500ms*/;", ttl(500)),
            ("/*route='x'*/ select 1 /*+ CACHE TTL=5m, ttl=10m */", ttl(300_000)),
            ("/*+ SeqScan(runs) */ select 1 /*+ cache */", Some(Hint { off: false, ttl: None })),
            ("/*+ SeqScan(runs) */ select 1", None),
            ("select 1 /*+ cached */", None),
            ("select 1 /*+ cache off */", off),
            ("select 1 /*+ cache ttl=0 */", off),
            ("select 1 /*+ cache ttl=1y */", off),
            ("select 1 /*+ cache ttl */", off),
            ("select 1 /*+ cache ttl=99999999999 */", off),
            ("/*+ cache ttl=1 */ select 1 /*+ cache ttl=2 */", ttl(2_000)),
            ("select '/*+ cache ttl=3 */'", None),
            ("select 1 -- + cache", None),
            ("select 1 --+ cache", Some(Hint { off: false, ttl: None })),
        ] {
            assert_eq!(hint(sql), expected, "{sql}");
        }
    }
}

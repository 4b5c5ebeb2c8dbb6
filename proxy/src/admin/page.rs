//! Pages of long lists: where the next one begins is a place in the list's order, not a number of rows, so that rows that
//! come and go between two requests shift nothing.

use std::cmp::Ordering;

use axum::http::StatusCode;
use xxhash_rust::xxh3::xxh3_64;

use super::openapi::parameters::Asked;
use super::problem::Problem;

/// A row's place: the largest number first, of equal ones by the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    number: f64,
    text: String,
}

impl Place {
    /// By a number, the largest first; `text` is the row's own alone.
    pub(super) fn by_number(number: f64, text: impl Into<String>) -> Self {
        Self { number, text: text.into() }
    }

    /// By the row's own text alone.
    pub(super) fn by_text(text: impl Into<String>) -> Self {
        Self::by_number(0.0, text)
    }

    fn compare(&self, other: &Self) -> Ordering {
        other.number.total_cmp(&self.number).then_with(|| self.text.cmp(&other.text))
    }

    fn cursor(&self, list: u64) -> String {
        let mut bytes = list.to_be_bytes().to_vec();
        bytes.extend(self.number.to_bits().to_be_bytes());
        bytes.extend(self.text.as_bytes());
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn read(cursor: &str, list: u64) -> Option<Self> {
        let digits: Vec<u8> =
            cursor.bytes().map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
        let bytes: Vec<u8> =
            digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        let (known, rest) = bytes.split_first_chunk::<8>()?;
        let (number, text) = rest.split_first_chunk::<8>()?;
        let text = String::from_utf8(text.to_vec()).ok()?;
        (known == &list.to_be_bytes()).then(|| Self { number: f64::from_bits(bits(number)), text })
    }
}

fn bits(bytes: &[u8; 8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The place that a request's list goes on behind; `None`: it begins.
///
/// # Errors
/// The cursor is of another list.
fn after(asked: &Asked, list: u64) -> Result<Option<Place>, Problem> {
    let after = asked.text("cursor").map(|cursor| {
        let detail = "this cursor is not one of this list; begin without one, with the same parameters on each page";
        Place::read(cursor, list).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, detail))
    });
    after.transpose()
}

/// The same where rows are sorted and cut elsewhere: the place's text.
///
/// # Errors
/// The cursor is of another list.
pub(super) fn after_text(asked: &Asked) -> Result<Option<String>, Problem> {
    Ok(after(asked, xxh3_64(asked.list().as_bytes()))?.map(|place| place.text))
}

/// The cursor of a place in such a list.
pub(super) fn cursor_of(asked: &Asked, text: String) -> String {
    Place::by_text(text).cursor(xxh3_64(asked.list().as_bytes()))
}

/// The rows of a page in their order, how many there are in all, and where the next page begins; `None`: there is none.
///
/// # Errors
/// The cursor is of another list.
pub(super) fn page<T>(
    asked: &Asked,
    rows: Vec<T>,
    place: impl Fn(&T) -> Place,
) -> Result<(usize, Vec<T>, Option<String>), Problem> {
    let list = xxh3_64(asked.list().as_bytes());
    let after = after(asked, list)?;
    let total = rows.len();
    let mut placed: Vec<(Place, T)> = rows.into_iter().map(|row| (place(&row), row)).collect();
    placed.retain(|(place, _)| after.as_ref().is_none_or(|after| place.compare(after).is_gt()));
    placed.sort_by(|(a, _), (b, _)| a.compare(b));
    let more = placed.len() > asked.limit();
    placed.truncate(asked.limit());
    let next = placed.last().filter(|_| more).map(|(place, _)| place.cursor(list));
    Ok((total, placed.into_iter().map(|(_, row)| row).collect(), next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_by_its_own_list_alone() {
        for place in [Place::by_number(1.5, "é"), Place::by_number(-0.0, ""), Place::by_text("00000007")] {
            let cursor = place.cursor(7);
            assert_eq!(Place::read(&cursor, 7), Some(place));
            assert_eq!(Place::read(&cursor, 8), None);
            assert_eq!(Place::read(&cursor[..cursor.len().min(30)], 7), None);
        }
        assert_eq!((Place::read("00", 0), Place::read("zz", 0)), (None, None));
    }

    #[test]
    fn pages_show_each_row_once_whatever_comes_and_goes() {
        let asked = |cursor: Option<&str>| {
            let route = super::super::openapi::routes::find("GET", "/api/v1/clients").unwrap();
            let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            Asked::read(route, &format!("/api/v1/clients?limit=2{cursor}").parse().unwrap()).unwrap()
        };
        let by_number = |row: &(i32, &str)| Place::by_number(row.0.into(), row.1);
        let mut rows = vec![(5, "c"), (9, "a"), (5, "b"), (1, "d")];
        let (total, first, next) = page(&asked(None), rows.clone(), by_number).unwrap();
        assert_eq!((total, first), (4, vec![(9, "a"), (5, "b")]));
        // The one before the place has gone, another has come there.
        rows.retain(|row| row.1 != "b");
        rows.push((7, "new"));
        let (_, second, last) = page(&asked(next.as_deref()), rows, by_number).unwrap();
        assert_eq!((second, last), (vec![(5, "c"), (1, "d")], None));
        assert!(page(&asked(Some("00")), vec![1], |_| Place::by_text("")).is_err());
    }
}

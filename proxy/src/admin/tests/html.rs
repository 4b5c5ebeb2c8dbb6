//! Whether a page is sound HTML: as strict a reader as the pages need, which writes nothing that only a lenient one takes.

use std::collections::BTreeSet;

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "link", "input", "br"];

/// One element: its name and its attributes.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
}

impl Element {
    /// An attribute's value, what was escaped in it put back.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let (_, value) = self.attributes.iter().find(|(known, _)| known == name)?;
        Some(value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    }
}

/// Reads a page to its end. Fails with a tag that closes another one than is open, an attribute that is there twice, an id
/// that is not unique, a style or a script in the markup.
pub(super) fn read(page: &str) -> Vec<Element> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a page begins with its kind");
    let (mut open, mut elements, mut ids) = (Vec::new(), Vec::new(), BTreeSet::new());
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "a bracket that was not escaped: {}", &rest[..at]);
        rest = &rest[at + 1..];
        if let Some(closing) = rest.strip_prefix('/') {
            let (name, behind) = closing.split_once('>').expect("a tag ends");
            assert_eq!(open.pop().as_deref(), Some(name), "before {}", behind.chars().take(80).collect::<String>());
            rest = behind;
            continue;
        }
        let (element, behind) = tag(rest);
        for (name, _) in &element.attributes {
            assert!(
                name != "style" && !name.starts_with("on"),
                "{name} is refused by the policy for content: {element:?}"
            );
        }
        if let Some(id) = element.attribute("id") {
            assert!(ids.insert(id.clone()), "#{id} is there twice");
        }
        assert!(element.name != "style", "a style in the markup");
        assert!(element.name != "script" || element.attribute("src").is_some(), "a script in the markup");
        if !VOID.contains(&element.name.as_str()) {
            open.push(element.name.clone());
        }
        elements.push(element);
        rest = behind;
    }
    assert!(open.is_empty(), "still open: {open:?}");
    elements
}

/// A tag's name and attributes, and what is behind it.
fn tag(text: &str) -> (Element, &str) {
    let name: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    assert!(!name.is_empty(), "no tag: {}", text.chars().take(40).collect::<String>());
    let mut rest = &text[name.len()..];
    let mut attributes: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('>') {
            return (Element { name, attributes }, behind);
        }
        let end = rest.find(['=', '>', ' ']).expect("a tag ends");
        let key = rest[..end].to_owned();
        assert!(attributes.iter().all(|(known, _)| *known != key), "{key} is there twice in <{name}>");
        rest = &rest[end..];
        let value = match rest.strip_prefix("=\"") {
            Some(quoted) => {
                let (value, behind) = quoted.split_once('"').expect("a value ends");
                rest = behind;
                value.to_owned()
            }
            None => String::new(),
        };
        attributes.push((key, value));
    }
}

#[test]
#[should_panic(expected = "a script in the markup")]
fn a_script_that_was_let_through_is_found() {
    drop(read("<!DOCTYPE html><p><script>alert(1)</script></p>"));
}

#[test]
#[should_panic(expected = "Some(\"b\")")]
fn a_tag_that_closes_another_is_found() {
    drop(read("<!DOCTYPE html><p><b>x</p></b>"));
}

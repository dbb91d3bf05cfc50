//! A small tree of an XML response. Names have no prefix, because no two names in CardDAV responses differ only in
//! their prefix.

use konnector_sdk::{Error, Result};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

/// An element.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct XmlElement {
    name: String,
    text: String,
    children: Vec<Self>,
}

impl XmlElement {
    /// Parses a document and returns its root element.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            let event = reader.read_event().map_err(|error| parse_error(&error.to_string()))?;
            match event {
                Event::Start(start) => open.push(Self::new(start.local_name().as_ref())),
                Event::Empty(start) => close(&mut open, Self::new(start.local_name().as_ref())),
                Event::End(_) => {
                    let element = open.pop().ok_or_else(|| parse_error("an element ends twice"))?;
                    close(&mut open, element);
                }
                Event::Text(text) => write(&mut open, &text.xml10_content()),
                Event::CData(text) => write(&mut open, &text.into_inner()),
                Event::GeneralRef(reference) => write(&mut open, &resolve(&reference)?),
                Event::Eof => break,
                _ => {}
            }
        }
        // A truncated response has more open elements than the document itself.
        let document = if open.len() == 1 { open.pop() } else { None };
        let root = document.and_then(|document| document.children.into_iter().next());
        root.ok_or_else(|| parse_error("it ends too early"))
    }

    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Returns the name, without the prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text, without surrounding white space.
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    /// Returns the child elements of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Like [`Self::all`], but by value.
    pub fn into_all(self, name: &'static str) -> impl Iterator<Item = Self> {
        self.children.into_iter().filter(move |child| child.name == name)
    }

    /// Returns the first element along a path of names, each a child of the one before.
    pub fn find(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |element, name| element.children.iter().find(|child| child.name == *name))
    }
}

fn close(open: &mut [XmlElement], element: XmlElement) {
    if let Some(parent) = open.last_mut() {
        parent.children.push(element);
    }
}

fn write(open: &mut [XmlElement], text: &str) {
    if let Some(parent) = open.last_mut() {
        parent.text.push_str(text);
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<String> {
    if let Some(letter) = reference.resolve_char_ref().map_err(|error| parse_error(&error.to_string()))? {
        return Ok(letter.to_string());
    }
    let known = resolve_predefined_entity(reference);
    known.map(ToOwned::to_owned).ok_or_else(|| parse_error(&format!("`&{};` is not known", &**reference)))
}

fn parse_error(reason: &str) -> Error {
    Error::vendor_changed(format!("the server's response is not XML: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_prefixes_references_and_character_data() {
        let text = r#"<?xml version="1.0"?><d:a xmlns:d="DAV:"><d:b>x &amp; y&#13;<![CDATA[<z>]]></d:b><d:b/><!-- no --></d:a>"#;
        let root = XmlElement::parse(text).unwrap();
        assert_eq!(root.find(&["b"]).unwrap().text(), "x & y\r<z>");
        assert!(root.find(&["b", "c"]).is_none());
        assert_eq!(root.into_all("b").count(), 2);
    }

    #[test]
    fn a_truncated_response_is_rejected() {
        for text in ["", "<a><b>", "<a></b>", "<a>&unknown;</a>", "no markup"] {
            assert!(matches!(XmlElement::parse(text), Err(Error::VendorChanged(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_escaping(text in "\\PC{0,40}") {
            let xml = format!("<a>{}</a>", quick_xml::escape::escape(text.as_str()));
            let root = XmlElement::parse(&xml).unwrap();
            prop_assert_eq!(root.text(), text.trim());
        }
    }
}

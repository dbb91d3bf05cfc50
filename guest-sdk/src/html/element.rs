use std::fmt;

use scraper::ElementRef;
use url::Url;

use super::{Page, Select as _, select};
use crate::{Error, Result};

/// An element of a page.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    node: ElementRef<'a>,
    page: &'a Page,
}

impl<'a> Element<'a> {
    pub(super) fn new(node: ElementRef<'a>, page: &'a Page) -> Self {
        Self { node, page }
    }

    pub(super) fn node(self) -> ElementRef<'a> {
        self.node
    }

    pub(super) fn page(self) -> &'a Page {
        self.page
    }

    /// Returns the tag name, such as `td`.
    #[must_use]
    pub fn tag(self) -> &'a str {
        self.node.value().name()
    }

    /// Returns the text without markup, with each run of white space (no-break spaces too) collapsed into one space.
    #[must_use]
    pub fn inner_text(self) -> String {
        self.raw_text().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Returns the raw text; also used to read the text of a script.
    #[must_use]
    pub fn raw_text(self) -> String {
        self.node.text().collect()
    }

    /// Returns the inner HTML.
    #[must_use]
    pub fn inner_html(self) -> String {
        self.node.inner_html()
    }

    /// Returns the value of an attribute.
    #[must_use]
    pub fn attribute(self, name: &str) -> Option<&'a str> {
        self.node.attr(name)
    }

    /// Returns the absolute URL of the element's link, which is its `href`, otherwise its `src`.
    #[must_use]
    pub fn url(self) -> Option<Url> {
        let address = self.attribute("href").or_else(|| self.attribute("src"))?;
        self.page.base_url().join(address.trim()).ok()
    }

    /// Returns the child elements.
    #[must_use]
    pub fn children(self) -> Vec<Self> {
        self.node.child_elements().map(|node| Self::new(node, self.page)).collect()
    }

    /// Returns the parent element.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        self.node.parent().and_then(ElementRef::wrap).map(|node| Self::new(node, self.page))
    }

    /// Returns the next sibling element.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.node.next_siblings().find_map(ElementRef::wrap).map(|node| Self::new(node, self.page))
    }

    /// Returns the nearest matching element among this element and its ancestors.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if no element matches; [`Error::Bug`] if the selector is invalid.
    pub fn closest(self, css: &str) -> Result<Self> {
        let selector = select::parse(css)?;
        let ancestors = std::iter::successors(Some(self), |element| element.parent());
        let mut matching = ancestors.filter(|element| selector.matches(&element.node));
        let description = self.description().unwrap_or_default();
        matching
            .next()
            .ok_or_else(|| Error::vendor_changed(format!("{} has no `{css}` around `{description}`", self.page.url())))
    }

    /// Returns tag, id and classes, in selector syntax; `None` for the whole page.
    pub(super) fn description(self) -> Option<String> {
        self.parent()?;
        let element = self.node.value();
        let id = element.id().map(|id| format!("#{id}")).unwrap_or_default();
        let classes: String = element.classes().map(|class| format!(".{class}")).collect();
        Some(format!("{}{id}{classes}", element.name()))
    }

    /// Returns whether the element is inside a `tag` that has the attribute.
    pub(super) fn is_within(self, tag: &str, attribute: &str) -> bool {
        let ancestors = std::iter::successors(self.parent(), |element| element.parent());
        ancestors.into_iter().any(|element| element.tag() == tag && element.attribute(attribute).is_some())
    }

    /// Returns the matching descendants; for selectors of the SDK itself, which are known to be valid.
    pub(super) fn select_all(self, css: &str) -> Vec<Self> {
        self.select(css).unwrap_or_default()
    }
}

impl fmt::Debug for Element<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.description().unwrap_or_else(|| self.tag().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_up_down_and_sideways() {
        let text = "<dl id=list><dt>Name</dt> <dd>Claude <b>Dupont</b></dd></dl>";
        let page = Page::new(text, Url::parse("https://a.example").unwrap());
        let name = page.select_one("dt").unwrap();
        assert_eq!(name.next().unwrap().inner_text(), "Claude Dupont");
        assert_eq!(name.parent().unwrap().children().len(), 2);
        assert_eq!(page.select_one("b").unwrap().closest("dl").unwrap().attribute("id"), Some("list"));
        let error = page.select_one("b").unwrap().closest("form").unwrap_err();
        insta::assert_snapshot!(error, @"the vendor's site changed: https://a.example/ has no `form` around `b`");
    }
}

use scraper::Selector;
use url::Url;

use super::{Element, Page};
use crate::{Error, Result};

/// Queries with CSS selectors, in a page or within an element. Selectors are standard CSS with `:is`, `:not`, `:has`,
/// `:nth-child` and so on.
///
/// An invalid selector is [`Error::Bug`] in every method.
pub trait Select<'a>: Copy {
    /// Returns the element to search in.
    fn scope(self) -> Element<'a>;

    /// Returns all matching elements, in document order; possibly none.
    ///
    /// # Errors
    ///
    /// If the selector is invalid.
    fn select(self, css: &str) -> Result<Vec<Element<'a>>> {
        let scope = self.scope();
        let selector = parse(css)?;
        Ok(scope.node().select(&selector).map(|node| Element::new(node, scope.page())).collect())
    }

    /// Returns the first matching element, if any.
    ///
    /// # Errors
    ///
    /// If the selector is invalid.
    fn select_opt(self, css: &str) -> Result<Option<Element<'a>>> {
        let scope = self.scope();
        let selector = parse(css)?;
        Ok(scope.node().select(&selector).next().map(|node| Element::new(node, scope.page())))
    }

    /// Returns the first matching element.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`], with the selector and the page, if no element matches.
    fn select_one(self, css: &str) -> Result<Element<'a>> {
        self.select_opt(css)?.ok_or_else(|| missing(self.scope(), &format!("`{css}`")))
    }

    /// Returns whether an element matches.
    ///
    /// # Errors
    ///
    /// If the selector is invalid.
    fn has(self, css: &str) -> Result<bool> {
        Ok(self.select_opt(css)?.is_some())
    }

    /// Returns the text of the first matching element, without markup, with each run of white space collapsed into
    /// one space.
    ///
    /// # Errors
    ///
    /// As [`Self::select_one`].
    fn text(self, css: &str) -> Result<String> {
        Ok(self.select_one(css)?.inner_text())
    }

    /// Returns the text of the first matching element; `None` if it is missing or empty.
    ///
    /// # Errors
    ///
    /// If the selector is invalid.
    fn text_opt(self, css: &str) -> Result<Option<String>> {
        Ok(self.select_opt(css)?.map(Element::inner_text).filter(|text| !text.is_empty()))
    }

    /// Returns an attribute of the first matching element.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if there is no such element, or it has no such attribute.
    fn attr(self, css: &str, name: &str) -> Result<&'a str> {
        let element = self.select_one(css)?;
        element.attribute(name).ok_or_else(|| missing(self.scope(), &format!("attribute `{name}` of `{css}`")))
    }

    /// Returns an attribute of the first matching element, if both exist.
    ///
    /// # Errors
    ///
    /// If the selector is invalid.
    fn attr_opt(self, css: &str, name: &str) -> Result<Option<&'a str>> {
        Ok(self.select_opt(css)?.and_then(|element| element.attribute(name)))
    }

    /// Returns the absolute URL of the first matching element, from its `href` or otherwise its `src`.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if there is no such element, or it has no URL.
    fn link(self, css: &str) -> Result<Url> {
        self.select_one(css)?.url().ok_or_else(|| missing(self.scope(), &format!("URL of `{css}`")))
    }

    /// Returns the absolute URL of the first matching element, if any.
    ///
    /// # Errors
    ///
    /// If the selector is invalid.
    fn link_opt(self, css: &str) -> Result<Option<Url>> {
        Ok(self.select_opt(css)?.and_then(Element::url))
    }
}

impl<'a> Select<'a> for &'a Page {
    fn scope(self) -> Element<'a> {
        self.root()
    }
}

impl<'a> Select<'a> for Element<'a> {
    fn scope(self) -> Self {
        self
    }
}

pub(super) fn parse(css: &str) -> Result<Selector> {
    Selector::parse(css).map_err(|_details| Error::bug(format!("`{css}` is not a valid CSS selector")))
}

fn missing(scope: Element<'_>, expected: &str) -> Error {
    let location = scope.description().map(|element| format!(" within `{element}`")).unwrap_or_default();
    Error::vendor_changed(format!("{} has no {expected}{location}", scope.page().url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BILLS: &str = r#"<table class="bills"><tbody>
        <tr class="bill first"><td class="date"> 3&nbsp;nov.
            2026 </td><td><a class="pdf" href="../1.pdf">PDF</a></td></tr>
        <tr class="bill" id="two"><td class="date"></td><td><a class="pdf">none</a></td></tr>
    </tbody></table>"#;

    fn page() -> Page {
        Page::new(BILLS, Url::parse("https://a.example/account/bills/").unwrap())
    }

    #[test]
    fn finds_texts_attributes_and_links() {
        let page = page();
        let rows = page.select("table.bills tr").unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].text(".date").unwrap(), "3 nov. 2026");
        assert_eq!(rows[0].link("a.pdf").unwrap().as_str(), "https://a.example/account/1.pdf");
        assert_eq!(rows[0].attr("a", "class").unwrap(), "pdf");
        assert_eq!(rows[1].text_opt(".date").unwrap(), None);
        assert_eq!(rows[1].link_opt("a.pdf").unwrap(), None);
        assert!(!rows[1].has(".amount").unwrap());
        assert_eq!(page.select("tr:has(td a[href])").unwrap().len(), 1);
    }

    #[test]
    fn a_missing_element_is_named_with_its_location() {
        let page = page();
        let rows = page.select("tr").unwrap();
        insta::assert_snapshot!(page.select_one(".total").unwrap_err(), @"the vendor's site changed: https://a.example/account/bills/ has no `.total`");
        insta::assert_snapshot!(rows[0].text(".amount").unwrap_err(), @"the vendor's site changed: https://a.example/account/bills/ has no `.amount` within `tr.bill.first`");
        insta::assert_snapshot!(rows[1].link("a.pdf").unwrap_err(), @"the vendor's site changed: https://a.example/account/bills/ has no URL of `a.pdf` within `tr#two.bill`");
        insta::assert_snapshot!(rows[1].attr("td", "title").unwrap_err(), @"the vendor's site changed: https://a.example/account/bills/ has no attribute `title` of `td` within `tr#two.bill`");
        insta::assert_snapshot!(page.select_one("a[").unwrap_err(), @"`a[` is not a valid CSS selector");
    }
}

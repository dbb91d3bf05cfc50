use std::fmt;

use scraper::Html;
use serde::de::DeserializeOwned;
use url::Url;

use super::{Element, Form, Select};
use crate::{Error, Result};

/// A parsed page and its URL. [`Select`] has the queries.
#[derive(Clone)]
pub struct Page {
    html: Html,
    url: Url,
    base: Url,
    charset: Option<String>,
}

impl Page {
    /// Parses a page as a browser does, so any text is a valid page.
    #[must_use]
    pub fn new(text: &str, url: Url) -> Self {
        let html = Html::parse_document(text);
        let base = base_href(&html).and_then(|base| url.join(base).ok()).unwrap_or_else(|| url.clone());
        Self { html, url, base, charset: None }
    }

    /// Parses a page with its original encoding, in which its forms are submitted. The default is UTF-8.
    #[must_use]
    pub fn with_charset(mut self, label: &str) -> Self {
        self.charset = Some(label.to_owned());
        self
    }

    pub(super) fn charset(&self) -> Option<&str> {
        self.charset.as_deref()
    }

    /// Returns the URL of the page, after redirects.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the base URL of the page's links, which is its `<base href>` or otherwise its own URL.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.base
    }

    /// Returns the root element.
    #[must_use]
    pub fn root(&self) -> Element<'_> {
        Element::new(self.html.root_element(), self)
    }

    /// Returns the form that the selector matches, with the fields that it would submit.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if no form matches.
    pub fn form(&self, css: &str) -> Result<Form> {
        Form::new(self.select_one(css)?)
    }

    /// Deserialises the JSON in an element's text, such as `script#__NEXT_DATA__`.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if the element is missing or its JSON does not deserialise.
    pub fn json<T: DeserializeOwned>(&self, css: &str) -> Result<T> {
        let text = self.select_one(css)?.raw_text();
        serde_json::from_str(&text).map_err(|error| Error::from(error).context(format_args!("{} `{css}`", self.url)))
    }

    /// Deserialises the JSON after `marker` in the page's scripts, as in `window.__STATE__ = {"bills": []};` with the
    /// marker `window.__STATE__`.
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if no script has the marker, or the JSON after it does not deserialise.
    pub fn script_json<T: DeserializeOwned>(&self, marker: &str) -> Result<T> {
        let subject = format!("{} after `{marker}` in a script", self.url);
        let scripts = self.select("script")?.into_iter().map(Element::raw_text);
        let after = scripts.filter_map(|script| script.split_once(marker).map(|(_, after)| after.to_owned())).next();
        let after = after.ok_or_else(|| Error::vendor_changed(format!("{subject} was not found")))?;
        let json = after.trim_start_matches(|letter: char| letter.is_whitespace() || "=:(\"'".contains(letter));
        match serde_json::Deserializer::from_str(json).into_iter().next() {
            Some(value) => value.map_err(|error| Error::from(error).context(subject)),
            None => Err(Error::vendor_changed(format!("{subject} is not JSON"))),
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Page({})", self.url)
    }
}

fn base_href(html: &Html) -> Option<&str> {
    html.root_element().descendent_elements().find(|element| element.value().name() == "base")?.attr("href")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page::new(text, Url::parse("https://a.example/dir/page").unwrap())
    }

    #[test]
    fn json_is_found_in_elements_and_in_scripts() {
        let page = page(
            r#"<script id="data" type="application/json">{"name": "a & <b>"}</script>
               <script>let x = 1; window.__STATE__ = {"bills": [1, 2]}; later({});</script>"#,
        );
        let data: serde_json::Value = page.json("#data").unwrap();
        assert_eq!(data["name"], "a & <b>");
        let state: serde_json::Value = page.script_json("window.__STATE__").unwrap();
        assert_eq!(state["bills"][1], 2);
        let error = page.script_json::<Vec<u8>>("window.__STATE__").unwrap_err();
        insta::assert_snapshot!(error, @"the vendor's site changed: https://a.example/dir/page after `window.__STATE__` in a script: invalid type: map, expected a sequence at line 1 column 0");
        let error = page.script_json::<u8>("window.__DATA__").unwrap_err();
        insta::assert_snapshot!(error, @"the vendor's site changed: https://a.example/dir/page after `window.__DATA__` in a script was not found");
    }

    #[test]
    fn a_base_element_moves_the_links() {
        let page = page(r#"<base href="/other/"><a href="x">x</a>"#);
        assert_eq!(page.link("a").unwrap().as_str(), "https://a.example/other/x");
    }
}

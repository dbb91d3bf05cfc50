use std::collections::HashSet;

use super::Client;
use crate::html::{Page, Select};
use crate::{Error, Result};

/// The pages of a list, one after the other; see [`Client::pages`]. The iterator ends after a failure, and if a page
/// links back to an earlier page.
#[derive(Debug)]
#[must_use = "pages are fetched only when they are iterated"]
pub struct Pages<'a> {
    client: &'a Client,
    next_selector: String,
    next: Option<String>,
    seen: HashSet<String>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(client: &'a Client, first: &str, next_selector: &str) -> Self {
        let next_selector = next_selector.to_owned();
        Self { client, next_selector, next: Some(first.to_owned()), seen: HashSet::new() }
    }

    fn fetch(&mut self, address: &str) -> Result<Page> {
        let page = self.client.get(address).html()?;
        self.seen.insert(page.url().to_string());
        let next = (&page).link_opt(&self.next_selector)?.map(String::from);
        self.next = next.filter(|next| !self.seen.contains(next));
        Ok(page)
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Page, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let address = self.next.take()?;
        Some(self.fetch(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MockHost;

    #[test]
    fn follows_links_and_ends_where_they_lead_back() {
        let _host = MockHost::new()
            .respond("https://a.example/list", r#"<p>1</p><a rel="next" href="?page=2">more</a>"#)
            .respond("https://a.example/list?page=2", r#"<p>2</p><a rel="next" href="/list">more</a>"#);
        let client = Client::new("https://a.example").unwrap();
        let texts: Result<Vec<_>> = client.pages("/list", "a[rel=next]").map(|page| (&page?).text("p")).collect();
        assert_eq!(texts.unwrap(), ["1", "2"]);
    }

    #[test]
    fn ends_after_a_failure() {
        let _host = MockHost::new().respond("https://a.example/list", r#"<a rel="next" href="/gone">more</a>"#);
        let client = Client::new("https://a.example").unwrap();
        let pages: Vec<_> = client.pages("/list", "a[rel=next]").collect();
        assert!(matches!(pages.as_slice(), [Ok(_), Err(Error::VendorChanged(_))]));
    }
}

//! The bank's web site, read with only the standard library.

use std::collections::BTreeMap;

use url::form_urlencoded;

use crate::http::{Request, Response, send};

/// More pages than a contract has; stops an endless list.
const MAX_PAGES: usize = 100;

/// A visitor with one cookie.
pub struct Bank {
    url: String,
    cookie: Option<String>,
}

/// A bill as shown on the bank's page.
#[derive(Debug, PartialEq, Eq)]
pub struct Bill {
    /// The bank's number of the bill.
    pub reference: String,
    /// Subject of the bill.
    pub subject: String,
    /// The amount as written on the page.
    pub amount: String,
    /// The date as written on the page.
    pub date: String,
    pdf: String,
}

impl Bank {
    /// Creates a client of the bank at a URL.
    pub fn new(url: &str) -> Result<Self, String> {
        Ok(Self { url: url.trim_end_matches('/').to_owned(), cookie: None })
    }

    /// Logs in; returns whether the password is right.
    pub fn log_in(&mut self, login: &str, password: &str) -> Result<bool, String> {
        let page = text(self.send("GET", "/login", None)?)?;
        let csrf = between(&page, "name=\"csrf_token\" value=\"", "\"").ok_or("the login page has no form")?;
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("csrf_token", csrf), ("login", login), ("password", password)])
            .finish();
        Ok(self.send("POST", "/login", Some(form))?.status == 303)
    }

    /// Returns all bills of all contracts. The home page links some lists twice.
    pub fn bills(&mut self) -> Result<Vec<Bill>, String> {
        let home = text(self.send("GET", "/account/home", None)?)?;
        let mut bills = BTreeMap::new();
        for link in all_between(&home, "<a href=\"/account/bills", "\"") {
            let mut next = Some(format!("/account/bills{}", unescape(link)));
            for _ in 0..MAX_PAGES {
                let Some(path) = next.take() else { break };
                let page = text(self.send("GET", &path, None)?)?;
                let rows = all_between(&page, "<tr class=\"bill\"", "</tr>").filter_map(bill);
                bills.extend(rows.map(|bill| (bill.reference.clone(), bill)));
                next = between(&page, "rel=\"next\" href=\"", "\"").map(unescape);
            }
        }
        Ok(bills.into_values().collect())
    }

    /// Downloads the PDF of a bill.
    pub fn pdf(&mut self, bill: &Bill) -> Result<Vec<u8>, String> {
        let response = self.send("GET", &bill.pdf, None)?;
        if response.status == 200 { Ok(response.body) } else { Err(format!("VENDOR_DOWN: {}", response.status)) }
    }

    fn send(&mut self, method: &'static str, path: &str, form: Option<String>) -> Result<Response, String> {
        let mut request = Request::new(method, &format!("{}{path}", self.url))?;
        request.headers.push(("Accept-Language".to_owned(), "en".to_owned()));
        request.headers.extend(self.cookie.clone().map(|cookie| ("Cookie".to_owned(), cookie)));
        if let Some(form) = form {
            request.headers.push(("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
            request.body = form.into_bytes();
        }
        let response = send(request).map_err(|error| format!("VENDOR_DOWN: {error}"))?;
        if let Some(cookie) = response.header("set-cookie").and_then(|cookie| cookie.split(';').next()) {
            self.cookie = Some(cookie.to_owned());
        }
        Ok(response)
    }
}

fn text(response: Response) -> Result<String, String> {
    if response.status >= 500 {
        return Err(format!("VENDOR_DOWN: {}", response.status));
    }
    Ok(String::from_utf8_lossy(&response.body).into_owned())
}

fn bill(row: &str) -> Option<Bill> {
    let cell = |class: &str| between(row, &format!("<td class=\"{class}\">"), "</td>").map(unescape);
    Some(Bill {
        reference: cell("reference")?,
        subject: cell("subject")?,
        amount: cell("amount")?,
        date: cell("date")?,
        pdf: between(row, "<a href=\"", "\"").map(unescape)?,
    })
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    all_between(text, before, after).next()
}

fn all_between<'a>(text: &'a str, before: &str, after: &str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
}

fn unescape(text: &str) -> String {
    text.trim().replace("&#38;", "&").replace("&amp;", "&").replace("&#39;", "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_bill() {
        let row = r#" data-reference="B1"><td class="date">Nov 3, 2026</td><td class="reference">B1</td>
            <td class="subject">Fees &amp; more</td><td class="amount"> €1.50 </td><td class="document"><a href="/b/1.pdf">x</a></td>"#;
        let text = |text: &str| text.to_owned();
        assert_eq!(
            bill(row),
            Some(Bill {
                reference: text("B1"),
                subject: text("Fees & more"),
                amount: text("€1.50"),
                date: text("Nov 3, 2026"),
                pdf: text("/b/1.pdf")
            })
        );
        assert_eq!(bill("<td>nothing</td>"), None);
    }
}

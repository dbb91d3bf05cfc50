use std::collections::hash_map::RandomState;
use std::fmt::Display;
use std::hash::{BuildHasher as _, Hasher as _};

use url::Url;

use super::Element;
use crate::http::{Client, RequestBuilder, Response};
use crate::{Error, Result};

/// A form of a page with the fields that it would submit, which are its successful controls, hidden ones included (HTML
/// §4.10.21.4 "Constructing the entry list").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    method: String,
    action: Url,
    page: Url,
    /// The controls' names, including controls that submit nothing until they are set.
    names: Vec<String>,
    fields: Vec<(String, String)>,
    /// Names of the file controls.
    files: Vec<String>,
    encoding: Encoding,
    /// Charset labels for the submission.
    charset: String,
}

/// Encoding of the fields in the body of a POST (HTML §4.10.21.5, `enctype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    UrlEncoded,
    Multipart,
    Plain,
}

impl Encoding {
    fn from_name(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "multipart/form-data" => Self::Multipart,
            "text/plain" => Self::Plain,
            _ => Self::UrlEncoded,
        }
    }
}

/// The field whose value is the encoding (HTML §4.10.21.4, step 5.10); the host fills it in.
const CHARSET_FIELD: &str = "_charset_";

impl Form {
    pub(super) fn new(element: Element<'_>) -> Result<Self> {
        let page = element.page().url();
        if element.tag() != "form" {
            return Err(Error::vendor_changed(format!("{page} has a `{}` where a form was expected", element.tag())));
        }
        let action = match element.attribute("action").map(str::trim).filter(|action| !action.is_empty()) {
            None => page.clone(),
            Some(action) => element.page().base_url().join(action).map_err(|error| {
                Error::vendor_changed(format!("{page} has a form with the action `{action}`: {error}"))
            })?,
        };
        let method = element.attribute("method").unwrap_or("get").trim().to_ascii_uppercase();
        // HTML §4.10.21.5, "pick an encoding for the form".
        let accepted = element.attribute("accept-charset").map(str::trim).filter(|labels| !labels.is_empty());
        let charset = accepted.or(element.page().charset()).unwrap_or("UTF-8").to_owned();
        let mut form = Self {
            method,
            action,
            page: page.clone(),
            names: Vec::new(),
            fields: Vec::new(),
            files: Vec::new(),
            encoding: Encoding::from_name(element.attribute("enctype").unwrap_or_default()),
            charset,
        };
        for control in controls(element) {
            form.read(control);
        }
        Ok(form)
    }

    fn read(&mut self, control: Element<'_>) {
        let Some(name) = control.attribute("name").filter(|name| !name.is_empty()) else { return };
        if control.attribute("disabled").is_some() || control.is_within("fieldset", "disabled") {
            return;
        }
        self.names.push(name.to_owned());
        let values = match control.tag() {
            "textarea" => vec![control.node().text().collect()],
            "select" => selected(control),
            "input" if is_hidden(control) && name.eq_ignore_ascii_case(CHARSET_FIELD) => vec![String::new()],
            // No file is chosen, so an empty file is sent.
            "input" if is_of_type(control, "file") => {
                self.files.push(name.to_owned());
                vec![String::new()]
            }
            "input" => input(control).into_iter().collect(),
            _ => Vec::new(),
        };
        self.fields.extend(values.into_iter().map(|value| (name.to_owned(), value)));
    }

    /// Fills in a control. The value may be a [`crate::Secret`].
    ///
    /// # Errors
    ///
    /// [`Error::VendorChanged`] if the form has no such control, listing the existing ones.
    pub fn set(self, name: &str, value: impl Display) -> Result<Self> {
        if !self.names.iter().any(|known| known == name) {
            let names = self.names.join(", ");
            let text = format!("the form at {} has no control `{name}`; its controls are {names}", self.page);
            return Err(Error::vendor_changed(text));
        }
        Ok(self.put(name, value))
    }

    /// Adds a field whether or not the form has such a control, for fields that a script of the page would add.
    #[must_use]
    pub fn put(mut self, name: &str, value: impl Display) -> Self {
        let value = value.to_string();
        let index = self.fields.iter().position(|(known, _)| known == name).unwrap_or(self.fields.len());
        self.fields.retain(|(known, _)| known != name);
        self.fields.insert(index.min(self.fields.len()), (name.to_owned(), value));
        self
    }

    /// Returns the value that the form would submit under this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the URL to which the form is submitted.
    #[must_use]
    pub fn action(&self) -> &Url {
        &self.action
    }

    /// Returns the request that a browser would send, so that the caller can add headers.
    pub fn request<'c>(&self, client: &'c Client) -> RequestBuilder<'c> {
        let fields: Vec<_> = self.fields.iter().map(|(name, value)| (with_crlf(name), with_crlf(value))).collect();
        let request = if self.method == "POST" {
            let post = client.post(&self.action);
            match self.encoding {
                Encoding::UrlEncoded => post.form(&fields),
                Encoding::Multipart => self.multipart(post, &fields),
                Encoding::Plain => {
                    let lines: String = fields.iter().map(|(name, value)| format!("{name}={value}\r\n")).collect();
                    post.body("text/plain", lines)
                }
            }
        } else {
            let mut url = self.action.clone();
            url.query_pairs_mut().clear().extend_pairs(&fields);
            client.get(url)
        };
        let request = request.header("referer", referer(&self.page));
        let names_its_charset =
            fields.iter().any(|(name, value)| name.eq_ignore_ascii_case(CHARSET_FIELD) && value.is_empty());
        // The host transcodes URL-encoded forms and the query.
        let is_transcoded = self.method != "POST" || self.encoding == Encoding::UrlEncoded;
        if is_transcoded && (names_its_charset || !self.charset.eq_ignore_ascii_case("utf-8")) {
            return request.form_charset(&self.charset);
        }
        request
    }

    /// Encodes the form as `multipart/form-data` (RFC 7578), with the escapes of HTML §4.10.21.7.
    fn multipart<'c>(&self, request: RequestBuilder<'c>, fields: &[(String, String)]) -> RequestBuilder<'c> {
        let boundary = boundary();
        let escape = |name: &str| name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22");
        let mut body = String::new();
        for (name, value) in fields {
            let is_charset = name.eq_ignore_ascii_case(CHARSET_FIELD) && value.is_empty();
            let value = if is_charset { "UTF-8" } else { value.as_str() };
            body.push_str(&format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", escape(name)));
            if value.is_empty() && self.files.contains(name) {
                body.push_str("; filename=\"\"\r\nContent-Type: application/octet-stream");
            }
            body.push_str(&format!("\r\n\r\n{value}\r\n"));
        }
        body.push_str(&format!("--{boundary}--\r\n"));
        request.body(&format!("multipart/form-data; boundary={boundary}"), body)
    }

    /// Submits the form.
    ///
    /// # Errors
    ///
    /// As [`Client::send`] and [`Response::error_for_status`].
    pub fn submit(&self, client: &Client) -> Result<Response> {
        self.request(client).send()?.error_for_status()
    }
}

/// Returns the form's controls: those inside it, and those elsewhere that refer to it.
fn controls<'a>(form: Element<'a>) -> Vec<Element<'a>> {
    let id = form.attribute("id");
    let all = form.page().root().select_all("input, select, textarea, button");
    let is_own = |control: &Element<'a>| match control.attribute("form") {
        Some(named) => id == Some(named),
        None => std::iter::successors(Some(*control), |element| element.parent())
            .any(|ancestor| ancestor.node() == form.node()),
    };
    all.into_iter().filter(is_own).collect()
}

fn is_hidden(control: Element<'_>) -> bool {
    is_of_type(control, "hidden")
}

fn is_of_type(control: Element<'_>, expected: &str) -> bool {
    control.attribute("type").is_some_and(|kind| kind.eq_ignore_ascii_case(expected))
}

/// Creates a line that occurs in no value, because it is unguessable. The host inserts secret values later, so they
/// cannot be checked here.
fn boundary() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("----konnector{:016x}{:016x}", random(), random())
}

/// Ends every line with CR LF, as forms do (HTML §4.10.21.8).
fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace(['\r', '\n'], "\r\n")
}

fn input(control: Element<'_>) -> Option<String> {
    let value = control.attribute("value");
    match control.attribute("type").unwrap_or("text").to_ascii_lowercase().as_str() {
        // A button submits its value only if it is pressed; `set` does that.
        "submit" | "image" | "reset" | "button" => None,
        "checkbox" | "radio" => control.attribute("checked").map(|_| value.unwrap_or("on").to_owned()),
        _ => Some(value.unwrap_or_default().to_owned()),
    }
}

fn selected(control: Element<'_>) -> Vec<String> {
    let options = control.select_all("option:not([disabled])");
    let value = |option: &Element<'_>| option.attribute("value").map_or_else(|| option.inner_text(), ToOwned::to_owned);
    let chosen: Vec<_> = options.iter().filter(|option| option.attribute("selected").is_some()).map(value).collect();
    if chosen.is_empty() && control.attribute("multiple").is_none() {
        // A browser shows the first option of a drop-down list, and submits the option that it shows.
        return options.first().map(value).into_iter().collect();
    }
    chosen
}

/// Returns the value of `Referer` (RFC 9110 §10.1.3), which is the URL without fragment and user.
fn referer(page: &Url) -> String {
    let mut page = page.clone();
    page.set_fragment(None);
    // Fails only for URLs that cannot have a user.
    let _ = page.set_username("");
    let _ = page.set_password(None);
    page.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::Page;
    use crate::testing::MockHost;

    const PAGE: &str = r#"
        <form id="login" method="post" action="session">
          <input type="hidden" name="csrf_token" value="a+b">
          <input name="login" value="old"><input type="password" name="password">
          <input type="checkbox" name="remember"><input type="checkbox" name="news" checked>
          <input type="radio" name="kind" value="1"><input type="radio" name="kind" value="2" checked>
          <select name="country"><option value="fr">France</option><option>Suisse</option></select>
          <select name="tags" multiple><option>a</option></select>
          <textarea name="note">
two lines</textarea>
          <input name="off" disabled> <fieldset disabled><input name="off2" value="x"></fieldset>
          <input type="submit" name="go" value="Go"><input value="nameless">
        </form>
        <input form="login" name="outside" value="in">
        <form id="search" action="/search?old=1"><input name="q"></form>"#;

    fn page() -> Page {
        Page::new(PAGE, Url::parse("https://me:pass@a.example/account/login#top").unwrap())
    }

    #[test]
    fn sends_what_a_browser_would_send() {
        let form = page().form("#login").unwrap();
        let pairs: Vec<_> = form.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(pairs.join(" "), @"csrf_token=a+b login=old password= news=on kind=2 country=fr note=two lines outside=in");
        assert_eq!(form.action().as_str(), "https://me:pass@a.example/account/session");
    }

    #[test]
    fn filled_in_values_stand_in_place_of_the_pages() {
        let host = MockHost::new().secret("password").respond("https://me:pass@a.example/account/session", "welcome");
        let secret = crate::Secret::load("password").unwrap();
        let form = page().form("#login").unwrap().set("login", "é").unwrap().set("password", secret).unwrap();
        let response = form.set("go", "Go").unwrap().submit(&Client::new("https://a.example").unwrap()).unwrap();
        assert_eq!(response.text().unwrap(), "welcome");
        let sent = &host.requests()[0];
        insta::assert_snapshot!(sent.body, @"csrf_token=a%2Bb&login=%C3%A9&password=secret-password-placeholder&news=on&kind=2&country=fr&note=two+lines&outside=in&go=Go");
        assert!(sent.headers.contains(&("referer".to_owned(), "https://a.example/account/login".to_owned())));
    }

    /// Returns the requested charset and the body for a page in this encoding.
    fn sent(page: &str, charset: Option<&str>) -> (Option<String>, String) {
        let address = "https://a.example/send";
        let host = MockHost::new().respond(address, "fine");
        let page = Page::new(page, Url::parse("https://a.example/").unwrap());
        let page = charset.map_or_else(|| page.clone(), |charset| page.clone().with_charset(charset));
        page.form("form").unwrap().submit(&Client::new("https://a.example").unwrap()).unwrap();
        let request = host.requests().remove(0);
        (request.form_charset, request.body)
    }

    #[test]
    fn a_form_is_sent_in_the_encoding_of_its_page() {
        let form = |attributes: &str, more: &str| {
            format!("<form method=post action=/send {attributes}><input name=a value=\u{e9}>{more}</form>")
        };
        let field = "<input type=hidden name=_charset_ value=x>";
        let charset = |page: &str, charset| sent(page, charset).0;
        assert_eq!(charset(&form("", ""), None), None);
        assert_eq!(charset(&form("", ""), Some("UTF-8")), None);
        assert_eq!(charset(&form("", ""), Some("windows-1252")).as_deref(), Some("windows-1252"));
        let accepting = form("accept-charset=' x-unknown iso-8859-15 '", "");
        assert_eq!(charset(&accepting, Some("windows-1252")).as_deref(), Some("x-unknown iso-8859-15"));
        assert_eq!(charset(&form("accept-charset=UTF-8", ""), Some("windows-1252")), None);
        assert_eq!(sent(&form("", field), None), (Some("UTF-8".to_owned()), "a=%C3%A9&_charset_=".to_owned()));
    }

    /// Returns the media type and the body of a submission of this kind, with `B` for its boundary.
    fn encoded(enctype: &str) -> (String, String) {
        let host = MockHost::new().respond("https://a.example/send", "fine");
        let page = format!(
            "<form method=post action=/send enctype='{enctype}'><input name='a\"b' value=\u{e9}><input type=file name=f><input type=hidden name=_charset_></form>"
        );
        let page = Page::new(&page, Url::parse("https://a.example/").unwrap());
        page.form("form").unwrap().submit(&Client::new("https://a.example").unwrap()).unwrap();
        let request = host.requests().remove(0);
        let kind = request.headers.iter().find(|(name, _)| name == "content-type").unwrap().1.clone();
        let boundary = kind.split_once("boundary=").map(|(_, boundary)| boundary.to_owned()).unwrap_or_default();
        if boundary.is_empty() {
            (kind, request.body)
        } else {
            (kind.replace(&boundary, "B"), request.body.replace(&boundary, "B"))
        }
    }

    #[test]
    fn a_form_is_sent_as_its_page_says() {
        let (kind, body) = encoded("Multipart/Form-Data");
        assert_eq!(kind, "multipart/form-data; boundary=B");
        assert_eq!(
            body.split("\r\n").collect::<Vec<_>>(),
            [
                "--B",
                "Content-Disposition: form-data; name=\"a%22b\"",
                "",
                "\u{e9}",
                "--B",
                "Content-Disposition: form-data; name=\"f\"; filename=\"\"",
                "Content-Type: application/octet-stream",
                "",
                "",
                "--B",
                "Content-Disposition: form-data; name=\"_charset_\"",
                "",
                "UTF-8",
                "--B--",
                "",
            ]
        );
        assert_eq!(encoded("text/plain"), ("text/plain".to_owned(), "a\"b=\u{e9}\r\nf=\r\n_charset_=\r\n".to_owned()));
        let (kind, body) = encoded("application/json");
        assert_eq!((kind.as_str(), body.as_str()), ("application/x-www-form-urlencoded", "a%22b=%C3%A9&f=&_charset_="));
    }

    #[test]
    fn lines_end_as_in_a_browser() {
        let page = "<form method=post action=/send><textarea name=a>one\ntwo</textarea></form>";
        assert_eq!(sent(page, None).1, "a=one%0D%0Atwo");
    }

    #[test]
    fn the_encoding_of_a_response_is_that_of_its_page() {
        let _host = MockHost::new()
            .respond("https://a.example/", crate::testing::MockResponse::from("<form>").charset("windows-1252"));
        let response = Client::new("https://a.example").unwrap().get("/").send().unwrap();
        assert_eq!(response.charset(), Some("windows-1252"));
        assert_eq!(response.html().unwrap().charset(), Some("windows-1252"));
    }

    #[test]
    fn a_search_form_becomes_the_addresss_query() {
        let host = MockHost::new().respond("https://me:pass@a.example/search?q=a+b", "found");
        let form = page().form("#search").unwrap().set("q", "a b").unwrap();
        form.submit(&Client::new("https://a.example").unwrap()).unwrap();
        assert_eq!(host.requests()[0].method, "GET");
    }

    #[test]
    fn a_missing_control_is_named() {
        let error = page().form("#search").unwrap().set("login", "x").unwrap_err();
        insta::assert_snapshot!(error, @"the vendor's site changed: the form at https://me:pass@a.example/account/login#top has no control `login`; its controls are q");
        assert!(matches!(page().form("input"), Err(Error::VendorChanged(_))));
    }
}

//! CardDAV: finding the address books (RFC 6764, RFC 6352 §7.1) and reading their cards (RFC 6352 §8.6, §8.7).

use konnector_sdk::http::Response;
use konnector_sdk::{Action, Error, Result, Url, prelude::Client};
use quick_xml::escape::escape;

use crate::state::Key;
use crate::xml::Element;

const NAMESPACES: &str =
    r#"xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:carddav" xmlns:S="http://calendarserver.org/ns/""#;

/// An address book of the user.
#[derive(Debug, PartialEq, Eq)]
pub struct AddressBook {
    pub url: Url,
    pub name: String,
    /// Changes whenever a card of the book does; not every server has one.
    pub tag: Option<String>,
}

/// A card of an address book, as listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub url: Url,
    /// Its address as the server writes it, which is how the server wants to be asked for it.
    pub href: String,
    pub etag: String,
}

/// A card with its content.
#[derive(Debug, PartialEq, Eq)]
pub struct Card {
    pub url: Url,
    pub href: String,
    pub etag: String,
    pub text: String,
}

impl Entry {
    pub fn key(&self) -> Key {
        Key::of(&self.url)
    }
}

impl Card {
    pub fn key(&self) -> Key {
        Key::of(&self.url)
    }
}

/// A client for the server that the user named.
pub fn client(url: &str) -> Result<Client> {
    Client::new(url.trim()).map_err(|error| {
        let text = format!("{error}; give the server's whole address, for example https://dav.example.org");
        Error::user_action(Action::Unspecified, text)
    })
}

/// The user's address books, whatever the address names: the server, the user, the home of the books or one book.
pub fn address_books(client: &Client) -> Result<Vec<AddressBook>> {
    let home = home(client)?;
    let what = "<D:resourcetype/><D:displayname/><S:getctag/>";
    let books: Vec<_> = propfind(client, &home, 1, what)?.iter().filter_map(Resource::address_book).collect();
    if books.is_empty() {
        return Err(Error::user_action(
            Action::Unspecified,
            format!("there is no address book at {home}; check the address"),
        ));
    }
    Ok(books)
}

fn home(client: &Client) -> Result<Url> {
    let what = "<D:current-user-principal/><C:addressbook-home-set/><D:resourcetype/>";
    let well_known = client.base().join("/.well-known/carddav")?;
    let mut last = None;
    for start in [client.base().clone(), well_known] {
        let found = match propfind(client, &start, 0, what) {
            Ok(found) => found,
            // Many servers answer their front page to whoever asks there for an address book.
            Err(Error::VendorChanged(text)) => {
                last = Some(text);
                continue;
            }
            Err(error) => return Err(error),
        };
        for resource in &found {
            if let Some(home) = resource.link("addressbook-home-set") {
                return Ok(home);
            }
            if resource.is_address_book() {
                return Ok(resource.url.clone());
            }
            if let Some(principal) = resource.link("current-user-principal") {
                let principal = propfind(client, &principal, 0, "<C:addressbook-home-set/>")?;
                if let Some(home) = principal.iter().find_map(|resource| resource.link("addressbook-home-set")) {
                    return Ok(home);
                }
            }
        }
    }
    let why = last.map(|text| format!(" ({text})")).unwrap_or_default();
    let text = format!("{} is no CardDAV server{why}; check the address", client.base());
    Err(Error::user_action(Action::Unspecified, text))
}

/// The cards of a book with their ETags.
pub fn list(client: &Client, book: &AddressBook) -> Result<Vec<Entry>> {
    let body =
        format!("<C:addressbook-query {NAMESPACES}><D:prop><D:getetag/></D:prop><C:filter/></C:addressbook-query>");
    let found = multistatus(ask(client, "REPORT", &book.url, 1, &body)?)?;
    let entry =
        |resource: Resource| Some(Entry { etag: resource.text("getetag")?, url: resource.url, href: resource.href });
    Ok(found.into_iter().filter_map(entry).collect())
}

/// The content of these cards; one that is gone meanwhile is left out.
pub fn fetch(client: &Client, book: &AddressBook, hrefs: &[&str]) -> Result<Vec<Card>> {
    let hrefs: String = hrefs.iter().map(|href| format!("<D:href>{}</D:href>", escape(*href))).collect();
    let what = "<D:prop><D:getetag/><C:address-data/></D:prop>";
    let body = format!("<C:addressbook-multiget {NAMESPACES}>{what}{hrefs}</C:addressbook-multiget>");
    let found = multistatus(ask(client, "REPORT", &book.url, 1, &body)?)?;
    let card = |resource: Resource| {
        let (etag, text) = (resource.text("getetag")?, resource.text("address-data")?);
        Some(Card { url: resource.url, href: resource.href, etag, text })
    };
    Ok(found.into_iter().filter_map(card).collect())
}

fn propfind(client: &Client, url: &Url, depth: u8, what: &str) -> Result<Vec<Resource>> {
    let body = format!("<D:propfind {NAMESPACES}><D:prop>{what}</D:prop></D:propfind>");
    multistatus(ask(client, "PROPFIND", url, depth, &body)?)
}

fn ask(client: &Client, method: &str, url: &Url, depth: u8, body: &str) -> Result<Response> {
    let body = format!(r#"<?xml version="1.0" encoding="utf-8"?>{body}"#);
    let answer =
        client.request(method, url).header("depth", depth).body("application/xml; charset=utf-8", body).send()?;
    answer.error_for_status()
}

/// One answer within a `multistatus` (RFC 4918 §13).
struct Resource {
    url: Url,
    href: String,
    /// The `prop` elements of those properties that the server has.
    properties: Vec<Element>,
}

fn multistatus(answer: Response) -> Result<Vec<Resource>> {
    let base = answer.url().clone();
    if answer.status() != 207 {
        return Err(Error::vendor_changed(format!("{base} answered {} and no list", answer.status())));
    }
    let mut resources = Vec::new();
    for response in Element::parse(&answer.text()?)?.into_all("response") {
        let Some(href) = response.find(&["href"]).map(|href| href.text().to_owned()) else { continue };
        let found = |status: &Element| status.find(&["status"]).is_none_or(|line| line.text().contains(" 200"));
        let properties = response.into_all("propstat").filter(found).flat_map(|status| status.into_all("prop"));
        resources.push(Resource { url: base.join(&href)?, href, properties: properties.collect() });
    }
    Ok(resources)
}

impl Resource {
    fn property(&self, path: &[&str]) -> Option<&Element> {
        self.properties.iter().find_map(|properties| properties.find(path))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.property(&[name]).map(|property| property.text().to_owned()).filter(|text| !text.is_empty())
    }

    /// The address within a property.
    fn link(&self, name: &str) -> Option<Url> {
        self.url.join(self.property(&[name, "href"])?.text()).ok()
    }

    fn is_address_book(&self) -> bool {
        self.property(&["resourcetype", "addressbook"]).is_some()
    }

    fn address_book(&self) -> Option<AddressBook> {
        let last = || self.url.path_segments()?.rfind(|part| !part.is_empty()).map(ToOwned::to_owned);
        let name = self.text("displayname").or_else(last).unwrap_or_default();
        self.is_address_book().then(|| AddressBook { url: self.url.clone(), name, tag: self.text("getctag") })
    }
}

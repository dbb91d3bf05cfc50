//! CardDAV: finds the address books (RFC 6764, RFC 6352 §7.1) and reads their cards (RFC 6352 §8.6, §8.7).

use std::collections::HashSet;

use konnector_sdk::http::Response;
use konnector_sdk::{Action, Error, Result, Url, prelude::Client};
use quick_xml::escape::escape;

use crate::multistatus::{Multistatus, Resource, normalize};
use crate::state::CardKey;

const NAMESPACES: &str =
    r#"xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:carddav" xmlns:S="http://calendarserver.org/ns/""#;

/// The server that the user specified, and the server of the address books, if the user specified that, too.
pub struct CardDavServer {
    main: Client,
    books: Option<Client>,
}

/// An address book of the user.
#[derive(Debug, PartialEq, Eq)]
pub struct AddressBook {
    pub url: Url,
    pub name: String,
    /// Changes whenever a card of the book changes; not every server provides it.
    pub tag: Option<String>,
}

/// The address books of the server.
#[derive(Debug, Default)]
pub struct AddressBooks {
    pub books: Vec<AddressBook>,
    /// Whether the list is complete; otherwise a missing book may still exist.
    pub is_complete: bool,
}

/// A card of an address book, as listed.
#[derive(Debug, PartialEq, Eq)]
pub struct CardEntry {
    pub url: Url,
    /// The URL as the server writes it, which is the form that the server expects in requests.
    pub href: String,
    /// Not every response has one.
    pub etag: Option<String>,
    /// Size in bytes, if the server reports it.
    pub size: Option<u64>,
}

/// The cards of an address book.
#[derive(Debug, Default)]
pub struct BookListing {
    pub entries: Vec<CardEntry>,
    /// Cards that exist but could not be read, with the reason.
    pub unreadable: Vec<(CardKey, String)>,
    /// Whether the list is complete, so that a card that is missing from it no longer exists.
    pub is_complete: bool,
}

/// A card with its content.
#[derive(Debug, PartialEq, Eq)]
pub struct Card {
    pub url: Url,
    pub href: String,
    pub etag: Option<String>,
    pub text: String,
}

/// Result of a request for several cards.
#[derive(Debug, Default)]
pub struct FetchedCards {
    pub cards: Vec<Card>,
    pub missing: HashSet<CardKey>,
    /// Cards without content, with the reason.
    pub failed: Vec<(CardKey, String)>,
}

impl CardEntry {
    pub fn key(&self) -> CardKey {
        CardKey::with_final_url(&self.url)
    }
}

impl Card {
    pub fn key(&self) -> CardKey {
        CardKey::with_final_url(&self.url)
    }
}

impl CardDavServer {
    /// Creates the server at `url`; `books` is the URL of the address books, if they are on another server.
    pub fn new(url: &str, books: Option<&str>, prepare: impl Fn(Client) -> Client) -> Result<Self> {
        let client = |url: &str| {
            Client::new(url.trim()).map(&prepare).map_err(|error| {
                let text = format!("{error}; enter the server's full address, for example https://dav.example.org");
                Error::user_action(Action::Unspecified, text)
            })
        };
        let books = books.map(str::trim).filter(|books| !books.is_empty());
        Ok(Self { main: client(url)?, books: books.map(client).transpose()? })
    }

    /// Returns the client that authenticates at the user's server.
    pub fn client(&self) -> &Client {
        &self.main
    }

    /// Finds the user's address books from the URL of any of these: the server, the user, the home of the books or one
    /// book.
    pub fn address_books(&self) -> Result<AddressBooks> {
        let homes = self.homes()?;
        let properties = "<D:resourcetype/><D:displayname/><S:getctag/>";
        let mut found = AddressBooks { is_complete: true, ..AddressBooks::default() };
        for home in &homes {
            let listed = self.propfind(home, 1, properties).map_err(|error| self.explain(error, home))?;
            found.is_complete &= listed.is_complete && listed.unreadable.is_empty();
            // Without its type, a resource may be a book that cannot be read at the moment.
            found.is_complete &= listed.resources.iter().all(|resource| resource.has(&["resourcetype"]));
            found.books.extend(listed.resources.iter().filter_map(address_book));
        }
        if found.books.is_empty() {
            let home = homes.first().unwrap_or(self.main.base_url());
            let text = format!("there is no address book at {home}; check the address");
            return Err(Error::user_action(Action::Unspecified, text));
        }
        let mut known = HashSet::new();
        found.books.retain(|book| known.insert(normalize(&book.url)));
        Ok(found)
    }

    fn homes(&self) -> Result<Vec<Url>> {
        if let Some(books) = &self.books {
            return Ok(vec![books.base_url().clone()]);
        }
        let properties = "<D:current-user-principal/><C:addressbook-home-set/><D:resourcetype/>";
        let well_known = self.main.base_url().join("/.well-known/carddav")?;
        let mut last = None;
        for start in [self.main.base_url().clone(), well_known] {
            let found = match self.propfind(&start, 0, properties) {
                Ok(found) => found,
                // Many servers return their front page to a request for an address book there.
                Err(Error::VendorChanged(text)) => {
                    last = Some(text);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for resource in &found.resources {
                let homes = resource.links("addressbook-home-set");
                if !homes.is_empty() {
                    return Ok(homes);
                }
                if is_address_book(resource) {
                    return Ok(vec![resource.url.clone()]);
                }
                if let Some(principal) = resource.links("current-user-principal").first() {
                    let found = self.propfind(principal, 0, "<C:addressbook-home-set/>");
                    let found = found.map_err(|error| self.explain(error, principal))?;
                    let homes: Vec<Url> =
                        found.resources.iter().flat_map(|resource| resource.links("addressbook-home-set")).collect();
                    if !homes.is_empty() {
                        return Ok(homes);
                    }
                }
            }
        }
        let reason = last.map(|text| format!(" ({text})")).unwrap_or_default();
        let text = format!("{} is not a CardDAV server{reason}; check the address", self.main.base_url());
        Err(Error::user_action(Action::Unspecified, text))
    }

    /// Explains a denial, because a server may store the address books on another host, which the user has not allowed
    /// yet.
    fn explain(&self, error: Error, address: &Url) -> Error {
        match error {
            Error::Denied(_) if address.origin() != self.main.base_url().origin() => {
                let text = format!(
                    "{} stores the address books at {address}; enter this address as the address of the address books to allow it",
                    self.main.base_url().host_str().unwrap_or_default()
                );
                Error::user_action(Action::Unspecified, text)
            }
            error => error,
        }
    }

    /// Lists the cards of a book.
    pub fn list(&self, book: &AddressBook) -> Result<BookListing> {
        let properties = "<D:getetag/><D:getcontentlength/>";
        let body =
            format!("<C:addressbook-query {NAMESPACES}><D:prop>{properties}</D:prop><C:filter/></C:addressbook-query>");
        let list =
            BookListing::from_multistatus(book, Multistatus::parse(self.request("REPORT", &book.url, 1, &body)?)?);
        if list.is_complete {
            return Ok(list);
        }
        // Servers limit the results of a query, seldom the listing of a collection.
        match self.propfind(&book.url, 1, &format!("{properties}<D:resourcetype/>")) {
            Ok(all) => {
                let all = BookListing::from_multistatus(book, all);
                Ok(if all.is_complete || all.entries.len() > list.entries.len() { all } else { list })
            }
            Err(Error::VendorChanged(_) | Error::VendorDown(_)) => Ok(list),
            Err(error) => Err(error),
        }
    }

    /// Fetches the content of these cards.
    pub fn fetch(&self, book: &AddressBook, entries: &[&CardEntry]) -> Result<FetchedCards> {
        let hrefs: String =
            entries.iter().map(|entry| format!("<D:href>{}</D:href>", escape(entry.href.as_str()))).collect();
        let properties = "<D:prop><D:getetag/><C:address-data/></D:prop>";
        let body = format!("<C:addressbook-multiget {NAMESPACES}>{properties}{hrefs}</C:addressbook-multiget>");
        let found = Multistatus::parse(self.request("REPORT", &book.url, 1, &body)?)?;
        let mut fetched = FetchedCards {
            missing: found.missing.iter().map(CardKey::with_final_url).collect(),
            ..FetchedCards::default()
        };
        fetched
            .failed
            .extend(found.unreadable.iter().map(|(url, reason)| (CardKey::with_final_url(url), reason.clone())));
        for resource in found.resources {
            match resource.text("address-data") {
                Some(text) => {
                    fetched.cards.push(Card {
                        etag: resource.text("getetag"),
                        url: resource.url,
                        href: resource.href,
                        text,
                    });
                }
                None => fetched.failed.push((
                    CardKey::with_final_url(&resource.url),
                    "the server returned it without its content".to_owned(),
                )),
            }
        }
        let answered: HashSet<CardKey> =
            fetched.cards.iter().map(Card::key).chain(fetched.failed.iter().map(|(key, _)| *key)).collect();
        let missing = entries
            .iter()
            .map(|entry| entry.key())
            .filter(|key| !answered.contains(key) && !fetched.missing.contains(key));
        let missing: Vec<_> = missing.map(|key| (key, "the server did not return it".to_owned())).collect();
        fetched.failed.extend(missing);
        Ok(fetched)
    }

    fn propfind(&self, url: &Url, depth: u8, properties: &str) -> Result<Multistatus> {
        let body = format!("<D:propfind {NAMESPACES}><D:prop>{properties}</D:prop></D:propfind>");
        Multistatus::parse(self.request("PROPFIND", url, depth, &body)?)
    }

    fn request(&self, method: &str, url: &Url, depth: u8, body: &str) -> Result<Response> {
        // Each client authenticates at its own host only.
        let books = self.books.as_ref().filter(|books| books.base_url().origin() == url.origin());
        let client = books.unwrap_or(&self.main);
        let body = format!(r#"<?xml version="1.0" encoding="utf-8"?>{body}"#);
        let response =
            client.request(method, url).header("depth", depth).body("application/xml; charset=utf-8", body).send()?;
        response.error_for_status()
    }
}

impl BookListing {
    fn from_multistatus(book: &AddressBook, found: Multistatus) -> Self {
        let is_card = |url: &Url| normalize(url) != normalize(&book.url);
        let entries = found
            .resources
            .into_iter()
            .filter(|resource| is_card(&resource.url) && !resource.has(&["resourcetype", "collection"]));
        let entry = |resource: Resource| CardEntry {
            etag: resource.text("getetag"),
            size: resource.text("getcontentlength").and_then(|size| size.parse().ok()),
            url: resource.url,
            href: resource.href,
        };
        let unreadable = found.unreadable.into_iter().filter(|(url, _)| is_card(url));
        Self {
            entries: entries.map(entry).collect(),
            unreadable: unreadable.map(|(url, reason)| (CardKey::with_final_url(&url), reason)).collect(),
            is_complete: found.is_complete,
        }
    }
}

fn is_address_book(resource: &Resource) -> bool {
    resource.has(&["resourcetype", "addressbook"])
}

fn address_book(resource: &Resource) -> Option<AddressBook> {
    let last = || resource.url.path_segments()?.rfind(|part| !part.is_empty()).map(ToOwned::to_owned);
    let name = resource.text("displayname").or_else(last).unwrap_or_default();
    is_address_book(resource).then(|| AddressBook { url: resource.url.clone(), name, tag: resource.text("getctag") })
}

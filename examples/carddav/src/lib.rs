//! Brings the contacts of any CardDAV server (RFC 6352) into the user's contacts and files, and keeps them up to date: only what changed
//! since the last run is fetched, and what is gone at the server is deleted here.

mod contact;
mod dav;
mod state;
mod vcard;
mod xml;

use contact::Contact;
use dav::{AddressBook, Card};
use konnector_sdk::http::FileSource;
use konnector_sdk::prelude::*;
use state::{BookState, Key, State, Version};
use vcard::VCard;

const DOCTYPE: &str = "io.cozy.contacts";
/// Cards fetched and saved at a time: what a broken run has to do again.
const BATCH: usize = 50;

#[konnector(saves("io.cozy.contacts", "io.cozy.files"))]
fn run(context: Context) -> Result<Report> {
    let account = context.account()?;
    let client = dav::client(account.field("url")?)?
        .basic_auth(account.field("login")?, account.secret("password")?)
        .header("user-agent", "konnector-carddav");
    let books = dav::address_books(&client)?;
    login_succeeded();

    let before: State = account.load_state()?;
    let (mut after, mut report) = (State::default(), Report::new());
    for book in &books {
        let known = before.book(&book.url).cloned().unwrap_or_default();
        let synced = sync(&client, book, known, &mut report)?;
        after.keep(&book.url, synced);
    }
    for (_, gone) in before.books().filter(|(url, _)| !books.iter().any(|book| book.url.as_str() == *url)) {
        remove(gone.keys())?;
    }
    account.save_state(&after)?;
    Ok(report)
}

/// Brings one address book up to date and answers what is here then.
fn sync(client: &Client, book: &AddressBook, mut state: BookState, report: &mut Report) -> Result<BookState> {
    if state.is_current(book.tag.as_deref()) {
        info!("{} has not changed", book.name);
        return Ok(state);
    }
    let listed = dav::list(client, book)?;
    let gone: Vec<Key> = state.keys().filter(|key| !listed.iter().any(|entry| entry.key() == *key)).collect();
    remove(gone.iter().copied())?;
    state.forget(&gone);

    let changed: Vec<_> = listed.iter().filter(|entry| !state.has(entry.key(), &Version::of(&entry.etag))).collect();
    info!(listed = listed.len(), changed = changed.len(), removed = gone.len(), "{} read", book.name);
    let mut is_complete = true;
    for (number, batch) in changed.chunks(BATCH).enumerate() {
        progress(number * BATCH, changed.len(), &book.name);
        if time_left().as_secs() < 15 {
            report.problem(&book.name, "the time was up; the next run goes on with the rest");
            is_complete = false;
            break;
        }
        let addresses: Vec<_> = batch.iter().map(|entry| entry.href.as_str()).collect();
        for card in dav::fetch(client, book, &addresses)? {
            match save(client, book, &card) {
                Ok(saved) if saved.problems().is_empty() => state.remember(card.key(), Version::of(&card.etag)),
                Ok(saved) => {
                    report.add(saved);
                    is_complete = false;
                }
                Err(Error::VendorChanged(text)) => {
                    report.problem(&card.href, text);
                    is_complete = false;
                }
                Err(error) => return Err(error),
            }
        }
    }
    state.set_tag(book.tag.as_deref().filter(|_| is_complete));
    Ok(state)
}

/// Saves a card as a document and as a file, both under the same key.
fn save(client: &Client, book: &AddressBook, card: &Card) -> Result<Saved> {
    let contact = Contact::from(&VCard::parse(&card.text)?);
    let key = card.key().to_string();
    let mut saved = save_documents(DOCTYPE, [Item::new(&key, contact.document)?])?;
    let file = File::new(format!("{}.vcf", contact.name), FileSource::bytes(card.text.as_str()));
    saved.add(save_files(client, [file.folder(&book.name).key(&key).mime("text/vcard").replacing()])?);
    Ok(saved)
}

fn remove(keys: impl Iterator<Item = Key>) -> Result<()> {
    let keys: Vec<_> = keys.map(|key| key.to_string()).collect();
    delete_documents(DOCTYPE, keys.clone())?;
    trash_files(keys)?;
    Ok(())
}

#[cfg(test)]
mod tests;

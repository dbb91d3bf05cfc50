//! Synchronizes address books. Only certain information from the server has consequences. A card is deleted if a
//! complete list lacks it, and a card that cannot be read, fetched or saved does not affect the others.

use std::collections::{HashMap, HashSet, VecDeque};

use konnector_sdk::http::FileSource;
use konnector_sdk::prelude::*;

use crate::contact::Contact;
use crate::dav::{AddressBook, AddressBooks, Card, CardDavServer, CardEntry, FetchedCards};
use crate::state::{BookState, CardKey, CardVersion, SyncState};
use crate::vcard::VCard;
use crate::{DOCTYPE, normalize};

/// Cards per batch. An interrupted run has to repeat at most these.
const MAX_BATCH_CARDS: usize = 50;
/// Number of bytes of cards per batch, as far as the server reports their sizes. Photos make cards large; the host
/// limits responses to 10 MiB, and XML makes them larger.
const MAX_BATCH_BYTES: u64 = 4 << 20;
/// Assumed size of a card whose size the server does not report, as for a card without a photo.
const ESTIMATED_CARD_BYTES: u64 = 4 << 10;
/// After this many consecutive failures the cards are not to blame.
const MAX_CONSECUTIVE_FAILURES: u32 = 5;

/// Synchronizes all address books and the state. Even after a failure, the state matches the saved cards.
pub fn sync_all(
    server: &CardDavServer,
    found: &AddressBooks,
    state: &mut SyncState,
    report: &mut Report,
) -> Result<()> {
    for book in &found.books {
        Sync { server, book, report, failures: 0, is_complete: true }.run(state.book(&book.url))?;
    }
    let names: HashSet<String> = found.books.iter().map(|book| normalize(&book.url)).collect();
    if !found.is_complete {
        report.add_problem("address books", "the server sent only a part of its list; books missing from it are kept");
        return Ok(());
    }
    // A card of a deleted book may be in another book by now.
    let removed = state.removed_cards(&names);
    remove(removed.into_iter())?;
    state.retain(&names);
    Ok(())
}

struct Sync<'a> {
    server: &'a CardDavServer,
    book: &'a AddressBook,
    report: &'a mut Report,
    /// Consecutive failures of cards.
    failures: u32,
    is_complete: bool,
}

impl Sync<'_> {
    fn run(mut self, state: &mut BookState) -> Result<()> {
        let book = self.book;
        if state.is_current(book.tag.as_deref()) {
            info!("{} has not changed", book.name);
            return Ok(());
        }
        state.set_tag(None);
        let listed = self.server.list(book)?;
        for (_, reason) in &listed.unreadable {
            self.problem(&book.name, &format!("a card cannot be read: {reason}"));
        }
        if listed.is_complete {
            let present: HashSet<CardKey> = listed
                .entries
                .iter()
                .map(CardEntry::key)
                .chain(listed.unreadable.iter().map(|(key, _)| *key))
                .collect();
            let removed: Vec<CardKey> = state.keys().filter(|key| !present.contains(key)).collect();
            remove(removed.iter().copied())?;
            state.forget(&removed);
        } else {
            self.problem(&book.name, "the server sent only a part of its list; cards missing from it are kept");
        }
        let is_known = |entry: &&CardEntry| {
            entry.etag.as_deref().is_some_and(|etag| state.has(entry.key(), &CardVersion::from_etag(etag)))
        };
        let changed: Vec<&CardEntry> = listed.entries.iter().filter(|entry| !is_known(entry)).collect();
        info!(listed = listed.entries.len(), changed = changed.len(), "{} read", book.name);
        self.fetch_changed(&changed, state)?;
        state.set_tag(book.tag.as_deref().filter(|_| self.is_complete));
        Ok(())
    }

    /// Fetches and saves cards. A batch that fails is halved until the failing card is found.
    fn fetch_changed(&mut self, changed: &[&CardEntry], state: &mut BookState) -> Result<()> {
        let etags: HashMap<CardKey, &str> =
            changed.iter().filter_map(|entry| Some((entry.key(), entry.etag.as_deref()?))).collect();
        let mut work: VecDeque<Vec<&CardEntry>> = batches(changed).into();
        let mut done = 0;
        while let Some(batch) = work.pop_front() {
            report_progress(done, changed.len(), &self.book.name);
            if remaining_time().as_secs() < 15 {
                self.problem(
                    &self.book.name.clone(),
                    "the time limit was reached; the next run continues with the rest",
                );
                break;
            }
            match self.server.fetch(self.book, &batch) {
                Ok(fetched) => {
                    done += batch.len();
                    self.apply(fetched, &batch, &etags, state)?;
                }
                Err(error) if !concerns_cards(&error) => return Err(error),
                Err(error) => match batch.as_slice() {
                    [] => {}
                    [entry] => {
                        done += 1;
                        self.failed(&entry.href, error)?;
                    }
                    several => {
                        let (first, second) = several.split_at(several.len() / 2);
                        work.push_front(second.to_vec());
                        work.push_front(first.to_vec());
                    }
                },
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        fetched: FetchedCards,
        batch: &[&CardEntry],
        etags: &HashMap<CardKey, &str>,
        state: &mut BookState,
    ) -> Result<()> {
        for card in fetched.cards {
            let etag = card.etag.as_deref().or_else(|| etags.get(&card.key()).copied());
            let version = CardVersion::from_etag(etag.unwrap_or(&card.text));
            if state.has(card.key(), &version) {
                continue;
            }
            match save(self.server.client(), self.book, &card) {
                Ok(saved) if saved.problems().is_empty() => {
                    self.failures = 0;
                    state.remember(card.key(), version);
                }
                Ok(saved) => {
                    self.is_complete = false;
                    self.report.merge(saved);
                }
                Err(error) if concerns_cards(&error) => self.failed(&card.href, error)?,
                Err(error) => return Err(error),
            }
        }
        for (key, reason) in fetched.failed {
            let href = batch.iter().find(|entry| entry.key() == key).map(|entry| entry.href.as_str());
            self.problem(href.unwrap_or(&self.book.name.clone()), &reason);
        }
        Ok(())
    }

    /// Records the failure of one card; fails if there were too many in a row.
    fn failed(&mut self, href: &str, error: Error) -> Result<()> {
        self.failures += 1;
        if self.failures >= MAX_CONSECUTIVE_FAILURES && !matches!(error, Error::VendorChanged(_)) {
            return Err(error);
        }
        let text = match error {
            Error::VendorChanged(text) | Error::Bug(text) => text,
            error => error.to_string(),
        };
        self.problem(href, &text);
        Ok(())
    }

    fn problem(&mut self, item: &str, text: &str) {
        self.is_complete = false;
        self.report.add_problem(item, text);
    }
}

/// Returns whether other cards may still succeed after this failure, such as a broken card, a card that is too large,
/// or a server error for one card.
fn concerns_cards(error: &Error) -> bool {
    matches!(error, Error::VendorChanged(_) | Error::VendorDown(_) | Error::Bug(_) | Error::LimitReached(_))
}

/// Splits cards into batches, each limited in number and size.
fn batches<'a>(entries: &[&'a CardEntry]) -> Vec<Vec<&'a CardEntry>> {
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        let size = entry.size.unwrap_or(ESTIMATED_CARD_BYTES);
        if !batch.is_empty() && (batch.len() == MAX_BATCH_CARDS || bytes + size > MAX_BATCH_BYTES) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(*entry);
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

/// Saves a card as a document and as a file, both under the same key.
fn save(client: &Client, book: &AddressBook, card: &Card) -> Result<SaveSummary> {
    let contact = Contact::from(&VCard::parse(&card.text)?);
    let key = card.key().to_string();
    let mut saved = save_documents(DOCTYPE, [Item::new(&key, contact.document)?])?;
    let file = File::new(format!("{}.vcf", contact.name), FileSource::from_bytes(card.text.as_str()));
    saved.merge(save_files(client, [file.folder(&book.name).key(&key).mime("text/vcard").overwrite()])?);
    Ok(saved)
}

fn remove(keys: impl Iterator<Item = CardKey>) -> Result<()> {
    let keys: Vec<_> = keys.map(|key| key.to_string()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    delete_documents(DOCTYPE, keys.clone())?;
    trash_files(keys)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_held_to_number_and_size() {
        let entry = |size| CardEntry {
            url: Url::parse("https://a.example/a.vcf").unwrap(),
            href: String::new(),
            etag: None,
            size,
        };
        let lengths = |sizes: &[Option<u64>]| {
            let entries: Vec<CardEntry> = sizes.iter().map(|size| entry(*size)).collect();
            batches(&entries.iter().collect::<Vec<_>>()).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[None; 120]), [50, 50, 20]);
        assert_eq!(lengths(&[Some(270_000); 60]), [15, 15, 15, 15]);
        assert_eq!(lengths(&[Some(20 << 20), None, Some(u64::from(u32::MAX)), None]), [1, 1, 1, 1]);
    }
}

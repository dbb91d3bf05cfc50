//! Copies the contacts of any CardDAV server (RFC 6352) into the user's contacts and files, and updates them. Only
//! changes since the last run are fetched, and contacts deleted at the server are deleted here.

mod contact;
mod dav;
mod multistatus;
mod state;
mod sync;
mod vcard;
mod xml;

use dav::CardDavServer;
use konnector_sdk::prelude::*;
use multistatus::normalize;
use state::SyncState;

const DOCTYPE: &str = "io.cozy.contacts";

#[konnector(saves("io.cozy.contacts", "io.cozy.files"))]
fn run(context: Context) -> Result<Report> {
    let account = context.account()?;
    let (login, password) = (account.field("login")?, account.secret("password")?);
    let sign = |client: Client| client.basic_auth(login, &password).header("user-agent", "konnector-carddav");
    let server = CardDavServer::new(account.field("url")?, account.field_opt("books_url"), sign)?;
    let found = server.address_books()?;
    login_succeeded();

    let (mut state, mut report): (SyncState, _) = (account.load_state()?, Report::new());
    let synced = sync::sync_all(&server, &found, &mut state, &mut report);
    // Also after a failure, because saved cards must not be fetched again.
    account.save_state(&state)?;
    synced.map(|()| report)
}

#[cfg(test)]
mod tests;

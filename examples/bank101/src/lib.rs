//! Saves the bills of an account at Bank101, with their PDFs, and the customer's identity.

use konnector_sdk::parse;
use konnector_sdk::prelude::*;
use serde::Deserialize;

#[konnector(saves("io.cozy.bills", "io.cozy.files", "io.cozy.identities"))]
fn run(context: Context) -> Result<Report> {
    let account = context.account()?;
    let client = Client::new(context.parameter("url")?)?.header("accept-language", context.locale());

    let home = log_in(&client, &account)?;
    let contracts = home.json::<AccountData>("#account-data")?.contracts;

    let mut report = Report::new();
    report.merge(save_identity(&client)?);
    let mut bills = Vec::new();
    for contract in &contracts {
        for page in client.pages(&contract.bills, ".pagination a[rel=next]") {
            read_bills(&page?, contract, &mut bills, &mut report)?;
        }
    }
    info!(bills = bills.len(), contracts = contracts.len(), "all pages read");
    report.merge(save_bills(&client, bills)?);
    Ok(report)
}

/// Data that the account's first page contains for its own script.
#[derive(Deserialize)]
struct AccountData {
    contracts: Vec<Contract>,
}

#[derive(Deserialize)]
struct Contract {
    id: String,
    label: String,
    bills: String,
}

/// Logs in, unless the cookies of the last run are still valid, and returns the account's first page.
fn log_in(client: &Client, account: &Account) -> Result<Page> {
    let mut page = client.get("/login").html()?;
    if page.has("#login")? {
        let form = page.form("#login")?.set("login", account.field("login")?)?;
        page = form.set("password", account.secret("password")?)?.submit(client)?.html()?;
    }
    if let Some(text) = page.text_opt(".locked")? {
        return Err(Error::too_many_attempts(text));
    }
    if page.has("#login")? {
        return Err(Error::bad_credentials(page.text(".error")?));
    }
    if page.has("#code")? {
        let code = ask_code(CodeChannel::Sms, &page.text(".lead")?)?;
        page = page.form("#code")?.set("code", code.trim())?.submit(client)?.html()?;
        if let Some(text) = page.text_opt(".error")? {
            return Err(Error::code_rejected(text));
        }
    }
    login_succeeded();
    Ok(page)
}

/// Reads one page of bills. A row that cannot be read is reported and the others are saved; a page without the table
/// means that the site changed.
fn read_bills(page: &Page, contract: &Contract, bills: &mut Vec<Bill>, report: &mut Report) -> Result<()> {
    for row in page.select_one("table.bills")?.select("tr.bill")? {
        match read_bill(row, contract) {
            Ok(bill) => bills.push(bill),
            Err(error) => report.add_problem(row.attribute("data-reference").unwrap_or("a bill"), error.to_string()),
        }
    }
    Ok(())
}

fn read_bill(row: Element<'_>, contract: &Contract) -> Result<Bill> {
    let amount = parse::amount(&row.text(".amount")?)?;
    let date = parse::date(&row.text(".date")?)?;
    Ok(Bill::new("Bank101", amount, date, row.link(".document a")?)
        .vendor_ref(row.text(".reference")?)
        .subject(row.text(".subject")?)
        .contract(&contract.id, &contract.label)
        .metadata(Metadata::new().qualification("bank_statement")))
}

fn save_identity(client: &Client) -> Result<SaveSummary> {
    let page = client.get("/account/profile").html()?;
    let profile = page.select_one(".profile")?;
    let contact = json!({
        "name": { "givenName": profile.text(".given-name")?, "familyName": profile.text(".family-name")? },
        "email": [{ "address": profile.text(".email")? }],
        "phone": [{ "number": profile.text(".phone")? }],
        "address": [{
            "street": profile.text(".street")?,
            "postcode": profile.text(".postcode")?,
            "city": profile.text(".city")?,
        }],
    });
    save_documents("io.cozy.identities", [Item::new("identity", json!({ "contact": contact }))?])
}

#[cfg(test)]
mod tests;

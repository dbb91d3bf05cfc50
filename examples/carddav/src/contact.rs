//! Converts a card to a contact of the user's Cozy (`io.cozy.contacts`).

use konnector_sdk::parse;
use konnector_sdk::serde_json::{Map, Value, json};

use crate::vcard::{Property, VCard};

/// A contact's document and its display name, which is never empty.
#[derive(Debug)]
pub struct Contact {
    pub name: String,
    pub document: Value,
}

impl From<&VCard> for Contact {
    fn from(card: &VCard) -> Self {
        let document = document(card);
        let name = document.get("displayName").and_then(Value::as_str).filter(|name| !name.is_empty());
        Self { name: name.unwrap_or("contact").to_owned(), document }
    }
}

/// Converts a card; missing properties become null or empty, so that they are also removed from an older document.
fn document(card: &VCard) -> Value {
    let name = card.all("N").first().map(|name| name_of(name)).unwrap_or_default();
    let full_name = card.text("FN").or_else(|| display_name(&name)).unwrap_or_default();
    let company = card.all("ORG").first().and_then(|organisation| organisation.component(0));
    let emails =
        map_properties(card, "EMAIL", |email| Some(json!({ "address": address_of(&email.text(), "mailto:")? })));
    let first_email = emails.first().and_then(|email| email["address"].as_str());
    let display_name = [Some(full_name.as_str()), company.as_deref(), first_email];
    let display_name = display_name.into_iter().flatten().find(|text| !text.is_empty()).unwrap_or_default().to_owned();
    json!({
        "displayName": display_name,
        "fullname": full_name,
        "name": name,
        "email": emails,
        "phone": map_properties(card, "TEL", |phone| Some(json!({ "number": address_of(&phone.text(), "tel:")? }))),
        "address": map_properties(card, "ADR", postal_address),
        "birthday": birthday(card),
        "company": company,
        "jobTitle": card.text("TITLE"),
        "note": card.text("NOTE"),
        "url": card.text("URL"),
        "uid": card.text("UID"),
        "me": false,
        "metadata": { "version": 1 },
    })
}

/// Converts a structured name (RFC 6350 §6.2.2).
fn name_of(name: &Property) -> Map<String, Value> {
    let members = ["familyName", "givenName", "additionalName", "namePrefix", "nameSuffix"].into_iter().enumerate();
    members.filter_map(|(index, member)| Some((member.to_owned(), json!(name.component(index)?)))).collect()
}

fn display_name(name: &Map<String, Value>) -> Option<String> {
    let order = ["namePrefix", "givenName", "additionalName", "familyName", "nameSuffix"];
    let parts: Vec<_> = order.iter().filter_map(|member| name.get(*member)?.as_str()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// Converts a postal address (RFC 6350 §6.3.1).
fn postal_address(address: &Property) -> Option<Value> {
    let members =
        ["pobox", "extendedAddress", "street", "city", "region", "postcode", "country"].into_iter().enumerate();
    let members: Map<_, _> =
        members.filter_map(|(index, member)| Some((member.to_owned(), json!(address.component(index)?)))).collect();
    (!members.is_empty()).then(|| Value::Object(members))
}

/// Returns the day of birth; a birthday without its year is not a date.
fn birthday(card: &VCard) -> Option<String> {
    let text = card.text("BDAY")?;
    parse::date(&text).ok().map(|day| day.to_string())
}

/// Returns the value without its scheme, unless nothing remains.
fn address_of<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    Some(value.strip_prefix(scheme).unwrap_or(value).trim()).filter(|address| !address.is_empty())
}

/// Returns the document's entries for a property that may occur several times, each with its type; the first preferred
/// one is the primary one.
fn map_properties(card: &VCard, name: &str, entry: impl Fn(&Property) -> Option<Value>) -> Vec<Value> {
    let mut entries = Vec::new();
    for property in card.all(name) {
        let Some(Value::Object(mut members)) = entry(property) else { continue };
        let types = property.types();
        if let Some(kind) = types.first() {
            members.insert("type".to_owned(), json!(kind));
        }
        if property.is_preferred() && entries.is_empty() {
            members.insert("primary".to_owned(), json!(true));
        }
        entries.push(Value::Object(members));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(lines: &str) -> Value {
        document(&VCard::parse(&format!("BEGIN:VCARD\nVERSION:3.0\n{lines}\nEND:VCARD")).unwrap())
    }

    #[test]
    fn a_whole_card_becomes_a_contact() {
        let contact = contact(
            "N:Müller;Zoé;Marie;Dr.;\nFN:Dr. Zoé Müller\nEMAIL;TYPE=HOME:zoe@home.example\nEMAIL;TYPE=INTERNET,WORK,PREF:zoe@work.example\n\
             TEL;TYPE=CELL:+33 6 00\nTEL;VALUE=uri;TYPE=work:tel:+33-1-00\nADR;TYPE=HOME:;;1 rue Haute;Lyon;;69001;France\n\
             BDAY:1985-04-12\nORG:Bank101;Bills\nTITLE:Adviser\nNOTE:one\\ntwo\nUID:7",
        );
        insta::assert_snapshot!(konnector_sdk::serde_json::to_string_pretty(&contact).unwrap(), @r#"
        {
          "displayName": "Dr. Zoé Müller",
          "fullname": "Dr. Zoé Müller",
          "name": {
            "familyName": "Müller",
            "givenName": "Zoé",
            "additionalName": "Marie",
            "namePrefix": "Dr."
          },
          "email": [
            {
              "address": "zoe@work.example",
              "type": "work",
              "primary": true
            },
            {
              "address": "zoe@home.example",
              "type": "home"
            }
          ],
          "phone": [
            {
              "number": "+33 6 00",
              "type": "cell"
            },
            {
              "number": "+33-1-00",
              "type": "work"
            }
          ],
          "address": [
            {
              "street": "1 rue Haute",
              "city": "Lyon",
              "postcode": "69001",
              "country": "France",
              "type": "home"
            }
          ],
          "birthday": "1985-04-12",
          "company": "Bank101",
          "jobTitle": "Adviser",
          "note": "one\ntwo",
          "url": null,
          "uid": "7",
          "me": false,
          "metadata": {
            "version": 1
          }
        }
        "#);
    }

    #[test]
    fn a_card_without_a_name_is_shown_by_what_it_has() {
        assert_eq!(contact("N:;Zoé;;;")["displayName"], "Zoé");
        assert_eq!(contact("FN:\nORG:Bank101")["displayName"], "Bank101");
        assert_eq!(contact("EMAIL:a@b.example\nTEL:")["displayName"], "a@b.example");
        assert_eq!(contact("TEL:")["phone"], json!([]));
    }

    #[test]
    fn a_birthday_is_a_whole_date_or_none() {
        assert_eq!(contact("BDAY:19850412")["birthday"], "1985-04-12");
        assert_eq!(contact("BDAY:1985-04-12T00:00:00Z")["birthday"], "1985-04-12");
        assert_eq!(contact("BDAY:--0412")["birthday"], Value::Null);
    }
}

use konnector_sandbox::capability::{Change, Documents, Item, Order, Page, Query, Range, SaveOutcome};
use std::ops::Bound;

use super::*;
use konnector_documents::principal::Principal;

const BILLS: &str = "io.cozy.bills";

fn item(key: &str, body: Value) -> Item {
    Item { key: key.to_owned(), body: object(body) }
}

fn change(locator: Locator, rev: Option<&str>, body: Value) -> Change {
    Change { locator, rev: rev.map(str::to_owned), body: object(body) }
}

fn query(index: &[&str], equal: &[Value], range: Range) -> Query {
    let index = index.iter().map(|member| (*member).to_owned()).collect();
    Query { index_fields: index, equals: equal.to_vec(), range, order: Order::Ascending, limit: 1_000, cursor: None }
}

/// Returns the numbers of the bills.
fn numbers(page: &Page) -> Vec<i64> {
    page.documents.iter().map(|document| document.body["number"].as_i64().unwrap()).collect()
}

async fn save_bills(run: &TestRun, count: i64) {
    let bills = (0..count).map(|number| {
        let vendor = if number % 2 == 0 { "even" } else { "Odd" };
        item(&format!("{number:03}"), json!({ "number": number, "vendor": vendor, "ref": format!("F-{number:03}") }))
    });
    run.documents().save(BILLS, bills.collect()).await.unwrap();
}

#[tokio::test]
async fn documents_are_found_by_key_and_id_changed_and_deleted() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    let saved = documents.save(BILLS, vec![item("1", json!({ "amount": 1 }))]).await.unwrap();
    let found = documents.get(BILLS, &key("1")).await.unwrap();
    assert_eq!((&found.id, &found.rev), (&saved[0].id, &saved[0].rev));
    assert_eq!(documents.get(BILLS, &id(found.id.as_str())).await.unwrap(), found);

    let changed =
        documents.update(BILLS, vec![change(key("1"), Some(&found.rev), json!({ "paid": true }))]).await.unwrap();
    assert_eq!(changed[0].outcome, SaveOutcome::Updated);
    let again =
        documents.update(BILLS, vec![change(id(found.id.as_str()), None, json!({ "paid": true }))]).await.unwrap();
    assert_eq!((again[0].outcome, &again[0].rev), (SaveOutcome::Unchanged, &changed[0].rev));
    let body = documents.get(BILLS, &key("1")).await.unwrap().body;
    assert_eq!((&body["amount"], &body["paid"]), (&json!(1), &json!(true)));
    assert_eq!(body["cozyMetadata"]["createdByApp"], "bank101");

    // Both locators name the same document.
    assert_eq!(documents.delete(BILLS, vec![key("1"), id(found.id.as_str()), key("2")]).await, Ok(1));
}

#[tokio::test]
async fn a_batch_of_changes_is_made_as_a_whole_or_not_at_all() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    documents.save(BILLS, vec![item("1", json!({ "n": 1 })), item("2", json!({ "n": 2 }))]).await.unwrap();
    let second = |rev| vec![change(key("1"), None, json!({ "n": 7 })), change(key("2"), rev, json!({ "n": 8 }))];
    let refusals = [
        error_text(documents.update(BILLS, second(Some("1-no"))).await),
        error_text(
            documents
                .update(BILLS, vec![change(key("1"), None, json!({ "n": 7 })), change(key("9"), None, json!({}))])
                .await,
        ),
        error_text(
            documents.update(BILLS, vec![change(key("1"), None, json!({})), change(key("1"), None, json!({}))]).await,
        ),
        error_text(documents.save(BILLS, vec![item("1", json!({})), item("1", json!({}))]).await),
    ];
    let rev = documents.get(BILLS, &key("2")).await.unwrap().rev;
    insta::assert_snapshot!(refusals.join("\n").replace(&rev, "REV"), @r#"
    Conflict("io.cozy.bills with the key '2' is at revision REV; read it again")
    NotFound("io.cozy.bills with the key '9'")
    Invalid("two changes apply to io.cozy.bills with the key '1'; combine them into one")
    Invalid("the key '1' occurs twice; each key identifies one document")
    "#);
    assert_eq!(documents.get(BILLS, &key("1")).await.unwrap().body["n"], 1);
    assert_eq!(documents.update(BILLS, second(None)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_index_answers_in_order_and_in_pages() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    save_bills(&run, 250).await;
    let find = |query| documents.find(BILLS, query);
    let odd = numbers(&find(query(&["vendor", "number"], &[json!("Odd")], Range::Any)).await.unwrap());
    assert_eq!(odd, (0..250).filter(|number| number % 2 == 1).collect::<Vec<_>>());
    let between = Range::Between(Bound::Included(json!(10)), Bound::Excluded(json!(20)));
    assert_eq!(
        numbers(&find(query(&["vendor", "number"], &[json!("even")], between)).await.unwrap()),
        [10, 12, 14, 16, 18]
    );
    let prefix = Range::Prefix("F-24".to_owned());
    assert_eq!(numbers(&find(query(&["ref"], &[], prefix)).await.unwrap()), (240..250).collect::<Vec<_>>());
    assert_eq!(numbers(&find(query(&["ref"], &[], Range::Prefix("f-24".to_owned()))).await.unwrap()), [0; 0]);
    assert_eq!(numbers(&find(query(&["vendor"], &[json!("odd")], Range::Any)).await.unwrap()), [0; 0]);
    assert_eq!(numbers(&find(query(&["missing"], &[], Range::Any)).await.unwrap()), [0; 0]);

    for index in [&["number"][..], &[]] {
        for order in [Order::Ascending, Order::Descending] {
            let (mut all, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = Query { order, limit: 60, cursor, ..query(index, &[], Range::Any) };
                let page = find(page).await.unwrap();
                pages += 1;
                all.extend(numbers(&page));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!((all.len(), pages), (250, 5), "{index:?} {order:?}");
            if !index.is_empty() {
                assert!(all.is_sorted_by(|one, other| (one < other) == (order == Order::Ascending)), "{order:?}");
            }
            all.sort_unstable();
            assert_eq!(all, (0..250).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_page_of_large_documents_is_short() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    for number in 0..4 {
        let large = json!({ "number": number, "text": "x".repeat(3 << 20) });
        documents.save(BILLS, vec![item(&number.to_string(), large)]).await.unwrap();
    }
    let page = documents.find(BILLS, query(&["number"], &[], Range::Any)).await.unwrap();
    assert_eq!(numbers(&page), [0, 1]);
    let next = Query { cursor: page.next_cursor, ..query(&["number"], &[], Range::Any) };
    assert_eq!(numbers(&documents.find(BILLS, next).await.unwrap()), [2, 3]);
}

#[tokio::test]
async fn rules_filter_each_document() {
    let run = TestRun::with_rules(json!({
        "bills": { "type": "io.cozy.bills", "verbs": ["GET", "POST", "PUT"], "selector": "vendor", "values": ["even"] },
    }))
    .await;
    let documents = run.documents();
    let bill = |number: i64, vendor: &str| object(json!({ "number": number, "vendor": vendor }));
    let mut changes = Changes::new();
    for number in 0..10 {
        let vendor = if number % 2 == 0 { "even" } else { "odd" };
        changes.create(run.scope.instance.doc(&BILLS.parse().unwrap(), number.to_string()), bill(number, vendor));
    }
    run.scope.domain.core().store().commit(changes).await.unwrap();
    for index in [&["number"][..], &[]] {
        let page = documents.find(BILLS, query(index, &[], Range::Any)).await.unwrap();
        assert_eq!(numbers(&page), [0, 2, 4, 6, 8], "{index:?}");
    }
    let refusals = [
        error_text(documents.get(BILLS, &id("1")).await),
        error_text(documents.get(BILLS, &id("none")).await),
        error_text(documents.update(BILLS, vec![change(id("1"), None, json!({ "number": 7 }))]).await),
        error_text(documents.update(BILLS, vec![change(id("2"), None, json!({ "vendor": "odd" }))]).await),
        error_text(documents.update(BILLS, vec![change(id("none"), None, json!({}))]).await),
        error_text(documents.delete(BILLS, vec![id("2")]).await),
        error_text(documents.check_save("io.cozy.contacts").await),
        error_text(documents.find("io.cozy.contacts", query(&["a"], &[], Range::Any)).await),
        error_text(documents.find("io.cozy.accounts", query(&["a"], &[], Range::Any)).await),
        error_text(documents.check_save("io.cozy.files").await),
    ];
    assert_eq!(documents.check_save(BILLS).await, Ok(()));
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    Denied("the manifest has no rule for GET on the document \"1\" of io.cozy.bills; add to \"permissions\": \"bills2\": { \"type\": \"io.cozy.bills\", \"verbs\": [\"GET\"], \"values\": [\"1\"] }")
    Denied("the manifest has no rule for GET on the document \"none\" of io.cozy.bills; add to \"permissions\": \"bills2\": { \"type\": \"io.cozy.bills\", \"verbs\": [\"GET\"], \"values\": [\"none\"] }")
    Denied("the manifest has no rule for PUT on the document \"1\" of io.cozy.bills; add to \"permissions\": \"bills2\": { \"type\": \"io.cozy.bills\", \"verbs\": [\"PUT\"], \"values\": [\"1\"] }")
    Denied("the manifest has no rule for PUT on the document \"2\" of io.cozy.bills; add to \"permissions\": \"bills2\": { \"type\": \"io.cozy.bills\", \"verbs\": [\"PUT\"], \"values\": [\"2\"] }")
    Denied("the manifest has no rule for PUT on the document \"none\" of io.cozy.bills; add to \"permissions\": \"bills2\": { \"type\": \"io.cozy.bills\", \"verbs\": [\"PUT\"], \"values\": [\"none\"] }")
    Denied("the manifest has no rule for DELETE on io.cozy.bills; add to \"permissions\": \"bills2\": { \"type\": \"io.cozy.bills\", \"verbs\": [\"DELETE\"] }")
    Denied("the manifest has no rule for POST on io.cozy.contacts; add to \"permissions\": \"contacts\": { \"type\": \"io.cozy.contacts\", \"verbs\": [\"POST\"] }")
    Denied("the manifest has no rule for GET on io.cozy.contacts; add to \"permissions\": \"contacts\": { \"type\": \"io.cozy.contacts\", \"verbs\": [\"GET\"] }")
    Denied("konnectors cannot access documents of the doctype io.cozy.accounts; use the interfaces account and files")
    Denied("documents of the doctype io.cozy.files cannot be written directly")
    "#);
}

#[tokio::test]
async fn invalid_queries_are_rejected() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    for number in 0..konnector_store::MAX_INDEXES {
        documents.find(BILLS, query(&[&format!("m{number}")], &[], Range::Any)).await.unwrap();
    }
    let refusals = [
        error_text(documents.find(BILLS, query(&["one.too.many"], &[], Range::Any)).await),
        error_text(documents.find(BILLS, query(&["_content"], &[], Range::Any)).await),
        error_text(
            documents.find(BILLS, Query { cursor: Some("x".to_owned()), ..query(&["m1"], &[], Range::Any) }).await,
        ),
        error_text(documents.find("bills", query(&["m1"], &[], Range::Any)).await),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    Invalid("index: the doctype io.cozy.bills already has 16 indexes, which is the maximum; use one of [m0] [m1] [m2] [m3] [m4] [m5] [m6] [m7] [m8] [m9] [m10] [m11] [m12] [m13] [m14] [m15], or delete one")
    Invalid("index: `_content` is a reserved field and cannot be queried")
    Invalid("cursor: it is not a cursor of an earlier page of this query")
    Denied("the manifest has no rule for GET on bills; add to \"permissions\": \"bills2\": { \"type\": \"bills\", \"verbs\": [\"GET\"] }")
    "#);
}

#[tokio::test]
async fn a_run_without_its_lease_writes_nothing() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    documents.save(BILLS, vec![item("1", json!({ "n": 1 }))]).await.unwrap();
    run.lose_lease().await;
    assert_eq!(documents.save(BILLS, vec![item("2", json!({}))]).await.unwrap_err(), CapabilityError::LeaseLost);
    let changed = documents.update(BILLS, vec![change(key("1"), None, json!({ "n": 2 }))]).await;
    assert_eq!(changed.unwrap_err(), CapabilityError::LeaseLost);
    assert_eq!(documents.delete(BILLS, vec![key("1")]).await.unwrap_err(), CapabilityError::LeaseLost);
    assert_eq!(documents.get(BILLS, &key("1")).await.unwrap().body["n"], 1);
}

/// All writes for a run use its own domain, including those of the internal API for a command component.
#[tokio::test]
async fn the_internal_api_writes_nothing_without_the_lease() {
    let run = TestRun::unrestricted().await;
    let (domain, instance) = (&run.scope.domain, &run.scope.instance);
    let everything = Principal::owner(instance);
    let bills = BILLS.parse().unwrap();
    let create = async || domain.core().documents().create(instance, &everything, &bills, None, Object::new()).await;
    let folder = async || domain.files().ensure_directory(instance, "/Bills").await;
    assert!(create().await.is_ok());
    run.lose_lease().await;
    assert!(matches!(create().await, Err(crate::Error::StaleLease)));
    assert!(matches!(folder().await, Err(crate::Error::StaleLease)));
}

/// Nests a value in `levels` arrays.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(0), |inner, _| json!([inner]))
}

#[tokio::test]
async fn documents_that_the_store_rejects_are_an_error_of_the_guest() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    let deep = documents.save(BILLS, vec![item("1", json!({ "a": nested(126) }))]).await;
    assert!(matches!(&deep, Err(CapabilityError::Invalid(text)) if text.contains("nested deeper than")), "{deep:?}");
    let large = documents.save(BILLS, vec![item("1", json!({ "a": "x".repeat(9_000_000) }))]).await;
    assert_eq!(large, Err(CapabilityError::TooLarge(8 << 20)));
    // A change makes it grow.
    documents.save(BILLS, vec![item("1", json!({ "a": "x".repeat(8_000_000) }))]).await.unwrap();
    let grown = documents.update(BILLS, vec![change(key("1"), None, json!({ "b": "x".repeat(1_000_000) }))]).await;
    assert_eq!(grown, Err(CapabilityError::TooLarge(8 << 20)));
}

/// `internal` means a fault of the server, and is logged for the operator.
#[tokio::test]
async fn nothing_that_a_guest_passes_is_a_fault_of_the_server() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    let long = "x".repeat(8_000);
    let kinds =
        ["", "x", BILLS, "../..", "io.cozy.bills\0", "io.cozy.files", "io.cozy.accounts", "é.é", "A.B", long.as_str()];
    let names = ["", "_design/x", "\0", "a/b", "é", "%2F", "..", long.as_str()];
    let mut answers = Vec::new();
    for kind in kinds {
        answers.push(documents.check_save(kind).await.err());
        for name in names {
            for locator in [id(name), key(name)] {
                answers.push(documents.get(kind, &locator).await.err());
                answers.push(
                    documents
                        .update(kind, vec![change(locator.clone(), Some(name), json!({ name: name }))])
                        .await
                        .err(),
                );
                answers.push(documents.delete(kind, vec![locator]).await.err());
            }
            answers.push(
                documents.save(kind, vec![item(name, json!({ name: name, "_id": name, "_rev": [name] }))]).await.err(),
            );
            let mut wanted = query(&[name], &[json!(name)], Range::Any);
            wanted.cursor = Some(name.to_owned());
            answers.push(documents.find(kind, wanted).await.err());
        }
    }
    // One index more than a type may have.
    for number in 0..20 {
        answers.push(documents.find(BILLS, query(&[&format!("m{number}")], &[], Range::Any)).await.err());
    }
    let faults: Vec<_> =
        answers.into_iter().flatten().filter(|error| matches!(error, CapabilityError::Internal(_))).collect();
    assert_eq!(faults, []);
}

#[tokio::test]
async fn small_changes_of_many_large_documents_are_several_calls() {
    let run = TestRun::unrestricted().await;
    let documents = run.documents();
    for number in 0..12 {
        let body = json!({ "values": vec![0; 30_000] });
        documents.save(BILLS, vec![item(&number.to_string(), body)]).await.unwrap();
    }
    let changes = |number: usize| -> Vec<_> {
        (0..number).map(|number| change(key(&number.to_string()), None, json!({ "paid": true }))).collect()
    };
    assert_eq!(
        error_text(documents.update(BILLS, changes(12)).await),
        "Invalid(\"the stored documents take more than 8 MiB in total; change fewer at a time\")"
    );
    assert_eq!(documents.update(BILLS, changes(3)).await.unwrap().len(), 3);
}

use super::*;
use konnector_sdk::bindings::konnector::host::http::HttpError;
use konnector_sdk::serde_json::Value;
use konnector_sdk::testing::{MockHost, MockResponse};

const SITE: &str = "https://dav.example";
/// The address book in the saved state.
const STATE_OF_BOOK: &str = "dav.example/books/family";
const A: &str = "/books/family/a.vcf";
const B: &str = "/books/family/b.vcf";

fn multistatus(responses: &str) -> MockResponse {
    let text = format!(
        r#"<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:card="urn:ietf:params:xml:ns:carddav"
           xmlns:cs="http://calendarserver.org/ns/">{responses}</d:multistatus>"#
    );
    MockResponse::status(207, &text)
}

fn resource(href: &str, properties: &str) -> String {
    format!(
        "<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
         <d:propstat><d:prop><d:displayname>not this</d:displayname></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response>"
    )
}

fn url(path: &str) -> String {
    format!("{SITE}{path}")
}

fn card(name: &str) -> String {
    format!("<card:address-data>BEGIN:VCARD&#13;\nVERSION:3.0&#13;\nFN:{name}&#13;\nEND:VCARD</card:address-data>")
}

/// Creates a server that is queried at its front page, with one address book of this tag.
fn server(tag: &str) -> MockHost {
    let book = format!(
        "<d:resourcetype><d:collection/><card:addressbook/></d:resourcetype><d:displayname>Family</d:displayname><cs:getctag>{tag}</cs:getctag>"
    );
    let home =
        resource("/books/", "<d:resourcetype><d:collection/></d:resourcetype>") + &resource("/books/family/", &book);
    MockHost::new()
        .field("url", SITE)
        .field("login", "zoe")
        .secret("password")
        .respond(&url("/"), MockResponse::status(405, ""))
        .respond(
            &url("/.well-known/carddav"),
            multistatus(&resource("/", "<d:current-user-principal><d:href>/me/</d:href></d:current-user-principal>"))
                .with_final_url(&url("/dav/")),
        )
        .respond(
            &url("/me/"),
            multistatus(&resource(
                "/me/",
                "<card:addressbook-home-set><d:href>/books/</d:href></card:addressbook-home-set>",
            )),
        )
        .respond(&url("/books/"), multistatus(&home))
}

fn listing(cards: &[(&str, &str)]) -> MockResponse {
    let entry = |(href, etag): &(&str, &str)| resource(href, &format!("<d:getetag>\"{etag}\"</d:getetag>"));
    multistatus(&cards.iter().map(entry).collect::<String>())
}

fn multiget(cards: &[(&str, &str, &str)]) -> MockResponse {
    let entry = |(href, etag, name): &(&str, &str, &str)| {
        resource(href, &format!("<d:getetag>\"{etag}\"</d:getetag>{}", card(name)))
    };
    multistatus(&cards.iter().map(entry).collect::<String>())
}

fn names(host: &MockHost) -> Vec<String> {
    let mut names: Vec<_> =
        host.documents(DOCTYPE).iter().map(|contact| contact["fullname"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn finds_the_books_and_then_fetches_only_what_changed() {
    let book = url("/books/family/");
    let host = server("1")
        .respond(&book, listing(&[("/books/family/a.vcf", "1"), ("/books/family/b.vcf", "1")]))
        .respond(&book, multiget(&[("/books/family/a.vcf", "1", "Ada"), ("/books/family/b.vcf", "1", "Bob")]));
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(names(&host), ["Ada", "Bob"]);
    let mut paths: Vec<_> = host.files().into_iter().map(|file| file.path).collect();
    paths.sort();
    assert_eq!(paths, ["Family/Ada.vcf", "Family/Bob.vcf"]);
    let requests = host.requests();
    assert!(requests.iter().all(|request| request.headers.iter().any(|(name, _)| name == "authorization")));
    assert!(requests[5].body.contains("<D:href>/books/family/a.vcf</D:href>"), "{}", requests[5].body);

    // The tag is unchanged, so the book is not even listed.
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(host.requests().len(), requests.len() + 4);
}

#[test]
fn a_second_run_updates_and_deletes() {
    let book = url("/books/family/");
    let (a, b) = ("/books/family/a.vcf", "/books/family/b.vcf");
    let host = server("1")
        .respond(&book, listing(&[(a, "1"), (b, "1")]))
        .respond(&book, multiget(&[(a, "1", "Ada"), (b, "1", "Bob")]));
    host.run(run).unwrap();
    let (state, documents) = (host.state().unwrap(), names(&host));
    assert_eq!(documents.len(), 2);

    let host = server("2")
        .account_state(&state)
        .respond(&book, listing(&[(a, "2")]))
        .respond(&book, multiget(&[(a, "2", "Ada L.")]));
    host.run(run).unwrap();
    assert_eq!(names(&host), ["Ada L."]);
    let cards = host.state().unwrap()[STATE_OF_BOOK]["cards"].as_object().unwrap().len();
    assert_eq!(cards, 1, "b is forgotten");
}

#[test]
fn a_card_that_is_broken_is_reported_and_tried_again() {
    let book = url("/books/family/");
    let (a, b) = ("/books/family/a.vcf", "/books/family/b.vcf");
    let broken = resource(a, "<d:getetag>\"1\"</d:getetag><card:address-data>no card</card:address-data>");
    let fine = resource(b, &format!("<d:getetag>\"1\"</d:getetag>{}", card("Bob")));
    let host =
        server("1").respond(&book, listing(&[(a, "1"), (b, "1")])).respond(&book, multistatus(&(broken + &fine)));
    let report = host.run(run).unwrap();
    insta::assert_debug_snapshot!(report.problems(), @r#"
    [
        (
            "/books/family/a.vcf",
            "a card does not begin with BEGIN:VCARD",
        ),
    ]
    "#);
    assert_eq!(names(&host), ["Bob"]);
    assert_eq!(host.state().unwrap()[STATE_OF_BOOK]["tag"], Value::Null, "the next run lists the book again");
}

#[test]
fn an_invalid_server_is_reported_to_the_user() {
    let host = MockHost::new().field("url", SITE).field("login", "zoe").secret("password");
    insta::assert_snapshot!(host.run(run).unwrap_err(), @"the user must act: https://dav.example/ is not a CardDAV server (PROPFIND https://dav.example/.well-known/carddav returned 404 Not Found); check the address");
    let host = MockHost::new().field("url", "dav.example").field("login", "zoe").secret("password");
    insta::assert_snapshot!(host.run(run).unwrap_err(), @"the user must act: `dav.example` is not a valid URL: relative URL without a base; enter the server's full address, for example https://dav.example.org");
    let host = MockHost::new()
        .field("url", SITE)
        .field("login", "zoe")
        .secret("password")
        .respond(&url("/"), MockResponse::status(401, ""));
    assert!(matches!(host.run(run), Err(Error::BadCredentials(_))));
}

/// Returns a response about a resource that has no properties, but a status.
fn status(href: &str, line: &str, more: &str) -> String {
    format!("<d:response><d:href>{href}</d:href><d:status>{line}</d:status>{more}</d:response>")
}

fn entry(href: &str, etag: &str) -> String {
    resource(href, &format!("<d:getetag>\"{etag}\"</d:getetag>"))
}

fn content(href: &str, etag: &str, name: &str) -> String {
    resource(href, &format!("<d:getetag>\"{etag}\"</d:getetag>{}", card(name)))
}

/// Returns the state after a run that saved Ada at A and Bob at B.
fn both_saved() -> Value {
    let host = server("1")
        .respond(&url("/books/family/"), listing(&[(A, "1"), (B, "1")]))
        .respond(&url("/books/family/"), multiget(&[(A, "1", "Ada"), (B, "1", "Bob")]));
    host.run(run).unwrap();
    host.state().unwrap()
}

/// Returns the number of cards in the state after a second run whose listing of the book is `list`, once for a query
/// and once for a PROPFIND.
fn count_remembered(list: &str) -> usize {
    let saved = both_saved();
    let host = server("2").account_state(&saved).respond(&url("/books/family/"), multistatus(list));
    host.run(run).unwrap();
    host.state().unwrap()[STATE_OF_BOOK]["cards"].as_object().unwrap().len()
}

#[test]
fn cards_missing_from_an_incomplete_list_are_not_deleted() {
    let a = entry(A, "1");
    let book = "/books/family/";
    assert_eq!(count_remembered(&a), 1);
    assert_eq!(count_remembered(""), 0);
    assert_eq!(count_remembered(&(a.clone() + &status(B, "HTTP/1.1 404 Not Found", ""))), 1);
    let limit = "<d:error><card:number-of-matches-within-limits/></d:error>";
    for (description, more) in [
        ("cut by RFC 6352", status(book, "HTTP/1.1 507 Insufficient Storage", "")),
        ("cut, with the reason", status(book, "HTTP/1.1 507 Insufficient Storage", limit)),
        ("cut, spelled otherwise", status(&url("/books/family"), "HTTP/2 507", "")),
        ("only the reason", status(book, "HTTP/1.1 403 Forbidden", limit)),
        ("a card that is there and cannot be read", status(B, "HTTP/1.1 403 Forbidden", "")),
        ("a card that the server stumbles over", status(B, "HTTP/1.1 500 Internal Server Error", "")),
        ("a status that is none", status(B, "gone", "")),
        ("a response without an address", "<d:response><d:status>HTTP/1.1 200 OK</d:status></d:response>".to_owned()),
        ("an address that is none", entry("https://[", "1")),
    ] {
        assert_eq!(count_remembered(&(a.clone() + &more)), 2, "{description}");
    }
}

#[test]
fn an_invalid_list_deletes_nothing() {
    for text in ["<html><body>Welcome</body></html>", "<d:multistatus xmlns:d=\"DAV:\"><d:response>", ""] {
        let saved = both_saved();
        let host = server("2").account_state(&saved).respond(&url("/books/family/"), MockResponse::status(207, text));
        assert!(host.run(run).is_err(), "{text}");
        assert_eq!(host.state().unwrap()[STATE_OF_BOOK]["cards"].as_object().unwrap().len(), 2, "{text}");
    }
}

#[test]
fn a_truncated_list_is_requested_in_another_form() {
    let book = url("/books/family/");
    let cut = entry(A, "1") + &status("/books/family/", "HTTP/1.1 507 Insufficient Storage", "");
    let whole = resource("/books/family/", "<d:resourcetype><d:collection/></d:resourcetype>")
        + &entry(A, "1")
        + &entry("/books/family/c.vcf", "1");
    let saved = both_saved();
    let host = server("2")
        .account_state(&saved)
        .respond(&book, multistatus(&cut))
        .respond(&book, multistatus(&whole))
        .respond(&book, multistatus(&content("/books/family/c.vcf", "1", "Cleo")));
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(names(&host), ["Cleo"]);
    assert_eq!(host.state().unwrap()[STATE_OF_BOOK]["cards"].as_object().unwrap().len(), 2, "b is gone, c is new");
}

#[test]
fn a_card_is_recognised_however_its_address_is_spelled() {
    let saved = both_saved();
    let host = server("2").account_state(&saved).respond(
        &url("/books/family/"),
        multistatus(
            &(entry("http://dav.example/books/family/%61.vcf", "1") + &entry("/books/x/../family//b%2Evcf", "1")),
        ),
    );
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(host.requests().len(), 5, "nothing is fetched");
    let mut expected = saved;
    expected[STATE_OF_BOOK]["tag"] = "2".into();
    assert_eq!(host.state(), Some(expected));
}

#[test]
fn a_card_without_an_etag_stays_and_is_fetched_anew() {
    let saved = both_saved();
    let host = server("2")
        .account_state(&saved)
        .respond(&url("/books/family/"), multistatus(&(resource(A, "") + &entry(B, "1"))))
        .respond(&url("/books/family/"), multistatus(&resource(A, &card("Ada L."))));
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(names(&host), ["Ada L."]);
    assert_eq!(host.state().unwrap()[STATE_OF_BOOK]["cards"].as_object().unwrap().len(), 2);
}

#[test]
fn a_missing_card_is_requested_again_in_the_next_run() {
    let lost = [
        ("", "the server did not return it"),
        (
            "<d:response><d:href>/books/family/a.vcf</d:href><d:status>HTTP/1.1 500 Oops</d:status></d:response>",
            "HTTP/1.1 500 Oops",
        ),
        ("<d:response><d:href>/books/family/a.vcf</d:href></d:response>", "the server returned it without its content"),
    ];
    for (response, reason) in lost {
        let host = server("1")
            .respond(&url("/books/family/"), listing(&[(A, "1"), (B, "1")]))
            .respond(&url("/books/family/"), multistatus(&(response.to_owned() + &content(B, "1", "Bob"))));
        let report = host.run(run).unwrap();
        assert_eq!(report.problems(), [(A.to_owned(), reason.to_owned())]);
        assert_eq!(names(&host), ["Bob"]);
        assert_eq!(host.state().unwrap()[STATE_OF_BOOK]["tag"], Value::Null);
    }
}

#[test]
fn one_card_that_breaks_every_response_affects_no_other() {
    let broken = MockResponse::status(207, "<d:multistatus xmlns:d=\"DAV:\">\u{1}&nothing;</d:multistatus>");
    let large = MockResponse::failure(HttpError::TooLarge(10 << 20));
    for (failure, reason) in [
        (broken, "the server's response is not XML: `&nothing;` is not known"),
        (
            large,
            "REPORT https://dav.example/books/family/: the response is larger than 10485760 bytes; use `download` for it",
        ),
        (
            MockResponse::status(500, ""),
            "the vendor does not respond: REPORT https://dav.example/books/family/ returned 500 Internal Server Error",
        ),
    ] {
        let (book, c) = (url("/books/family/"), "/books/family/c.vcf");
        let host = server("1")
            .respond(&book, listing(&[(A, "1"), (B, "1"), (c, "1")]))
            // All three, a alone, b and c, b alone, c alone.
            .respond(&book, failure.clone())
            .respond(&book, multistatus(&content(A, "1", "Ada")))
            .respond(&book, failure.clone())
            .respond(&book, failure)
            .respond(&book, multistatus(&content(c, "1", "Cleo")));
        let report = host.run(run).unwrap();
        assert_eq!(report.problems(), [(B.to_owned(), reason.to_owned())]);
        assert_eq!(names(&host), ["Ada", "Cleo"]);
    }
}

#[test]
fn a_failing_server_is_abandoned_and_saved_cards_are_remembered() {
    let book = url("/books/family/");
    let hrefs: Vec<String> = (0..60).map(|number| format!("/books/family/{number}.vcf")).collect();
    let entries: Vec<_> = hrefs.iter().map(|href| (href.as_str(), "1")).collect();
    let first: Vec<_> = hrefs.iter().take(50).map(|href| (href.as_str(), "1", "Ada")).collect();
    let host = server("1")
        .respond(&book, listing(&entries))
        .respond(&book, multiget(&first))
        .respond(&book, MockResponse::status(500, ""));
    assert!(matches!(host.run(run), Err(Error::VendorDown(_))));
    assert!(host.requests().len() < 30, "{}", host.requests().len());
    assert_eq!(host.state().unwrap()[STATE_OF_BOOK]["cards"].as_object().unwrap().len(), 50);
}

#[test]
fn sixty_cards_with_photos_come_in_small_responses() {
    let book = url("/books/family/");
    let hrefs: Vec<String> = (0..60).map(|number| format!("/books/family/{number}.vcf")).collect();
    let list =
        |href: &String| resource(href, "<d:getetag>\"1\"</d:getetag><d:getcontentlength>270000</d:getcontentlength>");
    let mut host = server("1").respond(&book, multistatus(&hrefs.iter().map(list).collect::<String>()));
    for batch in hrefs.chunks(15) {
        let cards: Vec<_> = batch.iter().map(|href| (href.as_str(), "1", "Ada")).collect();
        host = host.respond(&book, multiget(&cards));
    }
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(host.documents(DOCTYPE).len(), 60);
}

/// Returns the home of the books as listed by the server.
fn home(books: &[(&str, &str)], more: &str) -> MockResponse {
    let book = |(href, tag): &(&str, &str)| {
        resource(href, &format!("<d:resourcetype><card:addressbook/></d:resourcetype><cs:getctag>{tag}</cs:getctag>"))
    };
    multistatus(&(books.iter().map(book).collect::<String>() + more))
}

fn signed_in(host: MockHost) -> MockHost {
    host.field("url", url("/books/")).field("login", "zoe").secret("password")
}

fn principal(homes: &str) -> MockResponse {
    multistatus(&resource("/books/", &format!("<card:addressbook-home-set>{homes}</card:addressbook-home-set>")))
}

/// Returns the books in the state after a second run with this listing of the home.
fn books_after(list: MockResponse) -> Vec<String> {
    let saved = both_saved();
    let host = signed_in(MockHost::new())
        .account_state(&saved)
        .respond(&url("/books/"), principal("<d:href>/books/</d:href>"))
        .respond(&url("/books/"), list)
        .respond(&url("/books/work/"), multistatus(""))
        .respond(&url("/books/family"), listing(&[(A, "1"), (B, "1")]));
    host.run(run).unwrap();
    let state = host.state().unwrap();
    state
        .as_object()
        .unwrap()
        .iter()
        .map(|(url, book)| format!("{url}: {}", book["cards"].as_object().unwrap().len()))
        .collect()
}

#[test]
fn books_missing_from_an_incomplete_list_are_not_deleted() {
    let work = [("/books/work/", "1")];
    assert_eq!(books_after(home(&work, "")), ["dav.example/books/work: 0"]);
    let both = ["dav.example/books/family: 2", "dav.example/books/work: 0"];
    for more in [
        status("/books/family/", "HTTP/1.1 403 Forbidden", ""),
        status("/books/", "HTTP/1.1 507 Insufficient Storage", ""),
        resource("/books/family/", "<d:displayname>Family</d:displayname>"),
    ] {
        assert_eq!(books_after(home(&work, &more)), both, "{more}");
    }
    // The same book with another spelling of its URL.
    assert_eq!(books_after(home(&[("/books/family", "2"), ("/books/work/", "1")], "")), both);
}

#[test]
fn a_server_may_keep_the_books_at_another_host_that_the_user_allows() {
    let home_url = "https://p42.dav.example/zoe/";
    let named = || principal(&format!("<d:href>{home_url}</d:href>"));
    let denied = MockResponse::failure(HttpError::Denied("no rule allows p42.dav.example".to_owned()));
    let host = signed_in(MockHost::new()).respond(&url("/books/"), named()).respond(home_url, denied);
    insta::assert_snapshot!(host.run(run).unwrap_err(), @"the user must act: dav.example stores the address books at https://p42.dav.example/zoe/; enter this address as the address of the address books to allow it");

    let host = signed_in(MockHost::new())
        .field("books_url", home_url)
        .respond(home_url, home(&[("/zoe/card/", "1")], ""))
        .respond("https://p42.dav.example/zoe/card/", listing(&[("/zoe/card/a.vcf", "1")]))
        .respond("https://p42.dav.example/zoe/card/", multiget(&[("/zoe/card/a.vcf", "1", "Ada")]));
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(names(&host), ["Ada"]);
    assert!(host.requests().iter().all(|request| request.headers.iter().any(|(name, _)| name == "authorization")));
}

use super::*;
use konnector_sdk::serde_json::Value;
use konnector_sdk::testing::{Answer, Host};

const SITE: &str = "https://dav.example";

fn multistatus(responses: &str) -> Answer {
    let text = format!(
        r#"<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:card="urn:ietf:params:xml:ns:carddav"
           xmlns:cs="http://calendarserver.org/ns/">{responses}</d:multistatus>"#
    );
    Answer::status(207, &text)
}

fn resource(href: &str, properties: &str) -> String {
    format!(
        "<d:response><d:href>{href}</d:href><d:propstat><d:prop>{properties}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>
         <d:propstat><d:prop><d:displayname>not this</d:displayname></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response>"
    )
}

fn at(path: &str) -> String {
    format!("{SITE}{path}")
}

fn card(name: &str) -> String {
    format!("<card:address-data>BEGIN:VCARD&#13;\nVERSION:3.0&#13;\nFN:{name}&#13;\nEND:VCARD</card:address-data>")
}

/// A server that is asked at its front page, with one address book of this tag.
fn server(tag: &str) -> Host {
    let book = format!(
        "<d:resourcetype><d:collection/><card:addressbook/></d:resourcetype><d:displayname>Family</d:displayname><cs:getctag>{tag}</cs:getctag>"
    );
    let home =
        resource("/books/", "<d:resourcetype><d:collection/></d:resourcetype>") + &resource("/books/family/", &book);
    Host::new()
        .field("url", SITE)
        .field("login", "zoe")
        .secret("password")
        .answer(&at("/"), Answer::status(405, ""))
        .answer(
            &at("/.well-known/carddav"),
            multistatus(&resource("/", "<d:current-user-principal><d:href>/me/</d:href></d:current-user-principal>"))
                .from_url(&at("/dav/")),
        )
        .answer(
            &at("/me/"),
            multistatus(&resource(
                "/me/",
                "<card:addressbook-home-set><d:href>/books/</d:href></card:addressbook-home-set>",
            )),
        )
        .answer(&at("/books/"), multistatus(&home))
}

fn listed(cards: &[(&str, &str)]) -> Answer {
    let entry = |(href, etag): &(&str, &str)| resource(href, &format!("<d:getetag>\"{etag}\"</d:getetag>"));
    multistatus(&cards.iter().map(entry).collect::<String>())
}

fn fetched(cards: &[(&str, &str, &str)]) -> Answer {
    let entry = |(href, etag, name): &(&str, &str, &str)| {
        resource(href, &format!("<d:getetag>\"{etag}\"</d:getetag>{}", card(name)))
    };
    multistatus(&cards.iter().map(entry).collect::<String>())
}

fn names(host: &Host) -> Vec<String> {
    let mut names: Vec<_> =
        host.documents(DOCTYPE).iter().map(|contact| contact["fullname"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn finds_the_books_and_then_fetches_only_what_changed() {
    let book = at("/books/family/");
    let host = server("1")
        .answer(&book, listed(&[("/books/family/a.vcf", "1"), ("/books/family/b.vcf", "1")]))
        .answer(&book, fetched(&[("/books/family/a.vcf", "1", "Ada"), ("/books/family/b.vcf", "1", "Bob")]));
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(names(&host), ["Ada", "Bob"]);
    let mut paths: Vec<_> = host.files().into_iter().map(|file| file.path).collect();
    paths.sort();
    assert_eq!(paths, ["Family/Ada.vcf", "Family/Bob.vcf"]);
    let requests = host.requests();
    assert!(requests.iter().all(|request| request.headers.iter().any(|(name, _)| name == "authorization")));
    assert!(requests[5].body.contains("<D:href>/books/family/a.vcf</D:href>"), "{}", requests[5].body);

    // The tag is the same: the book is not even listed.
    assert!(host.run(run).unwrap().problems().is_empty());
    assert_eq!(host.requests().len(), requests.len() + 4);
}

#[test]
fn a_second_run_updates_and_deletes() {
    let book = at("/books/family/");
    let (a, b) = ("/books/family/a.vcf", "/books/family/b.vcf");
    let host = server("1")
        .answer(&book, listed(&[(a, "1"), (b, "1")]))
        .answer(&book, fetched(&[(a, "1", "Ada"), (b, "1", "Bob")]));
    host.run(run).unwrap();
    let (state, documents) = (host.state().unwrap(), names(&host));
    assert_eq!(documents.len(), 2);

    let host = server("2")
        .saved_state(&state)
        .answer(&book, listed(&[(a, "2")]))
        .answer(&book, fetched(&[(a, "2", "Ada L.")]));
    host.run(run).unwrap();
    assert_eq!(names(&host), ["Ada L."]);
    let cards = host.state().unwrap()[&book]["cards"].as_object().unwrap().len();
    assert_eq!(cards, 1, "b is forgotten");
}

#[test]
fn a_card_that_is_broken_is_reported_and_tried_again() {
    let book = at("/books/family/");
    let (a, b) = ("/books/family/a.vcf", "/books/family/b.vcf");
    let broken = resource(a, "<d:getetag>\"1\"</d:getetag><card:address-data>no card</card:address-data>");
    let fine = resource(b, &format!("<d:getetag>\"1\"</d:getetag>{}", card("Bob")));
    let host = server("1").answer(&book, listed(&[(a, "1"), (b, "1")])).answer(&book, multistatus(&(broken + &fine)));
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
    assert_eq!(host.state().unwrap()[&book]["tag"], Value::Null, "the next run lists the book again");
}

#[test]
fn what_is_no_server_is_the_users_to_correct() {
    let host = Host::new().field("url", SITE).field("login", "zoe").secret("password");
    insta::assert_snapshot!(host.run(run).unwrap_err(), @"the user must act: https://dav.example/ is no CardDAV server (PROPFIND https://dav.example/.well-known/carddav answered 404 Not Found); check the address");
    let host = Host::new().field("url", "dav.example").field("login", "zoe").secret("password");
    insta::assert_snapshot!(host.run(run).unwrap_err(), @"the user must act: the address `dav.example`: relative URL without a base; give the server's whole address, for example https://dav.example.org");
    let refused = Host::new()
        .field("url", SITE)
        .field("login", "zoe")
        .secret("password")
        .answer(&at("/"), Answer::status(401, ""));
    assert!(matches!(refused.run(run), Err(Error::BadCredentials(_))));
}

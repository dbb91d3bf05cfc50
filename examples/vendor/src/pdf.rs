//! The PDF of a bill, with the same bytes each time.

use chrono::Datelike;
use encoding_rs::WINDOWS_1252;
use pdf_writer::{Content, Date, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use crate::bill::{Amount, Bill};
use crate::customer::CUSTOMER;
use crate::language::Language;

const FONT: Name<'static> = Name(b"F1");
const A4: Rect = Rect { x1: 0.0, y1: 0.0, x2: 595.0, y2: 842.0 };
const LINES_PER_PAGE: usize = 50;
/// Bills have 1 to this many pages, so that their sizes vary like real ones: about 5 KB to 60 KB.
const MAX_PAGES: u64 = 8;

/// Renders the PDF of a bill, with its heading and then its transactions, over one or more pages.
pub fn render(bill: &Bill) -> Vec<u8> {
    let lines = text(bill);
    let pages: Vec<&[String]> = lines.chunks(LINES_PER_PAGE).collect();

    let mut next = 0;
    let mut reference = || {
        next += 1;
        Ref::new(next)
    };
    let (catalog, tree, info, font) = (reference(), reference(), reference(), reference());
    let pages: Vec<(Ref, Ref, &[String])> = pages.into_iter().map(|lines| (reference(), reference(), lines)).collect();

    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree).lang(TextStr(bill.contract.language().tag()));
    pdf.pages(tree).kids(pages.iter().map(|(page, _, _)| *page)).count(i32::try_from(pages.len()).unwrap_or(i32::MAX));
    pdf.document_info(info).title(TextStr(&title(bill))).author(TextStr("Bank101")).creation_date(creation_date(bill));
    pdf.type1_font(font).base_font(Name(b"Helvetica")).encoding_predefined(Name(b"WinAnsiEncoding"));
    for (page, contents, lines) in pages {
        let mut writer = pdf.page(page);
        writer.parent(tree).media_box(A4).contents(contents);
        writer.resources().fonts().pair(FONT, font);
        writer.finish();
        pdf.stream(contents, &draw(lines));
    }
    pdf.finish()
}

/// Returns the title of a bill: `Facture FA-2026-0020` or `Bill INV-2026-0018`.
fn title(bill: &Bill) -> String {
    match bill.contract.language() {
        Language::French => format!("Facture {}", bill.reference),
        Language::English => format!("Bill {}", bill.reference),
    }
}

fn creation_date(bill: &Bill) -> Date {
    let day = bill.issued_on;
    let small = |number: u32| u8::try_from(number).unwrap_or_default();
    Date::new(u16::try_from(day.year()).unwrap_or_default()).month(small(day.month())).day(small(day.day()))
}

/// Returns all lines of the bill, from the heading to the last transaction.
fn text(bill: &Bill) -> Vec<String> {
    let language = bill.contract.language();
    let (total, due, operation) = match language {
        Language::French => ("Montant total", "Date de prélèvement", "Opération"),
        Language::English => ("Total amount", "Taken on", "Operation"),
    };
    let mut lines = vec![
        format!("Bank101 - {}", title(bill)),
        format!("{} {}", CUSTOMER.given_name, CUSTOMER.family_name),
        format!("{}, {} {}", CUSTOMER.street, CUSTOMER.postcode, CUSTOMER.city),
        bill.contract.label().to_owned(),
        language.long_date(bill.issued_on),
        bill.subject.clone(),
        format!("{total} : {}", language.amount(bill.amount)),
        format!("{due} : {}", language.short_date(bill.due_on())),
        String::new(),
    ];
    let cents = bill.amount.cents().unsigned_abs();
    let count = LINES_PER_PAGE * usize::try_from(cents % MAX_PAGES).unwrap_or_default() + LINES_PER_PAGE / 2;
    // The transactions sum up to the bill: equal parts, and the first includes the remainder.
    let parts = i64::try_from(count).unwrap_or(i64::MAX);
    let (part, rest) = (bill.amount.cents() / parts, bill.amount.cents() % parts);
    lines.extend((1..=count).map(|number| {
        let amount = Amount::new(if number == 1 { part + rest } else { part });
        format!("{operation} {}-{number:04}    {}    {}", bill.reference, bill.subject, language.amount(amount))
    }));
    lines
}

/// Draws one page.
fn draw(lines: &[String]) -> Vec<u8> {
    let mut content = Content::new();
    content.begin_text();
    content.set_font(FONT, 10.0);
    content.next_line(56.0, 780.0);
    for line in lines {
        // WinAnsi is Windows-1252. A missing character becomes `&#…;`, which can only happen to a subject given
        // through the control API.
        let (bytes, _, _) = WINDOWS_1252.encode(line);
        content.show(Str(&bytes));
        content.next_line(0.0, -14.0);
    }
    content.end_text();
    content.finish().into_vec()
}

#[cfg(test)]
mod tests {
    use lopdf::Document;
    use lopdf::xref::XrefEntry;

    use super::*;
    use crate::ledger::BillLedger;

    #[test]
    fn every_pdf_is_valid_and_names_its_bill() {
        for bill in BillLedger::new(20).all() {
            let bytes = render(bill);
            assert!(bytes.starts_with(b"%PDF-1."));
            assert!((1_500..64_000).contains(&bytes.len()), "{} is {} bytes", bill.reference, bytes.len());
            let document = Document::load_mem(&bytes).unwrap();
            let mut objects = 0;
            for (number, entry) in &document.reference_table.entries {
                if let XrefEntry::Normal { offset, .. } = entry {
                    let expected = format!("{number} 0 obj");
                    assert!(bytes[*offset as usize..].starts_with(expected.as_bytes()), "object {number} is elsewhere");
                    objects += 1;
                }
            }
            assert!(objects > 0, "{} has no objects", bill.reference);
            let text = document.extract_text(&[1]).unwrap();
            // Byte A0 of WinAnsiEncoding is a plain space (ISO 32000-1, Annex D.2).
            let amount = bill.contract.language().amount(bill.amount).replace('\u{a0}', " ");
            for expected in [&bill.reference, &bill.subject, &amount] {
                assert!(text.contains(expected.as_str()), "{expected} is not in {text}");
            }
        }
    }

    #[test]
    fn the_same_bill_has_the_same_bytes_and_another_has_others() {
        let ledger = BillLedger::new(2);
        let [first, second] = ledger.all() else { panic!("two bills") };
        assert_eq!(render(first), render(first));
        assert_ne!(render(first), render(second));
    }

    #[test]
    fn text_outside_of_the_font_still_makes_a_valid_pdf() {
        let mut ledger = BillLedger::new(0);
        let new = crate::bill::NewBill { subject: Some("(日本) \\ «".into()), ..Default::default() };
        let bytes = render(&ledger.add(new));
        let text = Document::load_mem(&bytes).unwrap().extract_text(&[1]).unwrap();
        assert!(text.contains("(&#26085;&#26412;) \\ «"), "{text}");
    }
}

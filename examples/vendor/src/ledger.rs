//! All bills of the customer: a fixed sequence that depends only on its length, and bills added later.

use chrono::{Days, Months, NaiveDate};

use crate::bill::{Amount, Bill, NewBill};
use crate::contract::Contract;

/// Number of bills on a page of the site.
pub const BILLS_PER_PAGE: usize = 7;

/// The month of the first bill. It is fixed and not relative to today, so two runs of the vendor show the same bills.
const FIRST_MONTH: Option<NaiveDate> = NaiveDate::from_ymd_opt(2025, 4, 3);

/// The bills, oldest first.
#[derive(Debug)]
pub struct BillLedger {
    bills: Vec<Bill>,
}

/// One page of the bills of a contract.
#[derive(Debug)]
pub struct Page<'a> {
    /// Bills of the page, newest first.
    pub bills: Vec<&'a Bill>,
    /// Number of the page, from 1.
    pub number: usize,
    /// The number of pages, at least 1.
    pub count: usize,
}

impl BillLedger {
    /// Creates the ledger with its first `count` bills: one per month from April 2025, every fourth on the English
    /// contract. The twentieth bill is dated 3 November 2026.
    pub fn new(count: usize) -> Self {
        let mut ledger = Self { bills: Vec::with_capacity(count) };
        for _ in 0..count {
            ledger.add(NewBill::default());
        }
        ledger
    }

    /// Adds a bill. Its number in the sequence determines the fields that `new` omits.
    pub fn add(&mut self, new: NewBill) -> Bill {
        let number = self.bills.len() + 1;
        let contract = new.contract.unwrap_or(if number % 4 == 2 { Contract::English } else { Contract::French });
        let issued_on = new.issued_on.unwrap_or_else(|| default_date(number));
        let subjects = contract.subjects();
        let subject = subjects.get(number % subjects.len()).copied().unwrap_or_default();
        let bill = Bill {
            reference: format!("{}-{}-{number:04}", contract.reference_prefix(), issued_on.format("%Y")),
            contract,
            issued_on,
            subject: new.subject.unwrap_or_else(|| subject.to_owned()),
            amount: new.amount.unwrap_or_else(|| default_amount(number)),
        };
        self.bills.push(bill.clone());
        bill
    }

    /// Returns all bills, oldest first.
    pub fn all(&self) -> &[Bill] {
        &self.bills
    }

    /// Returns the bill with this reference.
    pub fn find(&self, reference: &str) -> Option<&Bill> {
        self.bills.iter().find(|bill| bill.reference == reference)
    }

    /// Returns page `number` (from 1) of a contract's bills, newest first; `None` if there is no such page. A contract
    /// without bills has one empty page.
    pub fn page(&self, contract: Contract, number: usize) -> Option<Page<'_>> {
        let mut bills: Vec<&Bill> = self.bills.iter().filter(|bill| bill.contract == contract).collect();
        // Bills added with their own date are sorted in; those of the same day stay newest number first.
        bills.reverse();
        bills.sort_by_key(|bill| std::cmp::Reverse(bill.issued_on));
        let count = bills.len().div_ceil(BILLS_PER_PAGE).max(1);
        if number == 0 || number > count {
            return None;
        }
        let bills = bills.into_iter().skip((number - 1) * BILLS_PER_PAGE).take(BILLS_PER_PAGE).collect();
        Some(Page { bills, number, count })
    }
}

/// Returns the day of the bill with this number: a month after the previous one, with the day varying between the 3rd
/// and the 7th.
fn default_date(number: usize) -> NaiveDate {
    let months = Months::new(u32::try_from(number - 1).unwrap_or(u32::MAX));
    let days = Days::new((number % 5) as u64);
    FIRST_MONTH
        .and_then(|first| first.checked_add_months(months))
        .and_then(|day| day.checked_add_days(days))
        .unwrap_or(NaiveDate::MAX)
}

/// Returns the amount of the bill with this number: from €19.95 to about €2,500, so that some need a thousands
/// separator.
fn default_amount(number: usize) -> Amount {
    let spread = (number as u64).wrapping_mul(79_193) % 250_000;
    Amount::new(1_995 + i64::try_from(spread).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bills_are_always_the_same() {
        let ledger = BillLedger::new(20);
        let last = ledger.all().last().unwrap();
        assert_eq!(last.reference, "FA-2026-0020");
        assert_eq!(last.issued_on, NaiveDate::from_ymd_opt(2026, 11, 3).unwrap());
        assert_eq!(ledger.all(), BillLedger::new(20).all());
        assert_eq!(ledger.page(Contract::French, 1).unwrap().count, 3);
        assert_eq!(ledger.page(Contract::English, 1).unwrap().count, 1);
        assert!(ledger.all().iter().any(|bill| bill.amount.cents() >= 100_000));
    }

    #[test]
    fn a_new_bill_is_the_newest_unless_it_says_otherwise() {
        let mut ledger = BillLedger::new(20);
        let newest = ledger.add(NewBill::default());
        let old = NewBill { issued_on: NaiveDate::from_ymd_opt(2020, 1, 1), ..NewBill::default() };
        let oldest = ledger.add(NewBill { contract: Some(Contract::French), ..old });
        assert_eq!(ledger.page(Contract::French, 1).unwrap().bills[0], &newest);
        assert_eq!(*ledger.page(Contract::French, 3).unwrap().bills.last().unwrap(), &oldest);
    }

    #[test]
    fn an_empty_contract_has_one_empty_page() {
        let ledger = BillLedger::new(0);
        let page = ledger.page(Contract::French, 1).unwrap();
        assert!(page.bills.is_empty());
        assert!(ledger.page(Contract::French, 2).is_none());
        assert!(ledger.page(Contract::French, 0).is_none());
    }

    proptest! {
        #[test]
        fn the_pages_hold_each_bill_once(count in 0usize..120) {
            let ledger = BillLedger::new(count);
            let mut seen = HashSet::new();
            for contract in Contract::ALL {
                let pages = ledger.page(contract, 1).unwrap().count;
                for number in 1..=pages {
                    for bill in ledger.page(contract, number).unwrap().bills {
                        prop_assert!(seen.insert(bill.reference.clone()), "{} is listed twice", bill.reference);
                    }
                }
            }
            prop_assert_eq!(seen.len(), count);
        }
    }
}

//! Limits the memory that a JSON text may need, before it is parsed.
//!
//! A few bytes of JSON can become a hundred times as many in memory: `{"a":0},` is 8 bytes, and an object with one
//! field takes about six hundred. Text from a guest or a client therefore passes this scanner first. It allocates
//! nothing, can be fed in parts, and stops at the byte that exceeds a limit. It does not check the syntax; the parser
//! does that afterwards, with a known bound on its memory.

use serde_json::{Map, Value};

/// Maximum size of a document in bytes (`CouchDB`'s default `max_document_size`).
pub const MAX_DOCUMENT_BYTES: usize = 8 << 20;

/// Maximum depth of nested objects and arrays. `serde_json` reads 128 levels, and stored or published documents are
/// wrapped in a few more.
pub const MAX_DEPTH: u32 = 120;

/// Heap that the values of any text may take. It allows 300 to 800 KiB of text with ordinary fields, depending on their
/// length; larger texts must consist of long strings.
const MIN_HEAP_BYTES: usize = 8 << 20;

/// A value and its place in an array, which grows by doubling: twice `size_of::<Value>()`.
const VALUE_BYTES: usize = 144;
/// Memory of an object's field in addition to the memory of a comma: the field's share of a hash table and of the list
/// of fields.
const FIELD_BYTES: usize = 104;
/// An object with its hash table and room for its first fields.
const OBJECT_BYTES: usize = 400;
/// Room for the first values of an array.
const ARRAY_BYTES: usize = 288;
/// Allocator overhead of a string.
const STRING_BYTES: usize = 32;

/// Why a text is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonBudgetExceeded {
    /// The text nests too deeply.
    #[error("nested deeper than {MAX_DEPTH} levels; flatten it")]
    Depth,
    /// The values of the text would take too much memory.
    #[error("its values would take more than {} MiB of memory; send fewer at a time, or fewer fields in each", .limit >> 20)]
    Heap {
        /// The limit in bytes.
        limit: usize,
    },
}

/// Memory budget for all texts of one call or request.
#[derive(Debug)]
pub struct JsonBudget {
    limit: usize,
    used: usize,
}

impl JsonBudget {
    /// Creates the budget for a guest's call whose texts have this many bytes in total. The host holds at most two
    /// copies of the values, so the total stays below four times the bytes plus 16 MiB.
    ///
    /// This is not charged to the memory of the run, because a guest makes one call at a time, and the values are
    /// dropped when it returns, so a run cannot hold more. Only the metadata of an upload outlives its call; it is
    /// charged to the memory of the run.
    #[must_use]
    pub const fn for_call(bytes: usize) -> Self {
        Self { limit: MIN_HEAP_BYTES.saturating_add(bytes), used: 0 }
    }

    /// Creates the budget for a client's request whose body has this many bytes. Ordinary JSON takes ten to thirty
    /// times its bytes.
    #[must_use]
    pub const fn for_request(bytes: usize) -> Self {
        Self { limit: MIN_HEAP_BYTES.saturating_add(bytes.saturating_mul(32)), used: 0 }
    }

    /// Creates a scanner for one text.
    pub const fn scanner(&mut self) -> JsonScanner<'_> {
        JsonScanner { budget: self, depth: 0, state: ScanState::Values }
    }

    /// Scans one text at once.
    ///
    /// # Errors
    ///
    /// [`JsonBudgetExceeded`] if the text exceeds the budget.
    pub fn check(&mut self, text: &[u8]) -> Result<(), JsonBudgetExceeded> {
        self.scanner().feed(text)
    }

    /// Returns the maximum number of bytes that the values of the texts take in memory.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    const fn spend(&mut self, bytes: usize) -> Result<(), JsonBudgetExceeded> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.limit { Err(JsonBudgetExceeded::Heap { limit: self.limit }) } else { Ok(()) }
    }
}

/// Scans one text in parts.
#[derive(Debug)]
pub struct JsonScanner<'a> {
    budget: &'a mut JsonBudget,
    depth: u32,
    state: ScanState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    Values,
    String,
    /// After a backslash in a string.
    Escape,
}

impl JsonScanner<'_> {
    /// Takes the next part of the text.
    ///
    /// # Errors
    ///
    /// [`JsonBudgetExceeded`], at the byte that exceeds the budget.
    pub fn feed(&mut self, part: &[u8]) -> Result<(), JsonBudgetExceeded> {
        let mut rest = part;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match self.state {
                ScanState::Values => self.value(*byte)?,
                ScanState::Escape => {
                    self.budget.spend(1)?;
                    self.state = ScanState::String;
                }
                ScanState::String => match byte {
                    b'"' => self.state = ScanState::Values,
                    b'\\' => self.state = ScanState::Escape,
                    _ => {
                        // Skip a run of ordinary characters at once.
                        let run = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
                        self.budget.spend(1 + run)?;
                        rest = rest.get(run..).unwrap_or_default();
                    }
                },
            }
        }
        Ok(())
    }

    const fn value(&mut self, byte: u8) -> Result<(), JsonBudgetExceeded> {
        match byte {
            b'"' => {
                self.state = ScanState::String;
                self.budget.spend(STRING_BYTES)
            }
            b',' => self.budget.spend(VALUE_BYTES),
            b':' => self.budget.spend(FIELD_BYTES),
            b'{' => self.enter(OBJECT_BYTES),
            b'[' => self.enter(ARRAY_BYTES),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    const fn enter(&mut self, cost: usize) -> Result<(), JsonBudgetExceeded> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(JsonBudgetExceeded::Depth);
        }
        self.budget.spend(cost)
    }
}

/// Estimates the heap that the fields of a parsed object take.
#[must_use]
pub fn heap_bytes(members: &Map<String, Value>) -> usize {
    // A bucket is a hash, a name and a value; a table has an index and a control byte for each slot, and 8/7 slots for
    // each bucket.
    let bucket = size_of::<usize>() + size_of::<String>() + size_of::<Value>();
    let slots = if members.is_empty() { 0 } else { members.len().max(3).next_power_of_two() };
    let values: usize = members.iter().map(|(name, value)| name.capacity() + value_heap_bytes(value)).sum();
    slots * (bucket + 2 * size_of::<usize>()) + values
}

fn value_heap_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(items) => {
            items.capacity() * size_of::<Value>() + items.iter().map(value_heap_bytes).sum::<usize>()
        }
        Value::Object(members) => heap_bytes(members),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn check(text: &str) -> Result<(), JsonBudgetExceeded> {
        JsonBudget::for_call(text.len()).check(text.as_bytes())
    }

    fn cost(text: &str) -> usize {
        let mut budget = JsonBudget { limit: usize::MAX, used: 0 };
        budget.check(text.as_bytes()).unwrap();
        budget.used
    }

    #[test]
    fn bombs_are_rejected_and_ordinary_documents_are_not() {
        let repeated = |part: &str, bytes: usize| format!("[{}0]", part.repeat(bytes / part.len()));
        for bomb in ["{\"a\":0},", "0,", "[],", "{},", "\"\",", "{\"a\":{\"b\":[]}},"] {
            assert!(matches!(check(&repeated(bomb, 15 << 20)), Err(JsonBudgetExceeded::Heap { .. })), "{bomb}");
        }
        assert_eq!(check(&format!("{{\"text\":\"{}\"}}", "x".repeat(15 << 20))), Ok(()));
        let bill =
            r#"{"vendor":"EDF","amount":12.5,"date":"2026-11-03T00:00:00Z","currency":"EUR","groups":["energy"]},"#;
        assert_eq!(check(&repeated(bill, 300 << 10)), Ok(()));
        assert!(JsonBudget::for_request(1 << 20).check(repeated(bill, 1 << 20).as_bytes()).is_ok());
    }

    #[test]
    fn depth_counts_what_is_open() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(check(&nested(MAX_DEPTH as usize)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH as usize + 1)), Err(JsonBudgetExceeded::Depth));
        assert_eq!(check(&"[]".repeat(500)), Ok(()));
        assert_eq!(check(r#"{"a":"[[[[\"[[[["}"#), Ok(()));
        assert!(serde_json::from_str::<Value>(&nested(MAX_DEPTH as usize)).is_ok());
        insta::assert_snapshot!(JsonBudgetExceeded::Depth, @"nested deeper than 120 levels; flatten it");
        insta::assert_snapshot!(JsonBudgetExceeded::Heap { limit: 9 << 20 }, @"its values would take more than 9 MiB of memory; send fewer at a time, or fewer fields in each");
    }

    #[test]
    fn texts_of_one_call_share_its_budget() {
        let mut budget = JsonBudget::for_call(0);
        let third = format!("\"{}\"", "x".repeat(MIN_HEAP_BYTES / 3));
        assert_eq!(budget.check(third.as_bytes()), Ok(()));
        assert_eq!(budget.check(third.as_bytes()), Ok(()));
        assert_eq!(budget.check(third.as_bytes()), Err(JsonBudgetExceeded::Heap { limit: MIN_HEAP_BYTES }));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 200, 12, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
                prop::collection::vec(("\\PC{0,12}", inner), 0..12)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The scanner's result is never less than the parser's memory use.
        #[test]
        fn the_estimate_is_an_upper_bound(value in any_json()) {
            let text = value.to_string();
            let parsed: Value = serde_json::from_str(&text).unwrap();
            prop_assert!(cost(&text) >= value_heap_bytes(&parsed), "{} < {}: {text}", cost(&text), value_heap_bytes(&parsed));
        }

        #[test]
        fn parts_make_no_difference(text in "([a{}\\[\\]:,\"\\\\0])*", cut in 0_usize..40) {
            let mut whole = JsonBudget::for_call(text.len());
            let mut parts = JsonBudget::for_call(text.len());
            let (one, two) = text.as_bytes().split_at(cut.min(text.len()));
            let mut scan = parts.scanner();
            let fed = scan.feed(one).and_then(|()| scan.feed(two));
            prop_assert_eq!(whole.check(text.as_bytes()), fed);
            prop_assert_eq!(whole.used, parts.used);
        }
    }
}

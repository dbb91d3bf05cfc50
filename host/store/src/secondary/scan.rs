//! Reads a part of an index, forwards or backwards, in pages.

use std::collections::BTreeSet;

use konnector_query::{Direction, IndexRange};

use super::catalog::Index;
use super::entry::{IN_KEY, Place, Record};
use super::range::{Position, holds};
use crate::error::Result;
use crate::key::{self, Range};
use crate::kv::Kv;
use crate::view;

/// How many entries are read at once.
const PAGE: usize = 256;

/// A document in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Its id.
    pub id: String,
    /// Where the next page starts, if this document is the last one of the page.
    pub position: Position,
}

/// Up to `limit` documents behind `after`.
///
/// Memory is bounded by `limit`, also where the keys of many entries begin the same; such a run is read to its end for each page.
pub(crate) fn scan(
    kv: &dyn Kv,
    index: &Index,
    range: &IndexRange,
    direction: Direction,
    after: Option<&Position>,
    limit: usize,
) -> Result<Vec<Hit>> {
    let scan =
        Scan { kv, prefix: key::of_entries(&index.instance, &index.doctype, index.number), range, direction, after };
    scan.collect(limit)
}

struct Scan<'a> {
    kv: &'a dyn Kv,
    prefix: Vec<u8>,
    range: &'a IndexRange,
    direction: Direction,
    after: Option<&'a Position>,
}

impl Scan<'_> {
    fn collect(&self, limit: usize) -> Result<Vec<Hit>> {
        let mut keys = self.keys();
        let mut found = Vec::new();
        while found.len() < limit {
            let page = self.read(&keys, PAGE.min(limit - found.len()))?;
            let Some((last, _)) = page.last() else { break };
            self.skip(&mut keys, last);
            for (key, place) in page {
                if place.is_cut() {
                    let run = self.run(&key);
                    found.extend(self.select(&run, limit - found.len())?);
                    // The rest of the page may belong to the run; it is read again from behind it.
                    match self.direction {
                        Direction::Forward => keys.from = run.to,
                        Direction::Backward => keys.to = run.from,
                    }
                    break;
                }
                if self.wants(&place) {
                    found.push(place);
                }
            }
        }
        found.truncate(limit);
        Ok(found.into_iter().map(|place| Hit { id: place.id.clone(), position: Position(place) }).collect())
    }

    /// The keys that may be asked for. Entries of one run are all in or all out.
    fn keys(&self) -> Range {
        let key = |values: &[u8]| [self.prefix.as_slice(), values.get(..IN_KEY).unwrap_or(values)].concat();
        let all = Range::starting_with(self.prefix.clone());
        let mut keys = Range { from: key(self.range.start()), to: all.to };
        if let Some(to) = self.range.end() {
            keys.to = if to.len() > IN_KEY { Range::starting_with(key(to)).to } else { key(to) };
        }
        if let Some(Position(place)) = self.after {
            let at = key(&place.values);
            let exact = || [at.as_slice(), key::entry_id(&place.id).as_slice()].concat();
            match self.direction {
                Direction::Forward if place.is_cut() => keys.from = keys.from.max(at),
                Direction::Forward => keys.behind(&exact()),
                Direction::Backward if place.is_cut() => keys.to = keys.to.min(Range::starting_with(at).to),
                Direction::Backward => keys.to = keys.to.min(exact()),
            }
        }
        keys
    }

    fn read(&self, keys: &Range, limit: usize) -> Result<Vec<(Vec<u8>, Place)>> {
        let entries = self.kv.scan(&keys.from, &keys.to, limit, self.direction == Direction::Backward)?;
        let place = |(key, bytes): (Vec<u8>, Vec<u8>)| {
            let record: Record = view::decode(&key, &bytes)?;
            let place = Place::read(&self.prefix, &key, record)?;
            Ok((key, place))
        };
        entries.into_iter().map(place).collect()
    }

    fn skip(&self, keys: &mut Range, last: &[u8]) {
        match self.direction {
            Direction::Forward => keys.behind(last),
            Direction::Backward => keys.to = last.to_vec(),
        }
    }

    /// The keys that begin like a cut one.
    fn run(&self, key: &[u8]) -> Range {
        let end = (self.prefix.len() + IN_KEY).min(key.len());
        Range::starting_with(key.get(..end).unwrap_or(key).to_vec())
    }

    /// The first `limit` places of a run, in the order of their values.
    fn select(&self, run: &Range, limit: usize) -> Result<Vec<Place>> {
        let mut first = BTreeSet::new();
        let mut keys = run.clone();
        loop {
            let page = self.read(&keys, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            self.skip(&mut keys, last);
            for (_, place) in page {
                if self.wants(&place) {
                    first.insert(place);
                    if first.len() > limit {
                        match self.direction {
                            Direction::Forward => first.pop_last(),
                            Direction::Backward => first.pop_first(),
                        };
                    }
                }
            }
        }
        let forward = first.into_iter();
        Ok(if self.direction == Direction::Forward { forward.collect() } else { forward.rev().collect() })
    }

    fn wants(&self, place: &Place) -> bool {
        let is_behind = self.after.is_none_or(|Position(after)| match self.direction {
            Direction::Forward => place > after,
            Direction::Backward => place < after,
        });
        is_behind && holds(self.range, &place.values)
    }
}

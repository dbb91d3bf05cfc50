//! Finds the forms of secrets in a text that arrives in parts, in each of its readings: as it is, and decoded once or twice. Each byte is
//! looked at a bounded number of times, and nothing is kept but the last [`PIECE`] symbols of each reading.

use std::collections::{HashMap, VecDeque};

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use zeroize::Zeroizing;

use super::decode::{Coding, Decoder, Symbol};

/// Forms are looked for in pieces of this many bytes, so that what a reading keeps stays small however long a secret is.
const PIECE: usize = 128;

/// What a text may be written in, the outermost coding first. The codings of one level, and two of them inside of each other: JSON in an
/// attribute of HTML, percent encoding in JSON. Each of them also as UTF-16. Lines in one of the codings, or as they are.
pub(super) const READINGS: [&[Coding]; 30] = {
    use Coding::{Html, Json, Lines, Percent, Wide};
    [
        &[Percent],
        &[Html],
        &[Json],
        &[Percent, Percent],
        &[Percent, Html],
        &[Percent, Json],
        &[Html, Percent],
        &[Html, Html],
        &[Html, Json],
        &[Json, Percent],
        &[Json, Html],
        &[Json, Json],
        &[Wide],
        &[Wide, Percent],
        &[Wide, Html],
        &[Wide, Json],
        &[Wide, Percent, Percent],
        &[Wide, Percent, Html],
        &[Wide, Percent, Json],
        &[Wide, Html, Percent],
        &[Wide, Html, Html],
        &[Wide, Html, Json],
        &[Wide, Json, Percent],
        &[Wide, Json, Html],
        &[Wide, Json, Json],
        &[Lines],
        &[Percent, Lines],
        &[Html, Lines],
        &[Json, Lines],
        &[Wide, Lines],
    ]
};

/// A set of forms to look for.
#[derive(Debug)]
pub(super) struct Finder {
    automaton: NFA,
    root: StateID,
    /// For each state in which something was found, the longest of it.
    hits: HashMap<StateID, Hit>,
}

/// Something that is found.
#[derive(Debug, Clone, Copy)]
struct Hit {
    length: usize,
    owner: usize,
    /// It begins a form, and does not continue one.
    first: bool,
}

/// A place in the original text at which some form stands, in some reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whose form it is.
    pub(super) owner: usize,
    /// Whether it begins a form; else it continues one whose beginning was found before.
    pub(super) first: bool,
}

impl Finder {
    /// Takes forms, each with its owner. Letters compare without case, and a space is a plus: forms write one for the other.
    ///
    /// # Errors
    ///
    /// The forms have gigabytes.
    pub(super) fn new<'a>(forms: impl Iterator<Item = (usize, &'a [u8])>) -> Result<Self, aho_corasick::BuildError> {
        let (mut pieces, mut hits) = (Vec::new(), Vec::new());
        for (owner, form) in forms {
            let folded = Zeroizing::new(form.iter().copied().map(fold).collect::<Vec<u8>>());
            let mut rest = folded.as_slice();
            loop {
                // The last piece overlaps the one before: a short one would be found everywhere.
                let from = rest.len().min(PIECE);
                let (piece, behind) = rest.split_at(from);
                let first = rest.len() == folded.len();
                hits.push(Hit { length: piece.len(), owner, first });
                pieces.push(Zeroizing::new(piece.to_vec()));
                if behind.is_empty() {
                    break;
                }
                rest = if behind.len() < PIECE { folded.get(folded.len() - PIECE..).unwrap_or(behind) } else { behind };
            }
        }
        let automaton = NFA::new(&pieces)?;
        let root = automaton.start_state(Anchored::No).unwrap_or_default();
        let mut finder = Self { automaton, root, hits: HashMap::new() };
        for piece in &pieces {
            let mut state = root;
            for byte in piece.iter() {
                state = finder.automaton.next_state(Anchored::No, state, *byte);
                if finder.automaton.is_match(state) && !finder.hits.contains_key(&state) {
                    let found = (0..finder.automaton.match_len(state))
                        .filter_map(|index| hits.get(finder.automaton.match_pattern(state, index).as_usize()));
                    if let Some(longest) = found.max_by_key(|hit| (hit.length, hit.first)) {
                        finder.hits.insert(state, *longest);
                    }
                }
            }
        }
        Ok(finder)
    }
}

const fn fold(byte: u8) -> u8 {
    match byte {
        b'+' => b' ',
        other => other.to_ascii_lowercase(),
    }
}

/// What was read so far in one reading.
#[derive(Debug, Clone)]
struct Track {
    state: StateID,
    /// The last symbols, since nothing was begun: a form that is being found begins at one of them.
    starts: VecDeque<Start>,
    /// Where the last symbol ended.
    end: u64,
}

/// Where a symbol begins in the original.
#[derive(Debug, Clone, Copy)]
struct Start {
    place: u64,
    /// The same, or sooner where bytes before it stand for nothing.
    after_last: u64,
}

impl Track {
    const fn new(finder: &Finder) -> Self {
        Self { state: finder.root, starts: VecDeque::new(), end: 0 }
    }

    fn step(&mut self, finder: &Finder, symbol: Symbol, found: &mut Vec<Found>) {
        self.state = finder.automaton.next_state(Anchored::No, self.state, fold(symbol.byte));
        let after_last = symbol.start.min(std::mem::replace(&mut self.end, symbol.end));
        if self.state == finder.root {
            return self.starts.clear();
        }
        if self.starts.len() == PIECE {
            self.starts.pop_front();
        }
        self.starts.push_back(Start { place: symbol.start, after_last });
        if finder.automaton.is_match(self.state)
            && let Some(hit) = finder.hits.get(&self.state)
            && let Some(start) = self.starts.len().checked_sub(hit.length).and_then(|first| self.starts.get(first))
        {
            // A piece that continues a form touches the one before it, whatever stands for nothing between them.
            let start = if hit.first { start.place } else { start.after_last };
            note(found, Found { start, end: symbol.end, owner: hit.owner, first: hit.first });
        }
    }

    /// Before this place nothing will be found.
    fn open(&self) -> Option<u64> {
        self.starts.front().map(|start| start.after_last)
    }
}

/// Adds a place; one that begins inside of the last makes that longer, so that a text of matches alone does not fill the memory.
fn note(found: &mut Vec<Found>, place: Found) {
    match found.last_mut() {
        Some(last) if last.owner == place.owner && (last.start..last.end).contains(&place.start) => {
            last.end = last.end.max(place.end);
        }
        _ => found.push(place),
    }
}

/// A reading that differs from another one as long as an escape of its outermost coding is near, and is asleep otherwise.
#[derive(Debug)]
struct Reading {
    codings: &'static [Coding],
    /// The reading without the outermost coding; `None`: the text as it is.
    inner: Option<usize>,
    awake: Option<Awake>,
}

#[derive(Debug, Clone)]
struct Awake {
    track: Track,
    decoders: Vec<Decoder>,
    /// Where the last escape of the outermost coding ended.
    escaped: u64,
}

impl Awake {
    fn pending(&self) -> impl Iterator<Item = u64> {
        self.decoders.iter().filter_map(Decoder::pending)
    }

    /// Where something begins that is not known to its end.
    fn open(&self) -> Option<u64> {
        self.pending().chain(self.track.open()).min()
    }
}

/// Finds forms in one text.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Bytes that were read.
    position: u64,
    plain: Track,
    readings: Vec<Reading>,
    awake: usize,
}

impl Scanner {
    pub(super) fn new(finder: &Finder) -> Self {
        let inner = |codings: &[Coding]| {
            let (_, rest) = codings.split_first()?;
            READINGS.iter().position(|known| *known == rest)
        };
        let reading = |codings: &&'static [Coding]| Reading { codings, inner: inner(codings), awake: None };
        Self { position: 0, plain: Track::new(finder), readings: READINGS.iter().map(reading).collect(), awake: 0 }
    }

    /// Reads on; adds what is found.
    pub(super) fn push(&mut self, finder: &Finder, part: &[u8], found: &mut Vec<Found>) {
        for byte in part {
            let symbol = Symbol { byte: *byte, start: self.position, end: self.position + 1 };
            self.position += 1;
            self.take(finder, symbol, found);
        }
    }

    /// Reads the end of the text: a reference that needs no semicolon ends there, too.
    pub(super) fn finish(&mut self, finder: &Finder, found: &mut Vec<Found>) {
        let (start, end) = (self.position, self.position);
        if self.awake > 0 {
            self.take(finder, Symbol { byte: 0xff, start, end }, found);
        }
        for reading in &mut self.readings {
            if let Some(Awake { track, decoders, .. }) = &mut reading.awake {
                for stage in 0..decoders.len() {
                    let (done, later) = decoders.split_at_mut(stage + 1);
                    let Some(decoder) = done.last_mut() else { continue };
                    decoder.finish(&mut |symbol, _| {
                        feed(later, symbol, &mut |symbol, _| track.step(finder, symbol, found))
                    });
                }
            }
        }
    }

    /// What begins before this place has been found.
    pub(super) fn complete(&self) -> u64 {
        let readings = self.readings.iter().filter_map(|reading| reading.awake.as_ref()?.open());
        readings.chain(self.plain.open()).min().unwrap_or(self.position)
    }

    fn take(&mut self, finder: &Finder, symbol: Symbol, found: &mut Vec<Found>) {
        if matches!(symbol.byte, 0 | b'%' | b'&' | b'\\' | b'\r' | b'\n') {
            self.wake(finder, symbol.byte);
        }
        self.plain.step(finder, symbol, found);
        if self.awake == 0 {
            return;
        }
        for reading in &mut self.readings {
            let Some(awake) = &mut reading.awake else { continue };
            if reading.codings.first().is_some_and(|coding| coding.is_skipped() && coding.is_mark(symbol.byte)) {
                awake.escaped = symbol.end;
            }
            let Awake { track, decoders, escaped } = awake;
            if let Some((outermost, rest)) = decoders.split_first_mut() {
                outermost.push(symbol, &mut |symbol, was_escape| {
                    if was_escape {
                        *escaped = symbol.end;
                    }
                    feed(rest, symbol, &mut |symbol, _| track.step(finder, symbol, found));
                });
            }
            // From here on it reads what the inner one reads.
            if awake.open().is_none_or(|open| open >= awake.escaped) && awake.pending().next().is_none() {
                reading.awake = None;
                self.awake -= 1;
            }
        }
    }

    /// Begins the readings whose escapes begin with this byte.
    fn wake(&mut self, finder: &Finder, mark: u8) {
        if matches!(mark, 0 | b'\r' | b'\n') && self.awake == 0 && self.plain.state == finder.root {
            return;
        }
        for index in 0..self.readings.len() {
            let Some(reading) = self.readings.get(index) else { continue };
            let Some(outermost) = reading.codings.first().filter(|coding| coding.is_mark(mark)) else { continue };
            if reading.awake.is_some() {
                continue;
            }
            let (track, mut decoders) = self.state_of(reading.inner, reading.codings.get(1..).unwrap_or_default());
            // A null byte or a line break between other things is nothing.
            let idle = track.state == finder.root && decoders.iter().all(|decoder| decoder.pending().is_none());
            if outermost.is_skipped() && idle {
                continue;
            }
            decoders.insert(0, Decoder::new(*outermost));
            if let Some(reading) = self.readings.get_mut(index) {
                reading.awake = Some(Awake { track, decoders, escaped: self.position });
                self.awake += 1;
            }
        }
    }

    /// Where a reading stands; one that is asleep stands where its inner one does.
    fn state_of(&self, reading: Option<usize>, codings: &[Coding]) -> (Track, Vec<Decoder>) {
        let Some(reading) = reading.and_then(|index| self.readings.get(index)) else {
            return (self.plain.clone(), Vec::new());
        };
        if let Some(awake) = &reading.awake {
            return (awake.track.clone(), awake.decoders.clone());
        }
        let (track, mut decoders) = self.state_of(reading.inner, codings.get(1..).unwrap_or_default());
        decoders.splice(0..0, codings.first().map(|coding| Decoder::new(*coding)));
        (track, decoders)
    }
}

/// Sends a symbol through decoders.
fn feed(decoders: &mut [Decoder], symbol: Symbol, out: &mut dyn FnMut(Symbol, bool)) {
    match decoders.split_first_mut() {
        None => out(symbol, false),
        Some((first, rest)) => first.push(symbol, &mut |symbol, _| feed(rest, symbol, out)),
    }
}

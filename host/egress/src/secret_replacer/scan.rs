//! Finds the forms of secrets in a text that arrives in parts, in each of its readings: unchanged, and decoded once or
//! twice. Each byte is processed a bounded number of times, and only the last [`MAX_PATTERN_LENGTH`] symbols of each
//! reading are stored.

use std::collections::{HashMap, VecDeque};

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use zeroize::Zeroizing;

use super::decode::{Symbol, TextCoding, TextDecoder};

/// Forms are searched for in pieces of this many bytes, so the state of a reading stays small for secrets of any
/// length.
const MAX_PATTERN_LENGTH: usize = 128;

/// Codings that a text may have, the outermost first: single codings, and two nested ones, such as JSON in an HTML
/// attribute or percent encoding in JSON; each of them also as UTF-16; and lines inside one of the codings, or uncoded.
pub(super) const DECODING_CHAINS: [&[TextCoding]; 30] = {
    use TextCoding::{Html, Json, Lines, Percent, Wide};
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
pub(super) struct FormAutomaton {
    automaton: NFA,
    root: StateID,
    /// The longest match of each matching state.
    longest_matches: HashMap<StateID, PatternMatch>,
}

/// A piece of a form that was found.
#[derive(Debug, Clone, Copy)]
struct PatternMatch {
    length: usize,
    owner: usize,
    /// Whether it begins a form rather than continuing one.
    starts_form: bool,
}

/// Range of the original text that contains a form in some reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FormMatch {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Owner of the form.
    pub(super) owner: usize,
    /// Whether it begins a form; otherwise it continues one whose beginning was found before.
    pub(super) starts_form: bool,
}

impl FormAutomaton {
    /// Takes forms, each with its owner. Letters are compared case-insensitively, and a space equals a plus, because
    /// forms write one for the other.
    ///
    /// # Errors
    ///
    /// If the forms take gigabytes.
    pub(super) fn new<'a>(forms: impl Iterator<Item = (usize, &'a [u8])>) -> Result<Self, aho_corasick::BuildError> {
        let (mut pieces, mut hits) = (Vec::new(), Vec::new());
        for (owner, form) in forms {
            let folded = Zeroizing::new(form.iter().copied().map(fold).collect::<Vec<u8>>());
            let mut rest = folded.as_slice();
            loop {
                // The last piece overlaps the previous one, because a short piece would match everywhere.
                let from = rest.len().min(MAX_PATTERN_LENGTH);
                let (piece, remainder) = rest.split_at(from);
                let first = rest.len() == folded.len();
                hits.push(PatternMatch { length: piece.len(), owner, starts_form: first });
                pieces.push(Zeroizing::new(piece.to_vec()));
                if remainder.is_empty() {
                    break;
                }
                rest = if remainder.len() < MAX_PATTERN_LENGTH {
                    folded.get(folded.len() - MAX_PATTERN_LENGTH..).unwrap_or(remainder)
                } else {
                    remainder
                };
            }
        }
        let automaton = NFA::new(&pieces)?;
        let root = automaton.start_state(Anchored::No).unwrap_or_default();
        let mut finder = Self { automaton, root, longest_matches: HashMap::new() };
        for piece in &pieces {
            let mut state = root;
            for byte in piece.iter() {
                state = finder.automaton.next_state(Anchored::No, state, *byte);
                if finder.automaton.is_match(state) && !finder.longest_matches.contains_key(&state) {
                    let found = (0..finder.automaton.match_len(state))
                        .filter_map(|index| hits.get(finder.automaton.match_pattern(state, index).as_usize()));
                    if let Some(longest) = found.max_by_key(|hit| (hit.length, hit.starts_form)) {
                        finder.longest_matches.insert(state, *longest);
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

/// Match state of one reading.
#[derive(Debug, Clone)]
struct MatchState {
    state: StateID,
    /// The last symbols since the root state. A form that is being matched begins at one of them.
    starts: VecDeque<Start>,
    /// End of the last symbol in the original.
    end: u64,
}

/// Start of a symbol in the original.
#[derive(Debug, Clone, Copy)]
struct Start {
    place: u64,
    /// Start of the symbol, or an earlier position if the bytes before it decode to nothing.
    after_last: u64,
}

impl MatchState {
    const fn new(finder: &FormAutomaton) -> Self {
        Self { state: finder.root, starts: VecDeque::new(), end: 0 }
    }

    fn step(&mut self, finder: &FormAutomaton, symbol: Symbol, found: &mut Vec<FormMatch>) {
        self.state = finder.automaton.next_state(Anchored::No, self.state, fold(symbol.byte));
        let after_last = symbol.start.min(std::mem::replace(&mut self.end, symbol.end));
        if self.state == finder.root {
            return self.starts.clear();
        }
        if self.starts.len() == MAX_PATTERN_LENGTH {
            self.starts.pop_front();
        }
        self.starts.push_back(Start { place: symbol.start, after_last });
        if finder.automaton.is_match(self.state)
            && let Some(hit) = finder.longest_matches.get(&self.state)
            && let Some(start) = self.starts.len().checked_sub(hit.length).and_then(|first| self.starts.get(first))
        {
            // A piece that continues a form is adjacent to the previous one, apart from bytes between them that stand
            // for nothing.
            let start = if hit.starts_form { start.place } else { start.after_last };
            record_match(found, FormMatch { start, end: symbol.end, owner: hit.owner, starts_form: hit.starts_form });
        }
    }

    /// Returns the position before which no further match can begin.
    fn open(&self) -> Option<u64> {
        self.starts.front().map(|start| start.after_last)
    }
}

/// Adds a match. A match that begins inside the last one extends it, so a text consisting only of matches does not fill
/// the memory.
fn record_match(found: &mut Vec<FormMatch>, place: FormMatch) {
    match found.last_mut() {
        Some(last) if last.owner == place.owner && (last.start..last.end).contains(&place.start) => {
            last.end = last.end.max(place.end);
        }
        _ => found.push(place),
    }
}

/// A reading that differs from its inner one only near an escape of its outermost coding, and is asleep otherwise.
#[derive(Debug)]
struct DecodingChain {
    codings: &'static [TextCoding],
    /// The reading without the outermost coding; `None` for the original text.
    inner: Option<usize>,
    active: Option<ActiveChain>,
}

#[derive(Debug, Clone)]
struct ActiveChain {
    matcher: MatchState,
    decoders: Vec<TextDecoder>,
    /// End of the last escape of the outermost coding.
    last_escape_end: u64,
}

impl ActiveChain {
    fn pending(&self) -> impl Iterator<Item = u64> {
        self.decoders.iter().filter_map(TextDecoder::pending)
    }

    /// Returns the start of the earliest incomplete match or escape.
    fn earliest_open(&self) -> Option<u64> {
        self.pending().chain(self.matcher.open()).min()
    }
}

/// Finds forms in one text.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Number of bytes read.
    position: u64,
    plain: MatchState,
    chains: Vec<DecodingChain>,
    active_count: usize,
}

impl Scanner {
    pub(super) fn new(finder: &FormAutomaton) -> Self {
        let inner = |codings: &[TextCoding]| {
            let (_, rest) = codings.split_first()?;
            DECODING_CHAINS.iter().position(|known| *known == rest)
        };
        let reading = |codings: &&'static [TextCoding]| DecodingChain { codings, inner: inner(codings), active: None };
        Self {
            position: 0,
            plain: MatchState::new(finder),
            chains: DECODING_CHAINS.iter().map(reading).collect(),
            active_count: 0,
        }
    }

    /// Scans the next part and adds the matches to `found`.
    pub(super) fn push(&mut self, finder: &FormAutomaton, part: &[u8], found: &mut Vec<FormMatch>) {
        for byte in part {
            let symbol = Symbol { byte: *byte, start: self.position, end: self.position + 1 };
            self.position += 1;
            self.process(finder, symbol, found);
        }
    }

    /// Reads the end of the text, where a reference that needs no semicolon ends, too.
    pub(super) fn finish(&mut self, finder: &FormAutomaton, found: &mut Vec<FormMatch>) {
        let (start, end) = (self.position, self.position);
        if self.active_count > 0 {
            self.process(finder, Symbol { byte: 0xff, start, end }, found);
        }
        for reading in &mut self.chains {
            if let Some(ActiveChain { matcher, decoders, .. }) = &mut reading.active {
                for stage in 0..decoders.len() {
                    let (current, later) = decoders.split_at_mut(stage + 1);
                    let Some(decoder) = current.last_mut() else { continue };
                    decoder.finish(&mut |symbol, _| {
                        feed(later, symbol, &mut |symbol, _| matcher.step(finder, symbol, found))
                    });
                }
            }
        }
    }

    /// Returns the position before which all matches have been found.
    pub(super) fn scanned_until(&self) -> u64 {
        let readings = self.chains.iter().filter_map(|reading| reading.active.as_ref()?.earliest_open());
        readings.chain(self.plain.open()).min().unwrap_or(self.position)
    }

    fn process(&mut self, finder: &FormAutomaton, symbol: Symbol, found: &mut Vec<FormMatch>) {
        if matches!(symbol.byte, 0 | b'%' | b'&' | b'\\' | b'\r' | b'\n') {
            self.activate(finder, symbol.byte);
        }
        self.plain.step(finder, symbol, found);
        if self.active_count == 0 {
            return;
        }
        for reading in &mut self.chains {
            let Some(awake) = &mut reading.active else { continue };
            if reading.codings.first().is_some_and(|coding| coding.is_skipped() && coding.is_mark(symbol.byte)) {
                awake.last_escape_end = symbol.end;
            }
            let ActiveChain { matcher, decoders, last_escape_end: escaped } = awake;
            if let Some((outermost, rest)) = decoders.split_first_mut() {
                outermost.push(symbol, &mut |symbol, was_escape| {
                    if was_escape {
                        *escaped = symbol.end;
                    }
                    feed(rest, symbol, &mut |symbol, _| matcher.step(finder, symbol, found));
                });
            }
            // From here on it is identical to its inner reading.
            if awake.earliest_open().is_none_or(|open| open >= awake.last_escape_end)
                && awake.pending().next().is_none()
            {
                reading.active = None;
                self.active_count -= 1;
            }
        }
    }

    /// Starts the readings whose escapes begin with this byte.
    fn activate(&mut self, finder: &FormAutomaton, mark: u8) {
        if matches!(mark, 0 | b'\r' | b'\n') && self.active_count == 0 && self.plain.state == finder.root {
            return;
        }
        for index in 0..self.chains.len() {
            let Some(reading) = self.chains.get(index) else { continue };
            let Some(outermost) = reading.codings.first().filter(|coding| coding.is_mark(mark)) else { continue };
            if reading.active.is_some() {
                continue;
            }
            let (matcher, mut decoders) = self.state_of(reading.inner, reading.codings.get(1..).unwrap_or_default());
            // An isolated null byte or line break is irrelevant.
            let idle = matcher.state == finder.root && decoders.iter().all(|decoder| decoder.pending().is_none());
            if outermost.is_skipped() && idle {
                continue;
            }
            decoders.insert(0, TextDecoder::new(*outermost));
            if let Some(reading) = self.chains.get_mut(index) {
                reading.active = Some(ActiveChain { matcher, decoders, last_escape_end: self.position });
                self.active_count += 1;
            }
        }
    }

    /// Returns the state of a reading. A reading that is asleep has the state of its inner reading.
    fn state_of(&self, reading: Option<usize>, codings: &[TextCoding]) -> (MatchState, Vec<TextDecoder>) {
        let Some(reading) = reading.and_then(|index| self.chains.get(index)) else {
            return (self.plain.clone(), Vec::new());
        };
        if let Some(awake) = &reading.active {
            return (awake.matcher.clone(), awake.decoders.clone());
        }
        let (matcher, mut decoders) = self.state_of(reading.inner, codings.get(1..).unwrap_or_default());
        decoders.splice(0..0, codings.first().map(|coding| TextDecoder::new(*coding)));
        (matcher, decoders)
    }
}

/// Feeds a symbol through decoders.
fn feed(decoders: &mut [TextDecoder], symbol: Symbol, out: &mut dyn FnMut(Symbol, bool)) {
    match decoders.split_first_mut() {
        None => out(symbol, false),
        Some((first, rest)) => first.push(symbol, &mut |symbol, _| feed(rest, symbol, out)),
    }
}

//! `MediaStore`: contents to rows and ids, and prompts with contents in their places.
//!
//! Shapes: `D` hidden_size.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lightglm_core::{
    MediaEncoder, MediaEncoderError, MediaInput, MediaLayout, MediaRun, MediaRuns,
};
use sha2::{Digest, Sha256};

/// A picture or a recording.
#[derive(Clone, PartialEq)]
pub enum Medium {
    /// Pixels, `[height, width, 3]`: red, green, blue.
    Picture {
        /// Rows.
        height: usize,
        /// Pixels of a row.
        width: usize,
        /// The pixels.
        rgb: Vec<u8>,
    },
    /// A recording of one channel.
    Sound {
        /// Samples, mostly between -1 and 1.
        samples: Vec<f32>,
        /// Samples a second.
        rate: u32,
    },
}

impl Medium {
    /// As encoders take it.
    pub fn input(&self) -> MediaInput<'_> {
        match self {
            Self::Picture { height, width, rgb } => {
                MediaInput::Picture { height: *height, width: *width, rgb }
            }
            Self::Sound { samples, rate } => MediaInput::Sound { samples, rate: *rate },
        }
    }
}

impl std::fmt::Debug for Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Picture { height, width, .. } => write!(f, "Picture({width} x {height})"),
            Self::Sound { samples, rate } => write!(f, "Sound({} at {rate}/s)", samples.len()),
        }
    }
}

/// What tells contents apart: SHA-256 over what they are, their size or rate, and all that is in them.
pub type MediaIdentity = [u8; 32];

/// A content as a prompt takes it.
#[derive(Clone, Debug)]
pub struct MediaContent {
    /// Ids of different epochs say nothing of each other: a prefix cache has to tell the epochs apart.
    pub epoch: u64,
    /// Not below the vocabulary's size. Within an epoch equal ids stand for equal rows.
    pub id: u32,
    /// How the rows lie.
    pub layout: MediaLayout,
    /// `[layout.rows, D]`.
    pub rows: Arc<[f32]>,
}

/// Allots ids to contents, and keeps their rows while there is room.
///
/// An id is allotted by the whole of a content's identity, which is compared and not only hashed, and is never given to
/// another content of its epoch. When ids come to an end a new epoch begins, in which all are free again; nobody has to wait
/// for that, since whoever caches by ids tells epochs apart ([`MediaContent::epoch`]).
#[derive(Debug)]
pub struct MediaLedger {
    first: u32,
    /// Ids of an epoch.
    ids: u32,
    /// Of this epoch, allotted.
    allotted: u32,
    epoch: u64,
    entries: HashMap<MediaIdentity, Entry>,
    /// By when they were used last.
    order: BTreeMap<u64, MediaIdentity>,
    clock: u64,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// The epoch of the id.
    epoch: u64,
    id: u32,
    layout: MediaLayout,
    rows: Arc<[f32]>,
    used: u64,
}

impl MediaLedger {
    /// Ids from `first` on, at most `ids` of an epoch, and rows of `max_bytes` bytes.
    ///
    /// # Panics
    /// Where there are no ids, or not so many behind `first`.
    pub fn new(first: u32, ids: u32, max_bytes: usize) -> Self {
        assert!(ids > 0 && first.checked_add(ids - 1).is_some(), "{ids} ids from {first} on");
        Self {
            first,
            ids,
            allotted: 0,
            epoch: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            clock: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// The rows of a content, where they are kept.
    pub fn rows(&self, identity: &MediaIdentity) -> Option<(MediaLayout, Arc<[f32]>)> {
        self.entries.get(identity).map(|entry| (entry.layout, entry.rows.clone()))
    }

    /// Bytes of the rows that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Contents whose rows are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ids for the contents of one prompt, all of the same epoch; `None` where there are more different ones than ids.
    pub fn allot(
        &mut self,
        contents: &[(MediaIdentity, MediaLayout, Arc<[f32]>)],
    ) -> Option<Vec<MediaContent>> {
        // The second time an epoch has just begun.
        for _ in 0..2 {
            let allotted: Option<Vec<_>> =
                contents.iter().map(|content| self.one(content)).collect();
            if let Some(allotted) = allotted {
                self.forget_least_used();
                return Some(allotted);
            }
            self.epoch += 1;
            self.allotted = 0;
        }
        None
    }

    /// `None` where there is no id left in this epoch.
    fn one(
        &mut self,
        (identity, layout, rows): &(MediaIdentity, MediaLayout, Arc<[f32]>),
    ) -> Option<MediaContent> {
        let known = self.entries.get(identity).filter(|entry| entry.epoch == self.epoch);
        let id = match known {
            Some(entry) => entry.id,
            None if self.allotted == self.ids => return None,
            None => {
                self.allotted += 1;
                self.first + (self.allotted - 1)
            }
        };
        let (clock, epoch) = (self.clock, self.epoch);
        self.clock += 1;
        let entry = self.entries.entry(*identity).or_insert_with(|| {
            self.bytes += rows.len() * size_of::<f32>();
            Entry { epoch, id, layout: *layout, rows: rows.clone(), used: clock }
        });
        self.order.remove(&entry.used);
        self.order.insert(clock, *identity);
        (entry.id, entry.epoch, entry.used) = (id, epoch, clock);
        Some(MediaContent { epoch, id, layout: entry.layout, rows: entry.rows.clone() })
    }

    /// A forgotten content gets another id when it comes again: rows that were computed once more are the same, but nobody
    /// has to remember that.
    fn forget_least_used(&mut self) {
        while self.bytes > self.max_bytes {
            let Some((_, identity)) = self.order.pop_first() else { return };
            if let Some(entry) = self.entries.remove(&identity) {
                self.bytes -= entry.rows.len() * size_of::<f32>();
            }
        }
    }
}

/// Why contents have not become rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaStoreError {
    /// One was refused.
    #[error("content {index}: {error}")]
    Content {
        /// Its place among them.
        index: usize,
        /// Why.
        error: MediaEncoderError,
    },
    /// There are more different contents than ids.
    #[error("{contents} contents are more than there are ids for")]
    TooMany {
        /// How many there are.
        contents: usize,
    },
}

/// What a store has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaStats {
    /// Contents that were encoded.
    pub encoded: u64,
    /// Contents whose rows were there.
    pub found: u64,
    /// Bytes of rows that are kept.
    pub bytes: usize,
}

/// An encoder and the ids and rows of what it has encoded; threads share it. One content is encoded at a time, by all threads of
/// the machine.
pub struct MediaStore {
    encoder: Arc<dyn MediaEncoder>,
    ledger: Mutex<MediaLedger>,
    encoding: Mutex<()>,
    stats: Mutex<MediaStats>,
}

impl MediaStore {
    /// For a model of `vocab_size` tokens, with rows of `max_bytes` bytes kept.
    pub fn new(encoder: Arc<dyn MediaEncoder>, vocab_size: usize, max_bytes: usize) -> Self {
        let first = u32::try_from(vocab_size).unwrap_or(u32::MAX);
        let ledger = Mutex::new(MediaLedger::new(first, u32::MAX - first, max_bytes));
        Self { encoder, ledger, encoding: Mutex::default(), stats: Mutex::default() }
    }

    /// What encodes.
    pub fn encoder(&self) -> &Arc<dyn MediaEncoder> {
        &self.encoder
    }

    /// What it has done.
    pub fn stats(&self) -> MediaStats {
        MediaStats { bytes: self.ledger().bytes(), ..*lock(&self.stats) }
    }

    /// The contents of one prompt; those that are not there yet are encoded. `between` is called between the encoder's blocks.
    ///
    /// # Errors
    /// [`MediaStoreError`].
    pub fn contents(
        &self,
        inputs: &[MediaInput<'_>],
        between: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<MediaContent>, MediaStoreError> {
        let mut contents = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            let identity = identity(input);
            let (layout, rows) = self
                .rows(input, &identity, between)
                .map_err(|error| MediaStoreError::Content { index, error })?;
            contents.push((identity, layout, rows));
        }
        let too_many = MediaStoreError::TooMany { contents: contents.len() };
        self.ledger().allot(&contents).ok_or(too_many)
    }

    fn rows(
        &self,
        input: &MediaInput<'_>,
        identity: &MediaIdentity,
        between: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<(MediaLayout, Arc<[f32]>), MediaEncoderError> {
        if let Some(found) = self.found(identity) {
            return Ok(found);
        }
        let layout = self.encoder.layout(input)?;
        let _encoding = lock(&self.encoding);
        // Somebody may have encoded it meanwhile.
        if let Some(found) = self.found(identity) {
            return Ok(found);
        }
        let rows = self.encoder.encode(input, between)?;
        lock(&self.stats).encoded += 1;
        let rows: Arc<[f32]> = rows.into();
        // So that whoever waits finds it.
        let _ = self.ledger().allot(&[(*identity, layout, rows.clone())]);
        Ok((layout, rows))
    }

    fn found(&self, identity: &MediaIdentity) -> Option<(MediaLayout, Arc<[f32]>)> {
        let found = self.ledger().rows(identity)?;
        lock(&self.stats).found += 1;
        Some(found)
    }

    fn ledger(&self) -> MutexGuard<'_, MediaLedger> {
        lock(&self.ledger)
    }
}

/// A panic elsewhere leaves no half of anything.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for MediaStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What a content is told apart by: its kind, its size or rate, and all that is in it.
pub fn identity(input: &MediaInput<'_>) -> MediaIdentity {
    let mut hash = Sha256::new();
    match *input {
        MediaInput::Picture { height, width, rgb } => {
            hash.update(b"picture");
            hash.update((height as u64).to_le_bytes());
            hash.update((width as u64).to_le_bytes());
            hash.update(rgb);
        }
        MediaInput::Sound { samples, rate } => {
            hash.update(b"sound");
            hash.update(u64::from(rate).to_le_bytes());
            samples.iter().for_each(|sample| hash.update(sample.to_le_bytes()));
        }
    }
    hash.finalize().into()
}

/// A prompt has more or fewer places for contents than there are contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prompt has {places} places for {contents} pictures or recordings")]
pub struct MediaPlacesError {
    /// Tokens that stand for a content.
    pub places: usize,
    /// Contents.
    pub contents: usize,
}

/// Puts contents in their places: each `placeholder` of `tokens` becomes as many ids as the content of the same number has
/// rows. A chat template writes the placeholders; what a person types never becomes one
/// (`lightglm_text::RenderedPrompt`).
///
/// # Errors
/// [`MediaPlacesError`].
pub fn place_media(
    tokens: &[u32],
    placeholder: u32,
    contents: &[MediaContent],
) -> Result<(Vec<u32>, MediaRuns), MediaPlacesError> {
    let places = tokens.iter().filter(|&&token| token == placeholder).count();
    if places != contents.len() {
        return Err(MediaPlacesError { places, contents: contents.len() });
    }
    let rows: usize = contents.iter().map(|content| content.layout.rows).sum();
    let mut placed = Vec::with_capacity(tokens.len() + rows);
    let (mut runs, mut contents) = (Vec::with_capacity(places), contents.iter());
    for &token in tokens {
        let content = if token == placeholder { contents.next() } else { None };
        let Some(content) = content else {
            placed.push(token);
            continue;
        };
        let MediaContent { id, layout, ref rows, .. } = *content;
        let run = MediaRun { start: placed.len(), id, layout, rows: rows.clone() };
        placed.resize(placed.len() + layout.rows, id);
        runs.push(run);
    }
    let runs = MediaRuns::new(runs).unwrap_or_default();
    Ok((placed, runs))
}

/// A salt for prefixes that tells epochs apart; in the first, `salt` itself, so that texts share theirs with prompts that have
/// contents behind the same beginning.
pub fn epoch_salt(salt: &str, contents: &[MediaContent]) -> String {
    match contents.first().map_or(0, |content| content.epoch) {
        0 => salt.to_owned(),
        epoch => format!("{salt}\0epoch {epoch}"),
    }
}

//! Media in a sequence: rows that an encoder made, standing where tokens would, and their positions.
//!
//! A picture or a recording takes so many places of a sequence as its encoder makes rows. In the flat list of
//! ids each of these places has the content's id, which is at or above the vocabulary's size; what stands there
//! is told beside the list. So whoever counts, cuts, compares or schedules ids need not know of media.
//!
//! Shapes: `D` hidden_size.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::kv_cache::SequenceId;
use crate::lm::{LogitRows, Span};

/// Rows that stand for the tokens of a span from `at` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MediaRows<'a> {
    /// The first of the span's tokens that they stand for.
    pub at: usize,
    /// `[n, D]`, finite.
    pub rows: &'a [f32],
}

/// Where a span's tokens stand, for the rotary embedding.
///
/// Causal attention is by the order of the rows, whatever their positions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Positions<'a> {
    /// One behind the other, from where the cache says the sequence ends.
    #[default]
    Follow,
    /// One behind the other from here on: a picture in front took more rows than positions.
    From(u32),
    /// `[time, height, width]` of each token. A model with one axis takes the first.
    ///
    /// Source: Wang et al. 2024, "Qwen2-VL", section 2.1 (M-RoPE).
    Axes(&'a [[u32; 3]]),
}

/// What is wrong with the media or the positions of a span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaFault {
    /// Rows end outside of the span, or begin before the rows in front of them end.
    #[error("media rows {from}..{to} overlap others or leave the span's {tokens} tokens")]
    Place {
        /// The first token.
        from: usize,
        /// Behind the last one.
        to: usize,
        /// Tokens of the span.
        tokens: usize,
    },
    /// Rows stand where a token of the vocabulary does.
    #[error("media rows stand at token {at}, whose id {id} is one of the vocabulary")]
    OverText {
        /// The token.
        at: usize,
        /// Its id.
        id: u32,
    },
    /// The numbers are no whole rows, or there are none.
    #[error("{values} numbers are no rows of {hidden_size}")]
    Width {
        /// Numbers given.
        values: usize,
        /// The model's `D`.
        hidden_size: usize,
    },
    /// A number is NaN or infinite.
    #[error("the media row of token {at} is not finite")]
    NotFinite {
        /// The token.
        at: usize,
    },
    /// There are more or fewer positions than tokens.
    #[error("{given} positions for {tokens} tokens")]
    Positions {
        /// Positions given.
        given: usize,
        /// Tokens of the span.
        tokens: usize,
    },
}

/// A content that an encoder turns into rows.
#[derive(Clone, Copy, Debug)]
pub enum MediaInput<'a> {
    /// Rows of pixels from the top, each red, green, blue: `[height, width, 3]`.
    Picture {
        /// Rows.
        height: usize,
        /// Pixels of a row.
        width: usize,
        /// The pixels.
        rgb: &'a [u8],
    },
    /// A recording of one channel.
    Sound {
        /// Samples, mostly between -1 and 1.
        samples: &'a [f32],
        /// Samples a second.
        rate: u32,
    },
}

/// Which contents an encoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Pictures.
    Picture,
    /// Recordings.
    Sound,
}

impl MediaKind {
    /// As messages call it: `picture`, `recording`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Sound => "recording",
        }
    }
}

impl MediaInput<'_> {
    /// What it is.
    pub const fn kind(&self) -> MediaKind {
        match self {
            Self::Picture { .. } => MediaKind::Picture,
            Self::Sound { .. } => MediaKind::Sound,
        }
    }
}

/// Why a content was not encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaEncoderError {
    /// The model takes others.
    #[error("the model takes no {}", kind.name())]
    Kind {
        /// What it was given.
        kind: MediaKind,
    },
    /// The content is none, or is beyond what the encoder takes.
    #[error("{reason}")]
    Content {
        /// Which of the reasons that do not change with their wording, for programs.
        code: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Whoever waits gave it up between two blocks.
    #[error("encoding was interrupted")]
    Interrupted,
}

/// Turns contents into rows of a decoder's residual stream: a tower for pictures, an encoder of speech.
///
/// The same content gives the same rows, bit for bit, whatever is encoded beside it.
pub trait MediaEncoder: Send + Sync {
    /// What it takes.
    fn kind(&self) -> MediaKind;

    /// How many rows a content becomes, without computing them.
    ///
    /// # Errors
    /// [`MediaEncoderError`].
    fn layout(&self, input: &MediaInput<'_>) -> Result<MediaLayout, MediaEncoderError>;

    /// The rows, `[layout.rows, D]`. `between` is called between blocks: it may wait, to let others run, and it may
    /// break off.
    ///
    /// # Errors
    /// [`MediaEncoderError`].
    fn encode(
        &self,
        input: &MediaInput<'_>,
        between: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<f32>, MediaEncoderError>;

    /// The token of the vocabulary in whose place a prompt's contents stand.
    fn placeholder(&self) -> u32;
}

/// How many rows a content becomes, and how they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MediaLayout {
    /// Rows, at least one.
    pub rows: usize,
    /// `[time, height, width]` of a picture's rows, whose product is `rows`; `None` for what runs in time alone
    /// and has positions as text has (speech).
    pub grid: Option<[u32; 3]>,
}

impl MediaLayout {
    /// Rows one behind the other.
    pub fn sequence(rows: usize) -> Self {
        Self { rows, grid: None }
    }

    /// The rows of a grid, the last axis running fastest.
    pub fn grid(grid: [u32; 3]) -> Self {
        Self { rows: grid.iter().map(|&n| n as usize).product(), grid: Some(grid) }
    }

    /// Positions that it takes: what follows stands behind the largest of its axes.
    ///
    /// Source: transformers 5.23.0, `modeling_glm4v.py`, `get_rope_index`.
    pub fn extent(&self) -> usize {
        match self.grid {
            Some(grid) => grid.into_iter().max().unwrap_or(0) as usize,
            None => self.rows,
        }
    }
}

/// One content in a sequence.
#[derive(Clone, Debug)]
pub struct MediaRun {
    /// The first of its places.
    pub start: usize,
    /// What its places have for a token id; never below the vocabulary's size. Equal ids stand for equal rows.
    pub id: u32,
    /// How its rows lie.
    pub layout: MediaLayout,
    /// `[layout.rows, D]`.
    pub rows: Arc<[f32]>,
}

/// The contents of a sequence, in order.
#[derive(Clone, Debug, Default)]
pub struct MediaRuns {
    runs: Vec<MediaRun>,
    /// For each run the position of its first row, and that of what follows it.
    positions: Vec<(u32, u32)>,
}

/// Runs that do not go together with their sequence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaRunsError {
    /// A run begins before the one in front of it ends, is empty, or has another number of rows than its layout.
    #[error(
        "media run {index} is empty, overlaps the one in front of it, or has other rows than its layout"
    )]
    Run {
        /// Its place among the runs.
        index: usize,
    },
    /// The ids of the sequence are not those of the runs.
    #[error("token {at} has id {id}, which is not that of the media at its place")]
    Ids {
        /// The first place at fault.
        at: usize,
        /// The id there.
        id: u32,
    },
}

impl MediaRuns {
    /// Runs in ascending order.
    ///
    /// # Errors
    /// [`MediaRunsError::Run`].
    pub fn new(runs: Vec<MediaRun>) -> Result<Self, MediaRunsError> {
        let mut positions = Vec::with_capacity(runs.len());
        let (mut row, mut position) = (0, 0u32);
        for (index, run) in runs.iter().enumerate() {
            let rows = run.layout.rows;
            let is_grid = run.layout.grid.is_none_or(|grid| MediaLayout::grid(grid).rows == rows);
            let is_whole = rows > 0 && !run.rows.is_empty() && run.rows.len().is_multiple_of(rows);
            if run.start < row || !is_whole || !is_grid {
                return Err(MediaRunsError::Run { index });
            }
            let first = position + (run.start - row) as u32;
            position = first + run.layout.extent() as u32;
            positions.push((first, position));
            row = run.start + rows;
        }
        Ok(Self { runs, positions })
    }

    /// The runs.
    pub fn runs(&self) -> &[MediaRun] {
        &self.runs
    }

    /// Whether there is none: a text.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Rows of all runs.
    pub fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.layout.rows).sum()
    }

    /// Checks that a sequence's ids are the runs' at their places and below `vocab_size` elsewhere.
    ///
    /// # Errors
    /// [`MediaRunsError::Ids`].
    pub fn check(&self, tokens: &[u32], vocab_size: usize) -> Result<(), MediaRunsError> {
        let wrong = |at| {
            let id = tokens.get(at).copied().unwrap_or_default();
            MediaRunsError::Ids { at, id }
        };
        let mut from = 0;
        let is_text = |id: &u32| (*id as usize) < vocab_size;
        for run in &self.runs {
            let place = run.start..run.start + run.layout.rows;
            if (run.id as usize) < vocab_size || place.end > tokens.len() {
                return Err(wrong(run.start));
            }
            if let Some(at) = tokens[from..place.start].iter().position(|id| !is_text(id)) {
                return Err(wrong(from + at));
            }
            if let Some(at) = tokens[place.clone()].iter().position(|id| *id != run.id) {
                return Err(wrong(place.start + at));
            }
            from = place.end;
        }
        match tokens[from..].iter().position(|id| !is_text(id)) {
            Some(at) => Err(wrong(from + at)),
            None => Ok(()),
        }
    }

    /// The position of the place `place`, on each axis.
    pub fn position(&self, place: usize) -> [u32; 3] {
        let behind = self.runs.partition_point(|run| run.start <= place);
        let Some(index) = behind.checked_sub(1) else { return [place as u32; 3] };
        let (run, (first, next)) = (&self.runs[index], self.positions[index]);
        let at = (place - run.start) as u32;
        if at as usize >= run.layout.rows {
            return [next + at - run.layout.rows as u32; 3];
        }
        match run.layout.grid {
            None => [first + at; 3],
            Some([_, height, width]) => {
                let (column, row) = (at % width, at / width);
                [first + row / height, first + row % height, first + column]
            }
        }
    }

    /// What stands beside the ids of the places `range`.
    pub fn part(&self, range: Range<usize>) -> MediaPart<'_> {
        let mut media = Vec::new();
        for run in &self.runs {
            let end = run.start + run.layout.rows;
            let (from, to) = (run.start.max(range.start), end.min(range.end));
            if from < to {
                let width = run.rows.len() / run.layout.rows;
                let rows = &run.rows[(from - run.start) * width..(to - run.start) * width];
                media.push(MediaRows { at: from - range.start, rows });
            }
        }
        let is_line = |run: &MediaRun| run.layout.grid.is_none();
        let positions = if self.runs.iter().take_while(|run| run.start < range.end).all(is_line) {
            OwnedPositions::Follow
        } else if media.is_empty() {
            OwnedPositions::From(self.position(range.start)[0])
        } else {
            OwnedPositions::Axes(range.map(|place| self.position(place)).collect())
        };
        MediaPart { media, positions }
    }
}

#[derive(Clone, Debug)]
enum OwnedPositions {
    Follow,
    From(u32),
    Axes(Vec<[u32; 3]>),
}

/// What stands beside the ids of a part of a sequence.
#[derive(Clone, Debug)]
pub struct MediaPart<'a> {
    media: Vec<MediaRows<'a>>,
    positions: OwnedPositions,
}

impl MediaPart<'_> {
    /// The rows, for the places from the part's first on.
    pub fn media(&self) -> &[MediaRows<'_>] {
        &self.media
    }

    /// The positions.
    pub fn positions(&self) -> Positions<'_> {
        match &self.positions {
            OwnedPositions::Follow => Positions::Follow,
            OwnedPositions::From(position) => Positions::From(*position),
            OwnedPositions::Axes(positions) => Positions::Axes(positions),
        }
    }

    /// The part as a span of `sequence`, `tokens` being its ids.
    pub fn span<'a>(
        &'a self,
        sequence: SequenceId,
        tokens: &'a [u32],
        logits: LogitRows,
    ) -> Span<'a> {
        Span {
            media: &self.media,
            positions: self.positions(),
            ..Span::text(sequence, tokens, logits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: usize, layout: MediaLayout) -> MediaRun {
        MediaRun { start, id: 100, layout, rows: vec![0.5; layout.rows * 2].into() }
    }

    #[test]
    fn a_picture_takes_fewer_positions_than_rows() {
        let picture = run(2, MediaLayout::grid([1, 2, 3]));
        let runs = MediaRuns::new(vec![picture, run(9, MediaLayout::sequence(2))]).unwrap();
        let all: Vec<_> = (0..13).map(|place| runs.position(place)).collect();
        let expected = [
            [0, 0, 0],
            [1, 1, 1],
            [2, 2, 2],
            [2, 2, 3],
            [2, 2, 4],
            [2, 3, 2],
            [2, 3, 3],
            [2, 3, 4],
            [5, 5, 5],
            [6, 6, 6],
            [7, 7, 7],
            [8, 8, 8],
            [9, 9, 9],
        ];
        assert_eq!(all, expected);
        for from in 0..13 {
            for to in from + 1..=13 {
                let part = runs.part(from..to);
                let told: Vec<[u32; 3]> = match part.positions() {
                    Positions::Follow => (from..to).map(|place| [place as u32; 3]).collect(),
                    Positions::From(first) => {
                        (0..(to - from) as u32).map(|at| [first + at; 3]).collect()
                    }
                    Positions::Axes(axes) => axes.to_vec(),
                };
                assert_eq!(told, expected[from..to], "{from}..{to}");
                let rows: usize = part.media().iter().map(|media| media.rows.len() / 2).sum();
                let is_media = |place: &usize| (2..8).contains(place) || (9..11).contains(place);
                assert_eq!(rows, (from..to).filter(is_media).count());
            }
        }
        let mut tokens = vec![1; 13];
        tokens[2..8].fill(100);
        tokens[9..11].fill(100);
        assert_eq!(runs.check(&tokens, 100), Ok(()));
        assert_eq!(runs.check(&tokens, 101), Err(MediaRunsError::Ids { at: 2, id: 100 }));
        tokens[8] = 100;
        assert_eq!(runs.check(&tokens, 100), Err(MediaRunsError::Ids { at: 8, id: 100 }));
        tokens[8] = 1;
        tokens[10] = 2;
        assert_eq!(runs.check(&tokens, 100), Err(MediaRunsError::Ids { at: 10, id: 2 }));
        assert_eq!(runs.check(&tokens[..9], 100), Err(MediaRunsError::Ids { at: 9, id: 0 }));
    }

    #[test]
    fn runs_that_do_not_fit_are_refused() {
        let layout = MediaLayout::sequence(3);
        let refused = Err(MediaRunsError::Run { index: 1 });
        let new = |runs| MediaRuns::new(runs).map(|_| ());
        assert_eq!(new(vec![run(0, layout), run(2, layout)]), refused);
        assert_eq!(new(vec![run(0, layout), run(3, MediaLayout::sequence(0))]), refused);
        let short = MediaRun { rows: vec![0.0; 4].into(), ..run(3, layout) };
        assert_eq!(new(vec![run(0, layout), short]), refused);
        let other = MediaLayout { rows: 3, grid: Some([1, 2, 2]) };
        assert_eq!(new(vec![run(0, layout), run(3, other)]), refused);
        assert_eq!(new(vec![run(0, layout), run(3, layout)]), Ok(()));
    }
}

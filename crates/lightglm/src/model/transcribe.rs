//! `Model::transcribe`: a recording to text.

use lightglm_generation::SamplingParams;
use lightglm_media::Pcm;
use lightglm_text::{TRANSCRIPTION_PROMPT, join_pieces, subtitle};

use super::Model;
use super::turn::user;
use crate::error::Error;

/// Seconds of a piece: a window of the encoder.
pub(crate) const PIECE_SECONDS: f64 = 30.0;

/// What was said in a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcription {
    /// All of it.
    pub text: String,
    /// Piece by piece.
    pub segments: Vec<Segment>,
    /// Seconds of the recording.
    pub seconds: f64,
}

/// What was said in a piece of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// When the piece begins, in seconds.
    pub start: f64,
    /// When it ends.
    pub end: f64,
    /// What was said.
    pub text: String,
}

impl Segment {
    /// As the subtitle `number`, from 1, of a SubRip file (SRT).
    pub fn srt(&self, number: usize) -> String {
        format!("{number}\n{}\n", subtitle(self.start, self.end, &self.text, ','))
    }
}

impl Model {
    /// What is said in a recording; a long one is heard in pieces of at most 30 s, cut where it is quiet.
    ///
    /// # Errors
    /// [`Error::NoMedia`] by a model that does not hear; those of a conversation.
    pub fn transcribe(&self, recording: &Pcm) -> Result<Transcription, Error> {
        self.transcribe_with(recording, TRANSCRIPTION_PROMPT, &mut |_| ())
    }

    /// As [`transcribe`](Self::transcribe), with words of one's own for the task; `on_segment` is told each piece as it
    /// comes.
    ///
    /// # Errors
    /// As [`transcribe`](Self::transcribe).
    pub fn transcribe_with(
        &self,
        recording: &Pcm,
        prompt: &str,
        on_segment: &mut dyn FnMut(&Segment),
    ) -> Result<Transcription, Error> {
        let rate = recording.rate();
        let mut segments = Vec::new();
        for piece in recording.pieces(PIECE_SECONDS) {
            let seconds = |sample: usize| sample as f64 / f64::from(rate);
            let (start, end) = (seconds(piece.start), seconds(piece.end));
            let samples = recording.samples()[piece].to_vec();
            let sampling = SamplingParams { temperature: 0.0, ..self.sampling().clone() };
            let turn = user().medium(Pcm::new(samples, rate)?).text(prompt);
            let reply = self.chat().with_sampling(sampling).say(turn)?.finish()?;
            let segment = Segment { start, end, text: reply.text.trim().to_owned() };
            on_segment(&segment);
            segments.push(segment);
        }
        let text = join_pieces(segments.iter().map(|segment| segment.text.as_str()));
        Ok(Transcription { text, segments, seconds: recording.seconds() })
    }
}

//! A request's files to rows, and its prompt with their places.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lightglm_core::{MediaEncoderError, MediaInput, MediaRuns};
use lightglm_generation::media::{
    MediaContent, MediaPlacesError, MediaStoreError, Medium, epoch_salt, place_media,
};

use super::{PendingMedia, ServedMedia};
use crate::http::admission::Admission;
use crate::http::error::ApiError;
use crate::http::models::ModelState;
use crate::http::state::in_turn;

/// A block of an encoder is followed by as long a rest while replies are written, but no longer than this.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// Contents that are ready for a prompt.
#[derive(Clone, Default)]
pub(in crate::http) struct Placing {
    contents: Vec<MediaContent>,
    placeholder: Option<u32>,
}

/// A prompt with its contents.
pub(in crate::http) struct Placed {
    pub(in crate::http) tokens: Vec<u32>,
    pub(in crate::http) media: MediaRuns,
}

impl Placing {
    /// `tokens` with the contents in their places, of the field `param`.
    ///
    /// # Errors
    /// [`ApiError::Media`] where the chat template has not written a place for each.
    pub(in crate::http) fn place(&self, tokens: Vec<u32>, param: &str) -> Result<Placed, ApiError> {
        let Some(placeholder) = self.placeholder else {
            return Ok(Placed { tokens, media: MediaRuns::default() });
        };
        let placed = place_media(&tokens, placeholder, &self.contents);
        let (tokens, media) = placed.map_err(|error| ApiError::Media {
            param: param.to_owned(),
            code: "media_places",
            reason: error.to_string(),
        })?;
        Ok(Placed { tokens, media })
    }

    /// With whom the prompt's prefixes are shared.
    pub(in crate::http) fn salt(&self, salt: &str) -> String {
        epoch_salt(salt, &self.contents)
    }
}

/// Says to a thread that nobody waits for it any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Decodes and encodes the files of a request, when it is its turn.
///
/// # Errors
/// [`ApiError::Media`] naming the field; those of [`in_media_turn`].
pub(in crate::http) async fn encode_media(
    state: &ModelState,
    admission: &mut Admission,
    pending: Vec<PendingMedia>,
) -> Result<Placing, ApiError> {
    let placeholder = placeholder(state);
    let Some(first) = pending.first() else {
        return Ok(Placing { contents: Vec::new(), placeholder });
    };
    let media = taking(state, first, &pending)?;
    let most = state.model.engine.limits().max_positions;
    let work = move |between: &mut dyn FnMut() -> ControlFlow<()>| {
        let (decoded, params) = decode_all(&media, &pending)?;
        let inputs: Vec<_> = decoded.iter().map(Medium::input).collect();
        rows_of(&media, &inputs, &params, most)?;
        contents(&media, &inputs, &params, between)
    };
    let contents = in_media_turn(state, admission, work).await?;
    Ok(Placing { contents, placeholder })
}

/// How many rows the files of a request become, which are decoded for that and not encoded.
pub(in crate::http) struct Counted {
    rows: Vec<usize>,
    placeholder: Option<u32>,
}

impl Counted {
    /// `tokens`, each placeholder as often as its content has rows.
    ///
    /// # Errors
    /// As [`Placing::place`].
    pub(in crate::http) fn expand(&self, tokens: Vec<u32>) -> Result<Vec<u32>, ApiError> {
        let Some(placeholder) = self.placeholder else { return Ok(tokens) };
        let (places, contents) =
            (tokens.iter().filter(|&&token| token == placeholder).count(), self.rows.len());
        if places != contents {
            let reason = MediaPlacesError { places, contents }.to_string();
            let param = "messages".to_owned();
            return Err(ApiError::Media { param, code: "media_places", reason });
        }
        let mut rows = self.rows.iter().copied();
        let times = |token: &u32| if *token == placeholder { rows.next().unwrap_or(1) } else { 1 };
        let counts: Vec<usize> = tokens.iter().map(times).collect();
        let expanded = tokens.into_iter().zip(counts);
        Ok(expanded.flat_map(|(token, count)| std::iter::repeat_n(token, count)).collect())
    }
}

/// Counts the rows of a request's files, when it is its turn.
///
/// # Errors
/// As [`encode_media`].
pub(in crate::http) async fn count_media(
    state: &ModelState,
    admission: &mut Admission,
    pending: Vec<PendingMedia>,
) -> Result<Counted, ApiError> {
    let placeholder = placeholder(state);
    let Some(first) = pending.first() else { return Ok(Counted { rows: Vec::new(), placeholder }) };
    let media = taking(state, first, &pending)?;
    let most = state.model.engine.limits().max_positions;
    let work = move |_: &mut dyn FnMut() -> ControlFlow<()>| {
        let (decoded, params) = decode_all(&media, &pending)?;
        let inputs: Vec<_> = decoded.iter().map(Medium::input).collect();
        Ok(Counted { rows: rows_of(&media, &inputs, &params, most)?, placeholder })
    };
    in_media_turn(state, admission, work).await
}

/// Decodes a recording and encodes it piece after piece, when it is its turn: each with when it begins and when it ends, in
/// seconds.
///
/// # Errors
/// As [`encode_media`]; [`ApiError::Media`] for more than `most` pieces.
pub(in crate::http) async fn encode_pieces(
    state: &ModelState,
    admission: &mut Admission,
    file: PendingMedia,
    most: usize,
) -> Result<Vec<(f64, f64, Placing)>, ApiError> {
    let media = taking(state, &file, &[])?;
    let placeholder = placeholder(state);
    let context = state.model.engine.limits().max_positions;
    let work = move |between: &mut dyn FnMut() -> ControlFlow<()>| {
        let recording = decode(&media, &file)?;
        let mut pieces = media.decoder.pieces(recording);
        if pieces.len() > most {
            let reason = format!("it has {} pieces, and {most} are heard at most", pieces.len());
            let (param, code) = (file.param.clone(), "recording_too_long");
            return Err(ApiError::Media { param, code, reason });
        }
        // What is too short to be heard says nothing.
        if pieces.len() > 1 {
            pieces.retain(|piece| media.store.encoder().layout(&piece.medium.input()).is_ok());
        }
        let inputs: Vec<_> = pieces.iter().map(|piece| piece.medium.input()).collect();
        let params = vec![file.param.as_str(); inputs.len()];
        // Each is a prompt of its own.
        for input in &inputs {
            rows_of(&media, &[*input], &params, context)?;
        }
        let contents = contents(&media, &inputs, &params, between)?;
        let placed = pieces.iter().zip(contents).map(|(piece, content)| {
            (piece.start, piece.end, Placing { contents: vec![content], placeholder })
        });
        Ok(placed.collect())
    };
    in_media_turn(state, admission, work).await
}

/// The token in whose place contents stand; `None` for a model of text.
fn placeholder(state: &ModelState) -> Option<u32> {
    state.model.media.as_ref().map(|media| media.store.encoder().placeholder())
}

/// What the model sees or hears with, if it is for `first` and for all of the `others`.
fn taking(
    state: &ModelState,
    first: &PendingMedia,
    others: &[PendingMedia],
) -> Result<ServedMedia, ApiError> {
    let refused = |file: &PendingMedia, reason| {
        let param = file.param.clone();
        ApiError::Media { param, code: "media_not_taken", reason }
    };
    let Some(media) = &state.model.media else {
        return Err(refused(first, "this model reads text alone".to_owned()));
    };
    let kind = media.store.encoder().kind();
    match std::iter::once(first).chain(others).find(|file| file.kind != kind) {
        Some(file) => Err(refused(file, format!("this model takes no {}", file.kind.name()))),
        None => Ok(media.clone()),
    }
}

/// Runs `work` on a thread that may wait, when it is its turn. It ends early where nobody waits any more, and lets replies go
/// first between two blocks.
///
/// # Errors
/// Those of `work`; [`ApiError::Concurrency`] where too many wait; those of [`Admission::wait_for`].
async fn in_media_turn<T: Send + 'static>(
    state: &ModelState,
    admission: &mut Admission,
    work: impl FnOnce(&mut dyn FnMut() -> ControlFlow<()>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let limit = state.config.limits.media_waiting.max(1);
    let waiting = state.media_waiting.clone().try_acquire_owned().map_err(|_| {
        state.metrics.reject("media");
        ApiError::Concurrency { limit }
    })?;
    let given_up = Arc::new(AtomicBool::new(false));
    let _abandon = Abandon(given_up.clone());
    let engine = state.model.engine.clone();
    let is_busy = Box::new(move || engine.stats().running > 0);
    let mut measured = state.metrics.media_request();
    let work = move || {
        let _waiting = waiting;
        measured.turn();
        let mut pause = Pause { given_up, is_busy, since: None };
        let done = work(&mut || pause.between());
        measured.done();
        done
    };
    admission.wait_for(in_turn(state.media_turns.clone(), work)).await?
}

/// What is done between two blocks.
struct Pause {
    given_up: Arc<AtomicBool>,
    is_busy: Box<dyn Fn() -> bool>,
    /// When the last block began.
    since: Option<Instant>,
}

impl Pause {
    fn between(&mut self) -> ControlFlow<()> {
        if self.given_up.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        if let Some(since) = self.since
            && (self.is_busy)()
        {
            std::thread::sleep(since.elapsed().min(LONGEST_REST));
        }
        self.since = Some(Instant::now());
        ControlFlow::Continue(())
    }
}

fn decode(media: &ServedMedia, file: &PendingMedia) -> Result<Medium, ApiError> {
    let medium = media.decoder.decode(file.kind, &file.bytes, file.detail);
    medium.map_err(|refusal| {
        let (param, code, reason) = (file.param.clone(), refusal.code, refusal.reason);
        ApiError::Media { param, code, reason }
    })
}

/// The files' contents, and the fields that they came in.
fn decode_all<'a>(
    media: &ServedMedia,
    pending: &'a [PendingMedia],
) -> Result<(Vec<Medium>, Vec<&'a str>), ApiError> {
    let decoded = pending.iter().map(|file| decode(media, file)).collect::<Result<_, _>>()?;
    Ok((decoded, pending.iter().map(|file| file.param.as_str()).collect()))
}

/// Rows of each input, without computing them, which has to be within a context of `most` tokens.
fn rows_of(
    media: &ServedMedia,
    inputs: &[MediaInput<'_>],
    params: &[&str],
    most: usize,
) -> Result<Vec<usize>, ApiError> {
    let mut rows = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let layout =
            media.store.encoder().layout(input).map_err(|error| refused(&error, params, index))?;
        rows.push(layout.rows);
    }
    let tokens: usize = rows.iter().sum();
    if tokens >= most {
        let reason =
            format!("pictures and recordings take {tokens} tokens and the limit is {most}");
        let param = params.first().copied().unwrap_or("messages").to_owned();
        return Err(ApiError::Media { param, code: "context_length_exceeded", reason });
    }
    Ok(rows)
}

/// What the client of input `index` is told.
fn refused(error: &MediaEncoderError, params: &[&str], index: usize) -> ApiError {
    let param = params.get(index).copied().unwrap_or("messages").to_owned();
    match error {
        MediaEncoderError::Interrupted => ApiError::ShuttingDown,
        MediaEncoderError::Content { code, reason } => {
            ApiError::Media { param, code, reason: reason.clone() }
        }
        error => ApiError::Media { param, code: "media_not_taken", reason: error.to_string() },
    }
}

/// The contents of inputs that came in the fields `params`; their ids are of one epoch.
fn contents(
    media: &ServedMedia,
    inputs: &[MediaInput<'_>],
    params: &[&str],
    between: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<MediaContent>, ApiError> {
    media.store.contents(inputs, between).map_err(|error| match error {
        MediaStoreError::Content { index, error } => refused(&error, params, index),
        error => {
            let param = params.first().copied().unwrap_or("messages").to_owned();
            ApiError::Media { param, code: "too_many_media", reason: error.to_string() }
        }
    })
}

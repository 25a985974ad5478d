//! A chat's reply as a dialect hears it.

use crate::http::choice_stream::ChoiceStream;
use crate::http::error::ApiError;
use crate::http::openai::tools::Piece;
use crate::http::sse::{Encode, EventData};

/// Takes the pieces of a reply. A call comes as its beginning and one or more pieces of its arguments.
pub(in crate::http) trait Hears {
    /// More of the thoughts.
    fn thought(&mut self, text: String, out: &mut EventData);
    /// More of the text.
    fn said(&mut self, text: String, out: &mut EventData);
    /// A call begins.
    fn called(&mut self, name: String, out: &mut EventData);
    /// More of the arguments of the call that began last.
    fn argued(&mut self, text: String, out: &mut EventData);
}

/// Passes pieces on.
pub(in crate::http) fn tell_pieces(
    pieces: &mut Vec<Piece>,
    to: &mut impl Hears,
    out: &mut EventData,
) {
    for piece in pieces.drain(..) {
        match piece {
            Piece::Reasoning(text) => to.thought(text, out),
            Piece::Text(text) => to.said(text, out),
            Piece::Call(name) => to.called(name, out),
            Piece::Arguments(more) => to.argued(more, out),
        }
    }
}

/// Hears a reply to its end; what the encoder then knows is the whole of it.
///
/// # Errors
/// Where the reply fails.
pub(in crate::http) async fn collect<E: Encode>(
    mut choices: ChoiceStream,
    mut encoder: E,
) -> Result<E, ApiError> {
    while let Some(event) = choices.next().await {
        let (choice, event) = event?;
        // The events themselves are for who hears them one by one.
        encoder.event(choice, event, &mut EventData::default());
    }
    encoder.end(&mut EventData::default());
    Ok(encoder)
}

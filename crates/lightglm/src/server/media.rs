//! What a server's model sees and hears with.

use lightglm_serve::http::ServedMedia;

use crate::model::Model;

/// That of `model`, if it is one and this program can read its files.
#[cfg(not(feature = "media"))]
pub(super) fn served(_: &Model) -> Option<ServedMedia> {
    None
}

#[cfg(feature = "media")]
pub(super) use files::served;

#[cfg(feature = "media")]
mod files {
    use std::sync::Arc;

    use lightglm_core::MediaKind;
    use lightglm_generation::media::Medium;
    use lightglm_media::{MediaError, MediaLimits, Pcm, Picture};
    use lightglm_serve::http::{Detail, MediaDecoder, MediaRefusal, RecordingPiece};

    use super::{Model, ServedMedia};
    use crate::model::{IntoMedium, PIECE_SECONDS};

    /// Pixels of a picture of low detail, and of one of which nothing is said: a page.
    const LOW_PIXELS: usize = 512 * 512;
    const AUTO_PIXELS: usize = 1280 * 1024;

    /// See [`super::served`].
    pub(in super::super) fn served(model: &Model) -> Option<ServedMedia> {
        let store = model.media()?.clone();
        Some(ServedMedia { decoder: Arc::new(Files(MediaLimits::default())), store })
    }

    /// Files by what is in them.
    struct Files(MediaLimits);

    /// Our own words alone: what a decoder says of a damaged file is nobody's business but ours.
    fn refused(error: &MediaError) -> MediaRefusal {
        let reason = match error {
            MediaError::Damaged { format, .. } => {
                format!("{format}: it ends too early, or something in it is wrong")
            }
            error => error.to_string(),
        };
        MediaRefusal { code: error.code(), reason }
    }

    impl MediaDecoder for Files {
        fn decode(
            &self,
            kind: MediaKind,
            bytes: &[u8],
            detail: Detail,
        ) -> Result<Medium, MediaRefusal> {
            let most = match detail {
                Detail::Low => LOW_PIXELS,
                Detail::Auto => AUTO_PIXELS,
                Detail::High => usize::MAX,
            };
            match kind {
                MediaKind::Picture => Picture::decode(bytes, &self.0)
                    .map(|picture| shrunk(picture, most).into_medium())
                    .map_err(|error| refused(&error)),
                MediaKind::Sound => Pcm::decode(bytes, &self.0)
                    .map(IntoMedium::into_medium)
                    .map_err(|error| refused(&error)),
            }
        }

        fn pieces(&self, recording: Medium) -> Vec<RecordingPiece> {
            let Medium::Sound { samples, rate } = recording else { return Vec::new() };
            let Ok(recording) = Pcm::new(samples, rate) else { return Vec::new() };
            let seconds = |sample: usize| sample as f64 / f64::from(rate);
            let piece = |piece: std::ops::Range<usize>| RecordingPiece {
                start: seconds(piece.start),
                end: seconds(piece.end),
                medium: Medium::Sound { samples: recording.samples()[piece].to_vec(), rate },
            };
            recording.pieces(PIECE_SECONDS).into_iter().map(piece).collect()
        }
    }

    /// The picture with at most so many pixels, its sides in the same proportion.
    fn shrunk(picture: Picture, most: usize) -> Picture {
        let (width, height) = (picture.width(), picture.height());
        if width * height <= most {
            return picture;
        }
        let scale = (most as f64 / (width * height) as f64).sqrt();
        let side = |side: usize| ((side as f64 * scale).floor() as usize).max(1);
        picture.resized(side(width), side(height))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn pictures_keep_their_proportions() {
            let picture =
                |width, height| Picture::new(width, height, vec![0; width * height * 3]).unwrap();
            let small = shrunk(picture(2000, 500), 40_000);
            assert_eq!((small.width(), small.height()), (400, 100));
            let same = shrunk(picture(20, 10), 200);
            assert_eq!((same.width(), same.height()), (20, 10));
            let thin = shrunk(picture(1000, 1), 100);
            assert!(thin.width() * thin.height() <= 400 && thin.height() == 1);
        }
    }
}

//! Files to samples.

use std::io::Cursor;

use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::Pcm;
use crate::error::MediaError;
use crate::limits::MediaLimits;

const EXPECTED: &str = "a WAV, FLAC, MP3 or Ogg Vorbis recording";

/// Of a hundred packets of an MP3, how many may be broken: where one was cut, what stands before the cut is missing.
const BROKEN: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Wav,
    Flac,
    Mp3,
    Ogg,
}

pub(super) fn decode(bytes: &[u8], limits: &MediaLimits) -> Result<Pcm, MediaError> {
    limits.check_bytes(bytes.len())?;
    let format = Format::of(bytes)?;
    if format == Format::Wav {
        check_wav(bytes, limits)?;
    }
    MediaError::guard(format.name(), || samples(bytes, format, limits))
}

impl Format {
    fn of(bytes: &[u8]) -> Result<Self, MediaError> {
        let riff = |kind: &[u8]| bytes.get(8..12) == Some(kind);
        let found = match bytes {
            [b'R', b'I', b'F', b'F', ..] if riff(b"WAVE") => return Ok(Self::Wav),
            [b'f', b'L', b'a', b'C', ..] => return Ok(Self::Flac),
            [b'O', b'g', b'g', b'S', ..] => {
                // The first page's packet begins behind at most 255 segments.
                let page = &bytes[..bytes.len().min(320)];
                match page.windows(8).any(|window| window == b"OpusHead") {
                    true => "an Ogg Opus recording",
                    false => return Ok(Self::Ogg),
                }
            }
            [b'I', b'D', b'3', ..] => return Ok(Self::Mp3),
            // Frames of MPEG audio; layer 00 is AAC's.
            [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 != 0 => {
                return Ok(Self::Mp3);
            }
            [0xff, second, ..] if second & 0xf6 == 0xf0 => "an AAC recording",
            [b'R', b'I', b'F', b'X', ..] | [b'R', b'F', b'6', b'4', ..] => "another kind of WAV",
            [0x1a, 0x45, 0xdf, 0xa3, ..] => "a WebM or Matroska file",
            [b'F', b'O', b'R', b'M', ..] => "an AIFF recording",
            [b'#', b'!', b'A', b'M', b'R', ..] => "an AMR recording",
            _ if bytes.get(4..8) == Some(b"ftyp") => "an MP4 file",
            [] => "an empty file",
            _ => "a file of an unknown kind",
        };
        Err(MediaError::Unsupported { found, expected: EXPECTED })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Wav => "WAV",
            Self::Flac => "FLAC",
            Self::Mp3 => "MP3",
            Self::Ogg => "Ogg Vorbis",
        }
    }
}

/// What a WAV file declares of itself, before a decoder sees it: rate, channels, and samples that are there.
fn check_wav(bytes: &[u8], limits: &MediaLimits) -> Result<(), MediaError> {
    let damaged = |reason: String| MediaError::damaged("WAV", reason);
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(four.try_into().ok()?))
    };
    let (mut at, mut is_described) = (12, false);
    while let (Some(name), Some(length)) = (bytes.get(at..at + 4), number(at + 4)) {
        let (begin, length) = (at + 8, length as usize);
        if name == b"fmt " {
            let channels = bytes.get(begin + 2..begin + 4).unwrap_or_default();
            let (&[low, high], Some(rate)) = (channels, number(begin + 4)) else { break };
            limits.check_sound(rate, usize::from(u16::from_le_bytes([low, high])))?;
            is_described = true;
        }
        if name == b"data" {
            if !is_described {
                return Err(damaged("samples before what they are".to_owned()));
            }
            let there = bytes.len() - begin;
            return match length <= there {
                true => Ok(()),
                false => Err(damaged(format!("{length} bytes of samples declared, {there} there"))),
            };
        }
        // Chunks begin at even places.
        at = begin + length + length % 2;
    }
    Err(damaged("no samples".to_owned()))
}

fn samples(bytes: &[u8], format: Format, limits: &MediaLimits) -> Result<Pcm, MediaError> {
    let name = format.name();
    let damaged = |error: Error| match error {
        Error::IoError(_) => MediaError::damaged(name, "ends too early"),
        error => MediaError::damaged(name, error),
    };
    let source = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let (format_options, metadata_options) = (FormatOptions::default(), MetadataOptions::default());
    let mut reader = symphonia::default::get_probe()
        .probe(&Hint::new(), source, format_options, metadata_options)
        .map_err(damaged)?;
    let missing = || MediaError::damaged(name, "no sound in it");
    let track = reader.default_track(TrackType::Audio).ok_or_else(missing)?;
    let parameters = track.codec_params.as_ref().and_then(|codec| codec.audio());
    let parameters = parameters.ok_or_else(missing)?;
    let (id, declared) = (track.id, track.num_frames);
    if let Some(rate) = parameters.sample_rate {
        limits.check_sound(rate, parameters.channels.as_ref().map_or(1, |c| c.count()))?;
        if declared.is_some_and(|frames| frames > limits.samples(rate)) {
            return Err(MediaError::TooManySeconds { limit: limits.seconds });
        }
    }
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(damaged)?;
    let (mut mono, mut rate) = (Vec::new(), None);
    let (mut packets, mut broken) = (0, 0);
    let mut interleaved: Vec<f32> = Vec::new();
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // The last frame of an MP3 is often cut.
            Err(Error::IoError(_)) if format == Format::Mp3 => break,
            Err(error) => return Err(damaged(error)),
        };
        if packet.track_id != id {
            continue;
        }
        packets += 1;
        let decoded = match decoder.decode(&packet) {
            Ok(decoded) => decoded,
            Err(Error::DecodeError(_)) if format == Format::Mp3 => {
                broken += 1;
                continue;
            }
            Err(error) => return Err(damaged(error)),
        };
        let (own, channels) = (decoded.spec().rate(), decoded.spec().channels().count());
        limits.check_sound(own, channels)?;
        if *rate.get_or_insert(own) != own {
            return Err(MediaError::damaged(name, "its rate changes"));
        }
        if (mono.len() + decoded.frames()) as u64 > limits.samples(own) {
            return Err(MediaError::TooManySeconds { limit: limits.seconds });
        }
        interleaved.resize(decoded.samples_interleaved(), 0.0);
        decoded.copy_to_slice_interleaved(&mut interleaved);
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / channels as f32;
        mono.extend(interleaved.chunks_exact(channels).map(mean));
    }
    if 100 * broken > BROKEN * packets {
        return Err(MediaError::damaged(name, format!("{broken} of {packets} frames are broken")));
    }
    // Encoders round what they declare to packets.
    let there = mono.len() as u64;
    if let Some(declared) = declared.filter(|&declared| there + 2 * 1152 < declared) {
        let reason = format!("{declared} samples declared, {there} there");
        return Err(MediaError::damaged(name, reason));
    }
    Pcm::new(mono, rate.unwrap_or(1))
}

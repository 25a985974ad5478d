//! Recordings as people send them.

use std::f32::consts::TAU;

use lightglm_media::{MediaError, MediaLimits, Pcm};

fn decode(bytes: &[u8]) -> Result<Pcm, MediaError> {
    Pcm::decode(bytes, &MediaLimits::default())
}

/// A WAV file: `format` 1 for integers, 3 for floats.
fn wav(format: u16, bits: u16, channels: u16, rate: u32, data: &[u8]) -> Vec<u8> {
    let frame = u32::from(channels) * u32::from(bits) / 8;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0");
    file.extend(format.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend(rate.wrapping_mul(frame).to_le_bytes());
    file.extend((frame as u16).to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

fn sine(count: usize) -> Vec<f32> {
    (0..count).map(|i| 0.5 * (TAU * 440.0 * i as f32 / 16_000.0).sin()).collect()
}

fn of_i16(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|sample| ((sample * 32768.0) as i16).to_le_bytes()).collect()
}

#[test]
fn samples_are_as_they_were() {
    let samples = sine(1600);
    let pcm = decode(&wav(1, 16, 1, 16_000, &of_i16(&samples))).unwrap();
    assert_eq!((pcm.rate(), pcm.samples().len()), (16_000, 1600));
    assert!((pcm.seconds() - 0.1).abs() < 1e-9);
    for (found, wanted) in pcm.samples().iter().zip(&samples) {
        assert!((found - wanted).abs() < 1.0 / 32768.0);
    }
    let floats: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    assert_eq!(decode(&wav(3, 32, 1, 16_000, &floats)).unwrap().samples(), samples);
}

#[test]
fn channels_become_their_mean() {
    let stereo: Vec<u8> = [0.5f32, -0.25, 1.0, 0.0].iter().flat_map(|s| s.to_le_bytes()).collect();
    assert_eq!(decode(&wav(3, 32, 2, 8_000, &stereo)).unwrap().samples(), [0.125, 0.5]);
}

#[test]
fn a_tone_is_the_same_at_another_rate() {
    let pcm = Pcm::new(sine(16_000), 16_000).unwrap();
    for rate in [8_000, 22_050, 44_100, 48_000, 44_101] {
        let other = pcm.resampled(rate).unwrap();
        assert_eq!(other.samples().len(), rate as usize);
        for (i, found) in other.samples().iter().enumerate().skip(500).take(3000) {
            let wanted = 0.5 * (f64::from(TAU) * 440.0 * i as f64 / f64::from(rate)).sin();
            assert!((f64::from(*found) - wanted).abs() < 2e-3, "{rate} {i}: {found} {wanted}");
        }
    }
}

#[test]
fn what_is_no_recording_is_told() {
    let is = |bytes: &[u8], found: &str| {
        let error = decode(bytes).unwrap_err();
        assert_eq!(error.code(), "unsupported_media", "{error}");
        assert!(error.to_string().starts_with(found), "{error}");
    };
    is(b"", "an empty file");
    is(b"\x89PNG\r\n\x1a\n", "a file of an unknown kind");
    is(b"\0\0\0\x20ftypM4A \0\0\0\0", "an MP4 file");
    is(b"\x1a\x45\xdf\xa3\x01", "a WebM");
    is(b"FORM\0\0\0\0AIFF", "an AIFF");
    is(b"#!AMR\n", "an AMR");
    is(b"\xff\xf1\x50\x80", "an AAC");
    is(b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead", "an Ogg Opus");
}

#[test]
fn what_a_wav_declares_is_checked_first() {
    let data = of_i16(&sine(160));
    let code = |file: &[u8]| decode(file).unwrap_err().code();
    assert_eq!(code(&wav(1, 16, 0, 16_000, &data)), "channels");
    assert_eq!(code(&wav(1, 16, 9, 16_000, &data)), "channels");
    assert_eq!(code(&wav(1, 16, 1, 1, &data)), "sample_rate");
    assert_eq!(code(&wav(1, 16, 1, 4_000_000_000, &data)), "sample_rate");
    assert_eq!(code(&wav(1, 16, 1, 16_000, &[])), "no_samples");
    assert_eq!(code(&wav(1, 7, 1, 16_000, &data)), "damaged_media");
    let mut declares = wav(1, 16, 1, 16_000, &data);
    declares[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(code(&declares), "damaged_media");
    let cut = wav(1, 16, 1, 16_000, &data);
    assert_eq!(code(&cut[..cut.len() - 2]), "damaged_media");
    let limits = MediaLimits { seconds: 0.005, ..MediaLimits::default() };
    assert_eq!(Pcm::decode(&cut, &limits).unwrap_err().code(), "recording_too_long");
}

#[test]
fn samples_that_are_no_numbers_are_refused() {
    for value in [f32::NAN, f32::INFINITY] {
        let data: Vec<u8> = [0.0, value].iter().flat_map(|s: &f32| s.to_le_bytes()).collect();
        let error = decode(&wav(3, 32, 1, 16_000, &data)).unwrap_err();
        assert_eq!(error.code(), "sample_not_finite");
        assert!(error.to_string().contains("sample 1"), "{error}");
    }
}

/// Silence as MPEG-2.5 has it at 8 kbit/s: frames of 72 ms in 72 bytes.
fn silent_mp3(frames: usize) -> Vec<u8> {
    let mut frame = vec![0xff, 0xe3, 0x18, 0xc0];
    frame.resize(72, 0);
    frame.repeat(frames)
}

#[test]
fn hours_in_a_small_file_end_at_the_limit() {
    let minute = decode(&silent_mp3(833)).unwrap();
    assert_eq!(minute.rate(), 8_000);
    assert!((59.0..60.1).contains(&minute.seconds()), "{}", minute.seconds());
    assert!(minute.samples().iter().all(|&sample| sample == 0.0));
    // Two hours in 7 MB.
    let error = decode(&silent_mp3(100_000)).unwrap_err();
    assert_eq!(error.code(), "recording_too_long");
    // And a day.
    assert_eq!(decode(&silent_mp3(1_200_000)).unwrap_err().code(), "media_too_large");
}

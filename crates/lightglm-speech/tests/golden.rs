//! transformers' GLM-ASR, value for value.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    CausalLm, KvDtype, KvShape, LogitRows, MediaEncoder, MediaInput, MediaRun, MediaRuns,
    SequenceId, WeightSource,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::MediaConfig;
use lightglm_model::decoder::LoadPrecision;
use lightglm_model::weights::llama_tensors;
use lightglm_speech::{Site, SpeechEncoder};
use lightglm_testkit::{Fixture, relative_difference};

/// Of the largest value.
const TOLERANCE: f32 = 1e-3;

fn values(x: &Tensor<Flex, 2>) -> Vec<f32> {
    x.clone().into_data().to_vec().unwrap()
}

fn go_on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn the_encoder() {
    let Some(fixture) = Fixture::open("glmasr") else { return };
    let checkpoint = Checkpoint::open(fixture.folder()).unwrap();
    let encoder = SpeechEncoder::<Flex, _>::load(&checkpoint, LoadPrecision::Stored, &FlexDevice);
    let encoder = encoder.unwrap();
    let [n, mels, frames] = fixture.shape("input_features")[..] else { panic!("three dimensions") };
    let features = fixture.f32s("input_features");
    let (mut seen, mut projected) = (vec![Vec::new(); 3], Vec::new());
    for window in features.chunks(mels * frames) {
        let mut hook = |site, value: &Tensor<Flex, 2>| {
            let at = if let Site::Layer(layer) = site { layer } else { 2 };
            seen[at].extend(values(value));
        };
        let tower = encoder.tower();
        let rows = tower.forward_with_hook(window, &FlexDevice, &mut go_on, &mut hook).unwrap();
        projected.extend(values(&rows));
    }
    for (value, name) in seen.iter().zip(["audio.layer0", "audio.layer1", "audio.norm"]) {
        let worst = relative_difference(value, &fixture.f32s(name));
        assert!(worst < TOLERANCE, "{name}: {worst}");
    }
    let worst = relative_difference(&projected, &fixture.f32s("audio.projector_all"));
    assert!(worst < TOLERANCE, "{worst}");
    assert_eq!(n, 2);
}

#[test]
fn from_samples_to_tokens() {
    let Some(fixture) = Fixture::open("glmasr") else { return };
    let checkpoint = Checkpoint::open(fixture.folder()).unwrap();
    let (config, device) = (checkpoint.config().clone(), FlexDevice);
    let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &device).unwrap();
    let encoder =
        SpeechEncoder::<Flex, _>::load(&checkpoint, LoadPrecision::Stored, &device).unwrap();
    let [rows, columns] = fixture.shape("input_ids")[..] else { panic!("two dimensions") };
    let (ids, mask) = (fixture.i64s("input_ids"), fixture.i64s("attention_mask"));
    let (logits, greedy) = (fixture.f32s("logits"), fixture.i64s("greedy_tokens"));
    let (v, mut all) = (config.vocab_size, Vec::new());
    for row in 0..rows {
        let samples = fixture.i16s(&format!("wave{row}.pcm_i16"));
        let samples: Vec<f32> = samples.iter().map(|&s| f32::from(s) / 32768.0).collect();
        let input = MediaInput::Sound { samples: &samples, rate: 16_000 };
        let layout = encoder.layout(&input).unwrap();
        let media = encoder.encode(&input, &mut go_on).unwrap();
        all.extend_from_slice(&media);
        let of_row = row * columns..(row + 1) * columns;
        let padding = mask[of_row.clone()].iter().take_while(|&&m| m == 0).count();
        let text = of_row.start + padding..of_row.end;
        let mut tokens: Vec<u32> = ids[text.clone()].iter().map(|&id| id as u32).collect();
        let start = tokens.iter().position(|&id| id == encoder.placeholder()).unwrap();
        let placeholders = tokens.iter().filter(|&&id| id == encoder.placeholder()).count();
        assert_eq!(layout.rows, placeholders);
        let id = v as u32;
        tokens[start..start + layout.rows].fill(id);
        let run = MediaRun { start, id, layout, rows: Arc::from(media) };
        let runs = MediaRuns::new(vec![run]).unwrap();
        let shape = KvShape::of(&config);
        let mut cache = ContiguousKvCache::<Flex>::new(shape, 1, 128, KvDtype::F32, &device);
        let part = runs.part(0..tokens.len());
        let span = part.span(SequenceId(0), &tokens, LogitRows::All);
        let actual = values(&model.forward(&[span], &mut cache).unwrap());
        let expected = &logits[text.start * v..text.end * v];
        let worst = actual.iter().zip(expected).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "row {row}: {worst}");
        let steps = greedy.len() / rows;
        let mut last = actual[actual.len() - v..].to_vec();
        for step in 0..steps {
            let best = (0..v).fold(0, |best, i| if last[i] > last[best] { i } else { best });
            assert_eq!(best as i64, greedy[row * steps + step], "row {row}, {step}");
            let at = tokens.len() + step;
            let (token, part) = ([best as u32], runs.part(at..at + 1));
            let span = part.span(SequenceId(0), &token, LogitRows::Last);
            last = values(&model.forward(&[span], &mut cache).unwrap());
        }
    }
    let worst = relative_difference(&all, &fixture.f32s("audio.embeds_valid"));
    assert!(worst < TOLERANCE, "{worst}");
}

#[test]
fn long_recordings_go_by_windows() {
    let Some(fixture) = Fixture::open("glmasr") else { return };
    let checkpoint = Checkpoint::open(fixture.folder()).unwrap();
    let encoder = SpeechEncoder::<Flex, _>::load(&checkpoint, LoadPrecision::Stored, &FlexDevice);
    let encoder = encoder.unwrap();
    // Two seconds a window here, 25 rows each.
    let samples: Vec<f32> = (0..5 * 16_000).map(|i| (i as f32 * 0.07).sin()).collect();
    let of = |range: std::ops::Range<usize>| MediaInput::Sound {
        samples: &samples[range],
        rate: 16_000,
    };
    let whole = encoder.encode(&of(0..80_000), &mut go_on).unwrap();
    assert_eq!(encoder.layout(&of(0..80_000)).unwrap().rows, 25 + 25 + 12);
    let parts = [0..32_000, 32_000..64_000, 64_000..80_000];
    let parts: Vec<f32> = parts
        .into_iter()
        .flat_map(|range| encoder.encode(&of(range), &mut go_on).unwrap())
        .collect();
    assert_eq!(whole, parts);
    // Another rate is the same recording.
    let slow = MediaInput::Sound { samples: &samples[..4000], rate: 8000 };
    let rows = encoder.layout(&slow).unwrap().rows;
    assert_eq!(encoder.encode(&slow, &mut go_on).unwrap().len(), rows * 64);
    let short = MediaInput::Sound { samples: &samples[..200], rate: 16_000 };
    assert!(encoder.layout(&short).is_err() && encoder.encode(&short, &mut go_on).is_err());
}

#[test]
fn an_encoder_is_written_as_it_was_read() {
    let Some(fixture) = Fixture::open("glmasr") else { return };
    let checkpoint = Checkpoint::open(fixture.folder()).unwrap();
    let encoder = SpeechEncoder::<Flex, _>::load(&checkpoint, LoadPrecision::Stored, &FlexDevice);
    let Some(MediaConfig::Audio(config)) = checkpoint.media_config() else { panic!("it hears") };
    let file = checkpoint.media_weights().unwrap();
    let tensors = encoder.unwrap().tower().tensors(config);
    let mut names: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
    let of_encoder = |name: &String| !name.starts_with("language_model");
    names.sort();
    assert_eq!(names, file.names().into_iter().filter(of_encoder).collect::<Vec<_>>());
    for (name, view) in tensors {
        let expected = file.tensor(&name).unwrap();
        assert!(view.shape == expected.shape && view.bytes == expected.bytes, "{name}");
    }
    // And the decoder inside of it.
    for (name, view) in llama_tensors(checkpoint.weights(), checkpoint.config().head_dim).unwrap() {
        let expected = file.tensor(&format!("language_model.{name}")).unwrap();
        assert!(view.shape == expected.shape && view.bytes == expected.bytes, "{name}");
    }
}

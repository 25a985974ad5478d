//! transformers' towers and models, value for value: GLM-4.1V and GLM-OCR.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    CausalLm, KvDtype, KvShape, LogitRows, MediaEncoder, MediaInput, MediaLayout, MediaRun,
    MediaRuns, SequenceId,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_media::Picture;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_testkit::{Fixture, relative_difference};
use lightglm_vision::{Site, VisionEncoder};

/// Of the largest value.
const TOLERANCE: f32 = 1e-4;
/// Of logits, absolute.
const LOGITS: f32 = 1e-3;

fn go_on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn values(x: &Tensor<Flex, 2>) -> Vec<f32> {
    x.clone().into_data().to_vec().unwrap()
}

/// A fixture's tower, run over its patches: the rows of each picture.
fn check_tower(fixture: &Fixture, checkpoint: &Checkpoint) -> Vec<(MediaLayout, Arc<[f32]>)> {
    let encoder = VisionEncoder::<Flex, _>::load(checkpoint, LoadPrecision::Stored, &FlexDevice);
    let encoder = encoder.unwrap();
    let pixels = fixture.f32s("pixel_values");
    let width = fixture.shape("pixel_values")[1];
    let grids = fixture.i64s("image_grid_thw");
    let (mut first, mut seen) = (0, Vec::<(Site, Vec<f32>)>::new());
    let mut rows = Vec::<(MediaLayout, Arc<[f32]>)>::new();
    for grid in grids.chunks(3) {
        let (h, w) = (grid[1] as usize, grid[2] as usize);
        let patches = pixels[first * width..(first + h * w) * width].to_vec();
        let patches = Tensor::from_data(TensorData::new(patches, [h * w, width]), &FlexDevice);
        let mut hook = |site, value: &Tensor<Flex, 2>| {
            let value = values(value);
            match seen.iter_mut().find(|(known, _)| *known == site) {
                Some((_, all)) => all.extend(value),
                None => seen.push((site, value)),
            }
        };
        let tower = encoder.tower();
        let out = tower.forward_with_hook(patches, (h, w), &mut go_on, &mut hook).unwrap();
        rows.push((MediaLayout::grid([1, h as u32 / 2, w as u32 / 2]), Arc::from(values(&out))));
        first += h * w;
    }
    let mut checked = 0;
    for (site, name) in [
        (Site::PatchEmbed, "vision.patch_embed"),
        (Site::PostConvNorm, "vision.post_conv_layernorm"),
        (Site::Positioned, "vision.with_pos_embed"),
        (Site::Block(0), "vision.block0"),
        (Site::Block(1), "vision.block1"),
        (Site::PostNorm, "vision.post_layernorm"),
        (Site::Downsample, "vision.downsample"),
    ] {
        if fixture.has(name) {
            let (_, value) = seen.iter().find(|(known, _)| *known == site).expect(name);
            let worst = relative_difference(value, &fixture.f32s(name));
            assert!(worst < TOLERANCE, "{name}: {worst}");
            checked += 1;
        }
    }
    let is_glm4v = encoder.tower().position_embedding.is_some();
    assert_eq!(checked, if is_glm4v { 7 } else { 4 }, "tensors of the fixture");
    let all: Vec<f32> = rows.iter().flat_map(|(_, rows)| rows.to_vec()).collect();
    let worst = relative_difference(&all, &fixture.f32s("vision.image_embeds"));
    assert!(worst < TOLERANCE, "image_embeds: {worst}");
    rows
}

/// A row of a batch without its padding, pictures' places under ids of their own.
fn prompt(
    ids: &[i64],
    placeholder: u32,
    vocab_size: usize,
    pictures: &mut impl Iterator<Item = (MediaLayout, Arc<[f32]>)>,
) -> (Vec<u32>, MediaRuns) {
    let mut tokens: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    let (mut runs, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at] != placeholder {
            at += 1;
            continue;
        }
        let (layout, rows) = pictures.next().expect("a picture for each placeholder");
        let id = (vocab_size + runs.len()) as u32;
        let place = at..at + layout.rows;
        assert!(tokens[place.clone()].iter().all(|&token| token == placeholder));
        tokens[place].fill(id);
        runs.push(MediaRun { start: at, id, layout, rows });
        at += layout.rows;
    }
    (tokens, MediaRuns::new(runs).unwrap())
}

/// Logits of a whole prompt in chunks of `chunk`, and the cache behind it.
fn run_chunks(
    model: &DenseGlm<Flex>,
    shape: KvShape,
    tokens: &[u32],
    runs: &MediaRuns,
    chunk: usize,
) -> (Vec<f32>, ContiguousKvCache<Flex>) {
    let mut cache = ContiguousKvCache::new(shape, 1, tokens.len() + 32, KvDtype::F32, &FlexDevice);
    let (mut logits, mut at) = (Vec::new(), 0);
    for chunk in tokens.chunks(chunk) {
        let part = runs.part(at..at + chunk.len());
        let span = part.span(SequenceId(0), chunk, LogitRows::All);
        logits.extend(values(&model.forward(&[span], &mut cache).unwrap()));
        at += chunk.len();
    }
    (logits, cache)
}

fn check(name: &str) {
    let Some(fixture) = Fixture::open(name) else { return };
    let checkpoint = Checkpoint::open(fixture.folder()).unwrap();
    let config = checkpoint.config().clone();
    let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap();
    let mut pictures = check_tower(&fixture, &checkpoint).into_iter();
    let placeholder = checkpoint.media_config().unwrap().token_id();
    let [rows, columns] = fixture.shape("input_ids")[..] else { panic!("two dimensions") };
    let ids = fixture.i64s("input_ids");
    let mask = match fixture.has("attention_mask") {
        true => fixture.i64s("attention_mask"),
        false => vec![1; ids.len()],
    };
    let positions = fixture.i64s("mrope_position_ids");
    let (deltas, v) = (fixture.i64s("rope_deltas"), config.vocab_size);
    let (logits, greedy) = (fixture.f32s("logits"), fixture.i64s("greedy_tokens"));
    for row in 0..rows {
        let all = row * columns..(row + 1) * columns;
        let padding = mask[all.clone()].iter().take_while(|&&m| m == 0).count();
        let text = all.start + padding..all.end;
        let (tokens, runs) = prompt(&ids[text.clone()], placeholder, v, &mut pictures);
        runs.check(&tokens, v).unwrap();
        for (place, column) in (padding..columns).enumerate() {
            let expected = [0, 1, 2].map(|axis| positions[(axis * rows + row) * columns + column]);
            assert_eq!(runs.position(place).map(i64::from), expected, "place {place}");
        }
        let behind = i64::from(runs.position(tokens.len())[0]);
        assert_eq!(behind - tokens.len() as i64, deltas[row]);
        let shape = KvShape::of(&config);
        let (actual, mut cache) = run_chunks(&model, shape, &tokens, &runs, tokens.len());
        let expected = &logits[text.start * v..text.end * v];
        let worst = actual.iter().zip(expected).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max);
        assert!(worst < LOGITS, "{name} row {row}: {worst}");
        // Wherever a prompt is cut, its logits are the same bits.
        for chunk in [1, 3, 7, 16] {
            assert_eq!(
                run_chunks(&model, shape, &tokens, &runs, chunk).0,
                actual,
                "chunks of {chunk}"
            );
        }
        let steps = greedy.len() / rows;
        let mut last = actual[actual.len() - v..].to_vec();
        for step in 0..steps {
            let best = (0..v).fold(0, |best, i| if last[i] > last[best] { i } else { best });
            assert_eq!(best as i64, greedy[row * steps + step], "{name} row {row}, {step}");
            let at = tokens.len() + step;
            let (token, part) = ([best as u32], runs.part(at..at + 1));
            let span = part.span(SequenceId(0), &token, LogitRows::Last);
            last = values(&model.forward(&[span], &mut cache).unwrap());
        }
    }
    assert!(pictures.next().is_none(), "every picture has its place");
}

#[test]
fn glm_4_1v() {
    check("glm4v");
}

#[test]
fn glm_ocr() {
    check("glm_ocr");
}

#[test]
fn from_pixels_to_rows() {
    let Some(fixture) = Fixture::open("glm4v") else { return };
    let checkpoint = Checkpoint::open(fixture.folder()).unwrap();
    let encoder = VisionEncoder::<Flex, _>::load(&checkpoint, LoadPrecision::Stored, &FlexDevice);
    let encoder = encoder.unwrap();
    let (grids, mut rows) = (fixture.i64s("image_grid_thw"), Vec::new());
    for (index, grid) in grids.chunks(3).enumerate() {
        let name = format!("image{index}.rgb_u8_hwc");
        let (shape, bytes) = (fixture.shape(&name), fixture.bytes(&name));
        let picture = Picture::new(shape[1], shape[0], bytes).unwrap();
        let (height, width, rgb) = (picture.height(), picture.width(), picture.rgb());
        let input = MediaInput::Picture { height, width, rgb };
        let layout = encoder.layout(&input).unwrap();
        assert_eq!(layout, MediaLayout::grid([1, grid[1] as u32 / 2, grid[2] as u32 / 2]));
        rows.extend(encoder.encode(&input, &mut go_on).unwrap());
        let stopped = encoder.encode(&input, &mut || ControlFlow::Break(()));
        assert_eq!(stopped, Err(lightglm_core::MediaEncoderError::Interrupted));
    }
    let worst = relative_difference(&rows, &fixture.f32s("vision.image_embeds"));
    assert!(worst < TOLERANCE, "{worst}");
    let sound = MediaInput::Sound { samples: &[0.0; 1600], rate: 16_000 };
    assert!(encoder.layout(&sound).is_err() && encoder.encode(&sound, &mut go_on).is_err());
}

//! What does nothing is found, and is not missed.

use std::path::Path;

use lightglm::prune::{CutOptions, PruneOptions, PruneReport, Slice, Wanted, cut, prune, shape_of};
use lightglm_model::config::ModelType;

use super::fixture::{TOKENS, apart, change, logits, open, teacher, zero_columns, zero_rows};

/// Logits of up to 4 through three layers of f32 sums in another order, and norms whose scale is rounded.
const TOLERANCE: f32 = 2e-5;

const TYPES: [ModelType; 3] = [ModelType::Glm4, ModelType::Glm, ModelType::GlmQkNorm];

fn pruned(folder: &Path, wanted: Wanted, student: &Path) -> PruneReport {
    let calibration = TOKENS.repeat(3);
    let options = PruneOptions { wanted, calibration, context: 16, ..PruneOptions::default() };
    prune(&open(folder), &options, student).unwrap()
}

/// Neurons without weights in `down_proj`, cut out by hand; and neurons whose gate and up are zero too, which are
/// found.
#[test]
fn neurons() {
    for model_type in TYPES {
        let folder = teacher(model_type, 2);
        let (path, out) = (folder.path(), tempfile::tempdir().unwrap());
        let idle = |layer: usize| [3 + layer, 40, 111];
        let layer_of = |name: &str| name.split('.').nth(2).and_then(|layer| layer.parse().ok());
        change(path, |name, shape, values| {
            if name.ends_with("down_proj.weight") {
                zero_columns(shape, values, &idle(layer_of(name).unwrap()));
            }
        });
        let expected = logits(path, &TOKENS);
        let checkpoint = open(path);
        let mut slice = Slice::whole(&shape_of(checkpoint.config()));
        for (layer, neurons) in slice.ffn.iter_mut().enumerate() {
            neurons.retain(|neuron| !idle(layer).contains(neuron));
        }
        let student = out.path().join("by_hand");
        let (config, _) = cut(&checkpoint, &slice, &CutOptions::default(), &student).unwrap();
        assert_eq!(config.intermediate_size, 109);
        let by_hand = apart(&logits(&student, &TOKENS), &expected);

        change(path, |name, shape, values| {
            if name.ends_with("gate_up_proj.weight") {
                let idle = idle(layer_of(name).unwrap());
                let ups = idle.map(|neuron| 112 + neuron);
                zero_rows(shape, values, idle.into_iter().chain(ups));
            }
        });
        let student = out.path().join("found");
        let wanted = Wanted { intermediate_size: Some(109), ..Wanted::default() };
        let report = pruned(path, wanted, &student);
        assert_eq!(report.slice, slice);
        let found = apart(&logits(&student, &TOKENS), &expected);
        println!("{model_type:?}: {by_hand:e} by hand, {found:e} found");
        assert!(by_hand < TOLERANCE && found < TOLERANCE, "{by_hand:e}, {found:e}");
    }
}

/// Query heads without weights in `o_proj`, one of each key and value head; and then a key and value head with all of
/// its query heads.
#[test]
fn heads() {
    for model_type in TYPES {
        let folder = teacher(model_type, 3);
        let (path, out) = (folder.path(), tempfile::tempdir().unwrap());
        let columns = |heads: &[usize]| -> Vec<usize> {
            heads.iter().flat_map(|head| head * 16..(head + 1) * 16).collect()
        };
        for (idle, heads, groups) in [([1, 2], 2, 2), ([0, 1], 2, 1)] {
            change(path, |name, shape, values| {
                if name.ends_with("o_proj.weight") {
                    zero_columns(shape, values, &columns(&idle));
                }
            });
            let (checkpoint, expected) = (open(path), logits(path, &TOKENS));
            let mut slice = Slice::whole(&shape_of(checkpoint.config()));
            slice.heads.iter_mut().for_each(|heads| heads.retain(|head| !idle.contains(head)));
            let student = out.path().join(format!("{groups}"));
            let (config, _) = cut(&checkpoint, &slice, &CutOptions::default(), &student).unwrap();
            assert_eq!((config.num_attention_heads, config.num_key_value_heads), (heads, groups));
            assert_eq!(config.head_dim, 16);
            let distance = apart(&logits(&student, &TOKENS), &expected);
            println!("{model_type:?}, {groups}: {distance:e}");
            assert!(distance < TOLERANCE, "{distance:e}");
        }
    }
}

/// A key and value head whose values are zero is the one that goes.
#[test]
fn silent_groups_are_found() {
    let folder = teacher(ModelType::Glm4, 4);
    let (path, out) = (folder.path(), tempfile::tempdir().unwrap());
    change(path, |name, shape, values| {
        if name.contains("v_proj") {
            zero_rows(shape, values, 16..32);
        }
    });
    let expected = logits(path, &TOKENS);
    let wanted = Wanted { num_key_value_heads: Some(1), ..Wanted::default() };
    let student = out.path().join("student");
    let report = pruned(path, wanted, &student);
    assert_eq!(report.slice.heads, vec![vec![0, 1]; 3]);
    assert!(apart(&logits(&student, &TOKENS), &expected) < TOLERANCE);
}

/// A block that hands on what it was given goes, and the logits keep their bits.
#[test]
fn blocks() {
    for model_type in TYPES {
        let folder = teacher(model_type, 5);
        let (path, out) = (folder.path(), tempfile::tempdir().unwrap());
        change(path, |name, _, values| {
            if name.starts_with("model.layers.1.") && name.contains("o_proj")
                || name.starts_with("model.layers.1.mlp.down_proj")
            {
                values.fill(0.0);
            }
        });
        let expected = logits(path, &TOKENS);
        let wanted = Wanted { num_hidden_layers: Some(2), ..Wanted::default() };
        let student = out.path().join("student");
        let report = pruned(path, wanted, &student);
        assert_eq!(report.slice.layers, [0, 2]);
        assert_eq!(report.importance.unwrap().layers[1], 0.0);
        assert_eq!(logits(&student, &TOKENS), expected);
    }
}

/// Channels that are zero everywhere go, with norms that are scaled by what they lose; without that the student would
/// be another model.
#[test]
fn channels() {
    for model_type in TYPES {
        let folder = teacher(model_type, 6);
        let (path, out) = (folder.path(), tempfile::tempdir().unwrap());
        let idle = [0, 7, 8, 30, 31, 50, 62, 63];
        change(path, |name, shape, values| {
            if name.contains("embed_tokens") {
                zero_columns(shape, values, &idle);
            }
            if name.contains("o_proj") || name.contains("down_proj") {
                zero_rows(shape, values, idle);
            }
        });
        let expected = logits(path, &TOKENS);
        let wanted = Wanted { hidden_size: Some(56), ..Wanted::default() };
        let student = out.path().join("student");
        let report = pruned(path, wanted, &student);
        assert!(idle.iter().all(|channel| !report.slice.hidden.contains(channel)));
        let scaled = apart(&logits(&student, &TOKENS), &expected);
        let unscaled = out.path().join("unscaled");
        cut(&open(path), &report.slice, &CutOptions::default(), &unscaled).unwrap();
        let without = apart(&logits(&unscaled, &TOKENS), &expected);
        println!("{model_type:?}: {scaled:e}, without scales {without:e}");
        assert!(scaled < TOLERANCE && without > 1000.0 * TOLERANCE, "{scaled:e}, {without:e}");
    }
}

/// All at once: the shapes are those that were wanted, and the folder is a model.
#[test]
fn everything_shrinks_together() {
    for model_type in TYPES {
        let folder = teacher(model_type, 7);
        let out = tempfile::tempdir().unwrap();
        let student = out.path().join("student");
        let wanted = Wanted {
            num_hidden_layers: Some(2),
            hidden_size: Some(48),
            intermediate_size: Some(64),
            num_attention_heads: Some(2),
            num_key_value_heads: None,
        };
        let report = pruned(folder.path(), wanted, &student);
        let checkpoint = open(&student);
        let config = checkpoint.config();
        assert_eq!(config, &report.config);
        assert_eq!(
            shape_of(config),
            wanted.shape(&shape_of(open(folder.path()).config())).unwrap()
        );
        assert_eq!(report.after.parameters, config.num_parameters());
        assert_eq!(report.after.bytes, 4 * report.after.parameters);
        assert!(report.before.bytes > report.after.bytes);
        assert!(logits(&student, &TOKENS).iter().all(|logit| logit.is_finite()));
    }
}

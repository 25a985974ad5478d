//! Plans agree with the models that they are for.

use lightglm::prune::{
    Machine, PlanOptions, StudentError, Wanted, config_of, plan, shape_of, this_machine,
};
use lightglm::speed::prefill_flops;
use lightglm::{Error, Model, Weights};
use lightglm_model::config::{GlmConfig, ModelType};

use super::tiny_model;

#[test]
fn sizes_are_those_of_the_configuration() {
    let types = [ModelType::Glm4, ModelType::Glm, ModelType::GlmQkNorm];
    let presets = [GlmConfig::tiny(), GlmConfig::mid(), GlmConfig::glm4_9b_0414()];
    for preset in presets {
        for model_type in types {
            for (tie_word_embeddings, attention_bias) in [(false, true), (true, false)] {
                let config =
                    GlmConfig { model_type, tie_word_embeddings, attention_bias, ..preset.clone() };
                let report = plan(&config, &PlanOptions::default()).unwrap();
                assert_eq!(report.parameters, config.num_parameters());
                assert_eq!(report.kv_bytes_16_bit, config.kv_bytes_per_token(2));
                assert_eq!(report.schemes[0].bytes, Some(4 * config.num_parameters()));
                assert_eq!(config_of(&config, &shape_of(&config)), config);
            }
        }
    }
}

#[test]
fn bytes_are_those_that_the_quantizer_needs() {
    let folder = tiny_model::folder(1);
    let model = Model::open(folder.path(), Default::default()).unwrap();
    let report = plan(model.config(), &PlanOptions::default()).unwrap();
    let vectors = 4 * shape_of(model.config()).vector_parameters();
    for scheme in &report.schemes[2..] {
        let weights = Weights::scheme(&scheme.scheme).unwrap();
        // FFN 112 is no whole number of groups: the last one is shorter.
        let expected = model.weight_bytes(&weights).ok();
        assert_eq!(scheme.bytes, expected.map(|bytes| bytes + vectors), "{}", scheme.scheme);
    }
}

#[test]
fn operations_are_those_of_a_prompt_whose_every_token_has_logits() {
    let config = GlmConfig::mid();
    let context = 512;
    let options =
        PlanOptions { context, teacher: Some(GlmConfig::glm4_9b_0414()), ..Default::default() };
    let report = plan(&config, &options).unwrap();
    // That of a prompt has the head once.
    let head = 2.0 * (config.hidden_size * config.vocab_size) as f64;
    let expected = (prefill_flops(&config, context) - head) / context as f64 + head;
    assert!((report.forward_flops / expected - 1.0).abs() < 1e-12);
    assert_eq!(report.training_flops, 3.0 * report.forward_flops);
    let teacher = plan(&GlmConfig::glm4_9b_0414(), &PlanOptions { context, ..Default::default() });
    let both = report.training_flops + teacher.unwrap().forward_flops;
    assert_eq!(report.distillation_flops, Some(both));
    let [t4, _] = &report.hours[..] else { panic!("two machines") };
    let hours = both * 1e9 / (65e12 * 0.3) / 3600.0;
    assert!((t4.distillation.unwrap() / hours - 1.0).abs() < 1e-12);
}

/// A student of three billion parameters is one.
#[test]
fn three_billion_of_nine() {
    let teacher = GlmConfig::glm4_9b_0414();
    let wanted = Wanted {
        num_hidden_layers: Some(28),
        hidden_size: Some(2560),
        intermediate_size: Some(8192),
        num_attention_heads: Some(24),
        ..Wanted::default()
    };
    let student = config_of(&teacher, &wanted.shape(&shape_of(&teacher)).unwrap());
    let report = plan(&student, &PlanOptions::default()).unwrap();
    assert!((2.8e9..3.2e9).contains(&(report.parameters as f64)), "{}", report.parameters);
}

#[test]
fn machines_have_a_speed() {
    assert_eq!(this_machine(Some(100.0)).unwrap().peak_flops, 1e11);
    for gflops in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = this_machine(Some(gflops)).unwrap_err();
        assert!(matches!(error, Error::Student(StudentError::Machine { .. })), "{error}");
    }
    assert!(Machine::new("none", 1.0, 1.5).is_err());
}

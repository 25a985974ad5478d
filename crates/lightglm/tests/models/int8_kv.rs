//! What an eight-bit KV cache loses: KL divergence of the small real model's predictions, with
//! eight-bit keys and values against f32 ones, on WikiText-2.

use burn_flex::{Flex, FlexDevice};
use lightglm::{ProgressSink, SMALL_MODEL};
use lightglm_core::KvCache;
use lightglm_core::{KvDtype, KvShape};
use lightglm_eval::{Protocol, Subject, kl_divergence};
use lightglm_generation::ContiguousKvCache;
use lightglm_generation::RunControl;
use lightglm_model::decoder::LoadPrecision;

/// Nats per prediction.
const MOST: f64 = 1e-3;

fn loses_little(dtype: KvDtype, windows: usize) {
    let ids = crate::wikitext::token_ids();
    let checkpoint = match lightglm::checkpoint::open(SMALL_MODEL, &ProgressSink::default()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            println!("skipped: the small model is out of reach: {error:#}");
            return;
        }
    };
    let model = checkpoint.load::<Flex>(LoadPrecision::Stored, &FlexDevice).unwrap();
    let cache = |dtype| {
        let shape = KvShape::of(checkpoint.config());
        move |positions| {
            let cache = ContiguousKvCache::new(shape, 1, positions, dtype, &FlexDevice);
            Ok(Box::new(cache) as Box<dyn KvCache<Flex>>)
        }
    };
    let (mut exact, mut rounded) = (cache(KvDtype::F32), cache(dtype));
    let mut reference = Subject::new(&model, &mut exact);
    let mut candidate = Subject::new(&model, &mut rounded);
    let protocol = Protocol { context_length: 512, stride: 256, bos: None, context_only: 0 };
    let ids = &ids[..ids.len().min(256 * (windows - 1) + 512)];
    let control = &mut RunControl::default();
    let result = kl_divergence(&mut reference, &mut candidate, ids, &protocol, control).unwrap();
    println!(
        "{dtype}: KL divergence {:.6} nats (standard error {:.6}), top-1 agreement {:.2} %, perplexity \
         {:.4} against {:.4}, {} predictions",
        result.mean,
        result.standard_error,
        100.0 * result.top1_agreement,
        result.candidate.perplexity,
        result.reference.perplexity,
        result.tokens
    );
    assert!(result.mean > 0.0, "eight bits cannot be exact");
    assert!(result.mean <= MOST, "{dtype}: {} nats", result.mean);
}

#[test]
fn the_first_windows_lose_little() {
    for dtype in [KvDtype::Int8, KvDtype::Int8Rotated] {
        loses_little(dtype, 3);
    }
}

#[test]
#[ignore = "some minutes of two cores"]
fn all_windows_lose_little() {
    for dtype in [KvDtype::Int8, KvDtype::Int8Rotated] {
        loses_little(dtype, 63);
    }
}

//! Several models, one engine.

use std::sync::Arc;

use burn_flex::FlexDevice;
use lightglm_serve::engine::{AdapterError, AdapterLoader, EngineBuilder};
use lightglm_testkit::TableLm;

use crate::harness::*;

fn other(seed: u64) -> TableLm<B> {
    TableLm::new(VOCAB, 7, seed, &FlexDevice)
}

fn with_adapters() -> TestEngine {
    let loader: AdapterLoader<B> = Box::new(|name| match name {
        "wide" => Ok(Arc::new(TableLm::<B>::new(VOCAB + 1, 7, 1, &FlexDevice))),
        name => match name.parse() {
            Ok(seed) => Ok(Arc::new(other(seed))),
            Err(_) => Err("no such file".into()),
        },
    });
    EngineBuilder::new(Arc::new(model()), cache(300), config()).with_adapters(loader).build()
}

#[test]
fn adapters_answer_for_themselves_in_one_batch() {
    let mut engine = with_adapters();
    let handle = engine.handle();
    handle.load_adapter("21").unwrap();
    handle.load_adapter("22").unwrap();
    assert_eq!(handle.adapters(), ["21", "22"]);
    let shared = prompt(50, 1);
    let models = [None, Some("21"), Some("22"), Some("21"), None];
    let clients = models.map(|model| {
        let mut request = request(&shared, sampled(12, 5));
        request.model = model.map(str::to_owned);
        submit(&handle, request)
    });
    engine.step();
    // Whoever has it keeps it.
    handle.unload_adapter("21").unwrap();
    run(&mut engine);
    for (model, client) in models.iter().zip(&clients) {
        let mut alone = match model {
            None => crate::harness::engine(config(), 300),
            Some(name) => {
                let model = Arc::new(other(name.parse().unwrap()));
                EngineBuilder::new(model, cache(300), config()).build()
            }
        };
        let expected = submit(&alone.handle(), request(&shared, sampled(12, 5)));
        run(&mut alone);
        assert_eq!(client.told().steps, expected.told().steps, "{model:?}");
    }
    assert_ne!(clients[0].told().steps, clients[1].told().steps);
    assert_eq!(clients[3].told().started, Some(48), "the prefix of its own model is shared");
    assert_eq!(clients[2].told().started, Some(0), "that of another is not");
}

#[test]
fn a_name_that_comes_back_finds_nothing_of_its_past() {
    let mut engine = with_adapters();
    let handle = engine.handle();
    for _ in 0..2 {
        handle.load_adapter("21").unwrap();
        let mut request = request(&prompt(50, 1), greedy(3));
        request.model = Some("21".into());
        let client = submit(&handle, request);
        run(&mut engine);
        assert_eq!(client.told().started, Some(0));
        handle.unload_adapter("21").unwrap();
    }
}

#[test]
fn what_cannot_be_loaded_says_why() {
    let engine = with_adapters();
    let handle = engine.handle();
    let failed = |name: &str| handle.load_adapter(name).unwrap_err().to_string();
    assert_eq!(failed("wide"), "adapter `wide`: its vocabulary is 98, the base model's 97");
    assert_eq!(failed("a/b"), "adapter `a/b`: no such file");
    handle.load_adapter("3").unwrap();
    let taken = AdapterError::AlreadyLoaded { name: "3".into() };
    assert_eq!(handle.load_adapter("3"), Err(taken));
    let missing = AdapterError::NotLoaded { name: "4".into() };
    assert_eq!(handle.unload_adapter("4"), Err(missing));
    let plain = crate::harness::engine(config(), 10);
    assert_eq!(plain.handle().load_adapter("3"), Err(AdapterError::NotConfigured));
}

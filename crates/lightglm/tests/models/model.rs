//! `Model` and `Chat`: opened, asked, scored; and what is refused.

use crate::tiny_model::{folder, greedy, open};
use lightglm::{
    Device, Error, FinishReason, LoadOptions, Message, Model, Prompt, Request, Sparsity,
    WeightDtype, Weights,
};

#[test]
fn a_streamed_answer_is_the_whole_answer_and_the_second_turn_is_short() {
    let folder = folder(1);
    let model = open(&folder, LoadOptions::default());
    let mut chat = model.chat().with_system("Be brief.").with_sampling(greedy(8));
    let mut streamed = String::new();
    for piece in chat.ask("Hello").unwrap() {
        streamed += &piece.unwrap().to_string();
    }
    let messages = vec![Message::system("Be brief."), Message::user("Hello")];
    let request = Request { prompt: Prompt::Chat(messages), sampling: Some(greedy(8)) };
    let whole = model.complete(request).unwrap();
    assert_eq!(streamed, whole.text);
    assert_eq!(whole.finish, Some(FinishReason::Length));
    assert_eq!(chat.history().len(), 2);
    assert_eq!(chat.history()[1].content, Some(streamed.into()));

    // What the cache holds of the first turn is not computed again, and changes nothing.
    let second = chat.ask("你好").unwrap().finish().unwrap();
    assert!(second.speed.prompt_tokens < second.prompt_token_ids.len());
    let fresh = Request {
        prompt: Prompt::Tokens(second.prompt_token_ids.clone()),
        sampling: Some(greedy(8)),
    };
    assert_eq!(model.complete(fresh).unwrap().token_ids, second.token_ids);

    // Asked again, it is the same answer in the same place.
    assert_eq!(chat.take_last_question().as_deref(), Some("你好"));
    assert_eq!(chat.history().len(), 2);
    assert_eq!(chat.ask("你好").unwrap().finish().unwrap().token_ids, second.token_ids);
}

#[test]
fn an_answer_that_is_dropped_stays_as_far_as_it_came() {
    let folder = folder(2);
    let model = open(&folder, LoadOptions::default());
    let mut chat = model.chat().with_sampling(greedy(20));
    let mut answer = chat.ask("Hello").unwrap();
    let first: String = answer.by_ref().take(3).map(|step| step.unwrap().text).collect();
    drop(answer);
    assert_eq!(chat.history()[1].content, Some(first.into()));
    // Not begun: as if nobody had asked.
    drop(chat.ask("Another").unwrap());
    assert_eq!(chat.history().len(), 2);
    let next = chat.ask("Next").unwrap().finish().unwrap();
    let alone = Request {
        prompt: Prompt::Tokens(next.prompt_token_ids.clone()),
        sampling: Some(greedy(20)),
    };
    assert_eq!(model.complete(alone).unwrap().token_ids, next.token_ids);
}

#[test]
fn cancelling_ends_an_answer() {
    let folder = folder(2);
    let mut chat = open(&folder, LoadOptions::default()).chat().with_sampling(greedy(200));
    let cancel = chat.cancel_token();
    let mut answer = chat.ask("Hello").unwrap();
    answer.next().unwrap().unwrap();
    cancel.cancel();
    let reply = answer.finish().unwrap();
    assert_eq!(reply.finish, Some(FinishReason::Cancelled));
    assert!(reply.token_ids.len() < 200);
}

#[test]
fn a_batch_is_what_each_would_be_alone() {
    let folder = folder(3);
    let model = open(&folder, LoadOptions { max_context: Some(64), ..LoadOptions::default() });
    let ask = |text: &str| Request::text(text).with_sampling(greedy(6));
    let texts = ["a", "some words", "你好，世界", "the last"];
    let mut requests: Vec<Request> = texts.map(ask).into();
    requests.insert(2, Request { prompt: Prompt::Tokens(vec![7; 100]), sampling: None });
    requests.insert(3, Request { prompt: Prompt::Tokens(vec![u32::MAX]), sampling: None });
    let mut steps = vec![0; requests.len()];
    let replies = model.batch_with(requests, &mut |index, _| steps[index] += 1).unwrap();
    assert!(matches!(replies[2], Err(Error::ConversationTooLong { tokens: 100, limit: 64 })));
    assert!(replies[3].is_err());
    let good: Vec<_> = replies.into_iter().flatten().collect();
    for (text, reply) in texts.iter().zip(&good) {
        assert_eq!(reply.text, model.complete(ask(text)).unwrap().text, "{text}");
    }
    assert_eq!(steps, [6, 6, 0, 0, 6, 6]);
    assert!(model.batch(Vec::<Request>::new()).unwrap().is_empty());
}

#[test]
fn scores_are_those_of_the_tokens() {
    let folder = folder(4);
    let model = open(&folder, LoadOptions::default());
    let scores = model.score("a text", &[" x", " yz", " x"]).unwrap();
    assert!(scores.iter().all(|score| *score < 0.0 && score.is_finite()), "{scores:?}");
    assert_eq!(scores[0], scores[2]);
    assert_eq!(model.count_tokens("").unwrap(), 0);
    assert!(model.count_tokens("some words").unwrap() > 1);
    assert!(model.score("a text", &[""]).is_err());
}

#[test]
fn every_kind_of_weights_answers() {
    let folder = folder(5);
    let weights = [
        Weights::Stored,
        Weights::Dtype(WeightDtype::Bf16),
        Weights::scheme("int8").unwrap(),
        Weights::policy("*.down_proj=int8,*=int4").unwrap(),
    ];
    let schemes = weights.map(|weights| {
        let model = open(&folder, LoadOptions { weights, ..LoadOptions::default() });
        assert!(model.bytes_read(1) > 0);
        model.complete("Hello").unwrap();
        model.scheme().to_owned()
    });
    assert_eq!(schemes, ["f32", "bf16", "int8", "*.down_proj=int8,*=int4"]);
}

#[test]
fn options_that_cannot_be_are_refused_before_the_weights_are_read() {
    let folder = folder(6);
    // Whoever reads the weights finds that there are none.
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    std::fs::write(&weights, &bytes[..header]).unwrap();
    let refused = |options: LoadOptions| Model::open(folder.path(), options).unwrap_err();
    let base = LoadOptions::default;
    let option = |error: Error| match error {
        Error::Option { option, .. } => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(option(refused(LoadOptions { max_context: Some(1), ..base() })), "max_context");
    assert_eq!(option(refused(LoadOptions { kv_budget: Some(0), ..base() })), "kv_budget");
    for keep in [0.0, -1.0, 1.5, f64::NAN] {
        let sparsity = Sparsity::PromptNeurons(keep);
        assert_eq!(option(refused(LoadOptions { sparsity, ..base() })), "sparsity");
    }
    let nowhere = Some(folder.path().join("nowhere"));
    assert_eq!(option(refused(LoadOptions { adapters: nowhere, ..base() })), "adapters");
    for device in [Device::Wgpu, Device::Cuda] {
        let error = refused(LoadOptions { device, ..base() });
        if let Error::BackendNotBuilt { device: named } = error {
            assert_eq!(named, device.name());
        }
    }
}

#[test]
fn policies_and_conversions_must_fit_the_model() {
    let folder = folder(7);
    let policy = Weights::policy("model.layers.99.*=int8").unwrap();
    let error = Model::open(folder.path(), LoadOptions { weights: policy, ..Default::default() });
    assert!(matches!(error, Err(Error::Policy(_))), "{error:?}");
    assert!(matches!(Weights::scheme("int9"), Err(Error::Scheme(_))));
    assert!(matches!(Weights::policy("[=int8"), Err(Error::Policy(_))));
    let model = open(&folder, LoadOptions::default());
    let packed = folder.path().join("packed");
    model.quantize(&packed, &lightglm::quantize::QuantizeOptions::default()).unwrap();
    let again = LoadOptions { weights: Weights::scheme("int4").unwrap(), ..Default::default() };
    let error = Model::open(&packed, again).unwrap_err();
    assert!(matches!(&error, Error::AlreadyQuantized { file } if *file == packed), "{error:?}");
    let dtype = LoadOptions { weights: Weights::Dtype(WeightDtype::F32), ..Default::default() };
    assert!(matches!(Model::open(&packed, dtype), Err(Error::AlreadyQuantized { .. })));
    assert_eq!(Model::open(&packed, LoadOptions::default()).unwrap().scheme(), "int8");
}

#[test]
fn adapters_are_found_by_ordinary_names_alone() {
    let folder = folder(8);
    let model = open(&folder, LoadOptions::default());
    assert!(matches!(model.with_adapter("x"), Err(Error::Adapter { .. })));
    let adapters = tempfile::tempdir().unwrap();
    let options = LoadOptions { adapters: Some(adapters.path().to_owned()), ..Default::default() };
    let model = open(&folder, options);
    for name in ["..", "a/b", "", "/etc", "./a"] {
        assert!(matches!(model.with_adapter(name), Err(Error::Adapter { .. })), "{name}");
    }
    assert!(matches!(model.with_adapter("missing"), Err(Error::Peft(_))));
}

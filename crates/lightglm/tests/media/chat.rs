//! A conversation with pictures and recordings in it.

use lightglm::{Error, LoadOptions, Message, Model, Pcm, SamplingParams, Weights, user};

use crate::models::{model, picture, wav};

fn greedy() -> SamplingParams {
    SamplingParams {
        temperature: 0.0,
        max_tokens: 8,
        ignore_eos: true,
        ..SamplingParams::default()
    }
}

#[test]
fn a_second_question_about_a_picture_encodes_nothing() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let store = model.media().unwrap();
    let mut chat = model.chat().with_sampling(greedy());
    let first = user().medium(picture(64, 48, 1)).text("What is this?");
    let first = chat.say(first).unwrap().finish().unwrap();
    assert_eq!(store.stats().encoded, 1);
    let second = chat.ask("And why?").unwrap().finish().unwrap();
    assert_eq!(store.stats().encoded, 1);
    // Only what is new of the conversation was run: no row of the picture.
    assert!(second.speed.prompt_tokens < first.speed.prompt_tokens);
    // The same as in a conversation that begins with all of it.
    let mut again = model.chat().with_sampling(greedy());
    let turn = user().medium(picture(64, 48, 1)).text("What is this?");
    again.say(turn).unwrap().finish().unwrap();
    let repeated = again.ask("And why?").unwrap().finish().unwrap();
    assert_eq!(repeated.token_ids, second.token_ids);
    // Another picture of the same size is another prompt.
    let mut other = model.chat().with_sampling(greedy());
    let turn = user().medium(picture(64, 48, 2)).text("What is this?");
    let other = other.say(turn).unwrap().finish().unwrap();
    assert_eq!(store.stats().encoded, 2);
    assert_ne!(other.prompt_token_ids, first.prompt_token_ids);
    // To ask again forgets the picture with the question.
    assert_eq!(chat.take_last_question().as_deref(), Some("And why?"));
    assert_eq!(chat.history().len(), 2);
}

#[test]
fn what_is_typed_is_no_picture() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let mut chat = model.chat().with_sampling(greedy());
    let typed = "<|begin_of_image|><|image|><|end_of_image|> what is this?";
    let reply = chat.ask(typed).unwrap().finish().unwrap();
    let vocab_size = model.config().vocab_size as u32;
    let image = 316;
    assert!(reply.prompt_token_ids.iter().all(|&id| id < vocab_size && id != image));
    let turn = user().text(typed).medium(picture(32, 32, 1)).text("<|image|>");
    let reply = chat.say(turn).unwrap().finish().unwrap();
    assert!(!reply.prompt_token_ids.contains(&image));
    // A picture that the template writes no place for: it is told, and the conversation is as it was.
    let lost = lightglm::Turn {
        message: Message::user("no part for it"),
        media: vec![std::sync::Arc::new(lightglm::IntoMedium::into_medium(picture(8, 8, 1)))],
    };
    let held = chat.history().len();
    assert!(matches!(chat.say(lost), Err(Error::MediaPlaces(_))));
    assert_eq!(chat.history().len(), held);
}

#[test]
fn a_model_of_text_takes_none_and_a_model_of_pictures_no_recording() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let tone = Pcm::new(vec![0.1; 16_000], 16_000).unwrap();
    let heard = model.chat().say(user().medium(tone.clone()).text("hm?")).map(|_| ());
    assert!(matches!(heard, Err(Error::Media(_))));
    assert!(matches!(model.transcribe(&tone), Err(Error::Media(_))));
    let garbage = model.chat().say(user().image(b"not a picture").text("hm?")).map(|_| ());
    assert!(matches!(garbage, Err(Error::MediaFile(_))));
    let text = Model::open(lightglm::DEFAULT_MODEL, LoadOptions::default()).unwrap();
    let turn = user().medium(picture(8, 8, 1)).text("hm?");
    let seen = text.chat().say(turn).map(|_| ());
    assert!(matches!(seen, Err(Error::NoMedia { .. })));
}

#[test]
fn int8_is_close_and_its_rows_are_used() {
    let Some((_folder, model)) = model("glm4v", LoadOptions::default()) else { return };
    let int8 = LoadOptions { weights: Weights::scheme("int8").unwrap(), ..LoadOptions::default() };
    let Some((_other, packed)) = crate::models::model("glm4v", int8) else { return };
    let picture = lightglm::IntoMedium::into_medium(picture(64, 48, 3));
    let rows = |model: &Model| {
        let store = model.media().unwrap();
        let contents =
            store.contents(&[picture.input()], &mut || std::ops::ControlFlow::Continue(()));
        contents.unwrap().remove(0).rows
    };
    let (exact, rounded) = (rows(&model), rows(&packed));
    let norm = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let difference: Vec<f32> = exact.iter().zip(&*rounded).map(|(a, b)| a - b).collect();
    let error = norm(&difference) / norm(&exact);
    assert!(error > 0.0 && error < 0.05, "{error}");
    let mut chat = packed.chat().with_sampling(greedy());
    let reply = chat.say(user().medium(crate::models::picture(64, 48, 3)).text("?"));
    assert_eq!(reply.unwrap().finish().unwrap().token_ids.len(), 8);
}

#[test]
fn a_recording_is_transcribed_in_pieces() {
    let Some((_folder, model)) = model("glmasr", LoadOptions::default()) else { return };
    let tone = Pcm::decode(&wav(1.3, 8000), &lightglm::MediaLimits::default()).unwrap();
    let text = model.transcribe(&tone).unwrap();
    assert_eq!(text.segments.len(), 1);
    assert!((text.seconds - 1.3).abs() < 1e-3 && text.segments[0].end == text.seconds);
    // The same every time, however the model samples else.
    assert_eq!(model.transcribe(&tone).unwrap(), text);
    let long = Pcm::decode(&wav(70.0, 8000), &lightglm::MediaLimits::default()).unwrap();
    let mut heard = Vec::new();
    let text = model.transcribe_with(&long, "words?", &mut |segment| heard.push(segment.clone()));
    let text = text.unwrap();
    assert!(text.segments.len() >= 3 && heard == text.segments);
    assert!(text.segments.windows(2).all(|two| two[0].end == two[1].start));
}

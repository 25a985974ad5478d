//! Several prompts at once: a step reads every weight once for all of them.
//!
//! ```text
//! cargo run --release --example batch
//! ```

use std::time::Instant;

use lightglm::{DEFAULT_MODEL, LoadOptions, Model, Request, SamplingParams};

/// What the answers are taken from.
const SHOP: &str = "A parcel takes 3 to 5 days. Lamps have a warranty of 3 years.";
const SHOP_ZH: &str = "包裹需要3到5天送达。订单可以在30天内退货。";

fn main() -> Result<(), lightglm::Error> {
    let model = Model::open(DEFAULT_MODEL, LoadOptions::default())?;

    // Each request may have its own sampling; each gets the tokens that it would get alone.
    let short = SamplingParams { max_tokens: 32, ..model.sampling().clone() };
    let questions = [
        "What warranty do lamps have?",
        "How long may a parcel take?",
        "退货期限是多少天？",
        "Who pays for the return?",
    ];
    let requests = questions.map(|question| {
        let text = if question.is_ascii() { SHOP } else { SHOP_ZH };
        Request::ask(format!("{text}\n\n{question}")).with_sampling(short.clone())
    });

    let started = Instant::now();
    let replies = model.batch(requests)?;
    let seconds = started.elapsed().as_secs_f64();

    // What is wrong with one request is that request's own error; the others have their answers.
    let mut tokens = 0;
    for (question, reply) in questions.iter().zip(replies) {
        match reply {
            Ok(reply) => {
                tokens += reply.token_ids.len();
                println!("{question}\n  {}\n", reply.text.trim());
            }
            Err(error) => println!("{question}\n  error: {error}\n"),
        }
    }
    eprintln!("{tokens} tokens in {seconds:.1} s, {:.0} tokens a second", tokens as f64 / seconds);

    // The same model as a judge: which of some answers does it find likeliest?
    let labels = [" yes", " no"];
    let scores = model.score("Is a day longer than an hour? Answer:", &labels)?;
    for (label, score) in labels.iter().zip(scores) {
        eprintln!("ln p({label:?}) = {score:.2}");
    }
    Ok(())
}

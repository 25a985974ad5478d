//! The shortest useful program: a model, a conversation, an answer as it comes.
//!
//! ```text
//! cargo run --release --example first_answer
//! ```

use std::io::Write;

use lightglm::{DEFAULT_MODEL, LoadOptions, Model};

/// What the answers are taken from.
const SHOP: &str = "Orders can be sent back within 30 days, and the return label lies in the parcel. \
     The store is open from Monday to Saturday, from 9:30 to 18:00. All lamps have a warranty of 3 years.";

fn main() -> Result<(), lightglm::Error> {
    // A folder, a `.gguf` file, or a name on a hub; the default model is compiled in, and answers from a
    // text that it is given.
    let model = Model::open(DEFAULT_MODEL, LoadOptions::default())?;

    // A chat remembers what was said. An answer is an iterator: print each piece as it comes ...
    let mut chat = model.chat();
    chat.set_context(Some(SHOP.to_owned()));
    for piece in chat.ask("How do I return an order?")? {
        print!("{}", piece?);
        let _ = std::io::stdout().flush();
    }
    println!();

    // ... or run it to its end. Of the second question only what is new is computed.
    let reply = chat.ask("When is the store open?")?.finish()?;
    println!("{}", reply.text);
    eprintln!(
        "{} of {} prompt tokens were new, {:.0} tokens a second",
        reply.speed.prompt_tokens,
        reply.prompt_token_ids.len(),
        reply.token_ids.len() as f64 / reply.speed.decode_seconds.max(1e-9)
    );
    Ok(())
}

//! The shortest useful program: a model, a conversation, an answer as it comes.
//!
//! ```text
//! cargo run --release --example first_answer
//! ```

use std::io::Write;

use lightglm::{DEFAULT_MODEL, LoadOptions, Model, Weights};

fn main() -> Result<(), lightglm::Error> {
    // A folder, a `.gguf` file, or a name on a hub; the default model is small and is fetched once.
    // Held as 8-bit codes it needs a quarter of the memory of f32 and answers faster.
    let options = LoadOptions { weights: Weights::scheme("int8")?, ..LoadOptions::default() };
    let model = Model::open(DEFAULT_MODEL, options)?;

    // A chat remembers what was said. An answer is an iterator: print each piece as it comes ...
    let mut chat = model.chat().with_system("You answer in one short sentence.");
    for piece in chat.ask("How do I return an order?")? {
        print!("{}", piece?);
        let _ = std::io::stdout().flush();
    }
    println!();

    // ... or run it to its end. Of the second question only what is new is computed.
    let reply = chat.ask("And without the receipt?")?.finish()?;
    println!("{}", reply.text);
    eprintln!(
        "{} of {} prompt tokens were new, {:.0} tokens a second",
        reply.speed.prompt_tokens,
        reply.prompt_token_ids.len(),
        reply.token_ids.len() as f64 / reply.speed.decode_seconds.max(1e-9)
    );
    Ok(())
}

//! Text in and out: tokenizer, chat template, tool calls, streaming detokenization.

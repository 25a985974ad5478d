//! The text that such a model learns from: conversations about a short context, made by these programs from
//! facts that were written by hand.
//!
//! A context is some sentences; a question is answered by the sentence of the context that tells, word for word, or by
//! [`Language::refusal`] where none does. Four makers, each seeded, so that the same seed makes the same rows:
//!
//! | maker | a context of | a question of |
//! |---|---|---|
//! | [`FactConversations`] | facts of a domain with their slots filled, paraphrased | other words for one of them |
//! | [`PassageConversations`] | sentences of any text | words that only one of them has |
//! | [`LookupConversations`] | keys and values | a key |
//! | [`WordSentences`] | sentences of words in no order | a word or two of one |
//!
//! Whole domains ([`HELD_BACK_DOMAINS`]) and the last question of every fact are held back ([`Part`]): what is learnt is
//! measured on subjects and on wordings that were never seen.

mod conversation;
mod fact_conversations;
mod facts;
mod greetings;
mod language;
mod lookups;
mod passages;
mod questions;
mod random;
mod values;
mod word_sentences;
mod words;

pub use conversation::{CorpusConversation, Exchange};
pub use fact_conversations::{FactConversations, FactSettings, HELD_BACK_DOMAINS, Part};
pub use facts::{Domain, Fact, FactsError, Wording, read_domain, read_domains};
pub use language::Language;
pub use lookups::LookupConversations;
pub use passages::PassageConversations;
pub use random::Random;
pub use word_sentences::{WordSentences, WordSettings};

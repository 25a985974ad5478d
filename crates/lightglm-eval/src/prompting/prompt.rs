//! `Prompt`, and `PromptText`: the way from prompts to token ids and from token ids to replies.

/// What a model is asked: an instruction, solved examples, and the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What to do; empty where the examples say it.
    pub instruction: String,
    /// Solved examples.
    pub shots: Vec<Shot>,
    /// The question.
    pub question: String,
    /// What stands in front of an answer where there are no turns that say whose text it is
    /// (`Answer:`).
    pub cue: &'static str,
}

/// A solved example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    /// The question, as in [`Prompt::question`].
    pub question: String,
    /// The wanted answer.
    pub answer: String,
}

impl Prompt {
    /// The prompt as one text to be continued, for models that know no turns.
    ///
    /// ```
    /// use lightglm_eval::prompting::{Prompt, Shot};
    ///
    /// let shot = Shot { question: "1 + 1".into(), answer: "2".into() };
    /// let (instruction, question) = ("Add.".into(), "2 + 2".into());
    /// let prompt = Prompt { instruction, shots: vec![shot], question, cue: "Answer:" };
    /// assert_eq!(prompt.plain(), "Add.\n\n1 + 1\nAnswer: 2\n\n2 + 2\nAnswer:");
    /// ```
    pub fn plain(&self) -> String {
        let Self { instruction, shots, question, cue } = self;
        let mut text = String::new();
        if !instruction.is_empty() {
            text = format!("{instruction}\n\n");
        }
        for shot in shots {
            text += &format!("{}\n{cue} {}\n\n", shot.question, shot.answer);
        }
        text + question + "\n" + cue
    }
}

/// Why a [`PromptText`] failed.
pub type TextFailure = Box<dyn std::error::Error + Send + Sync>;

/// Prompts to token ids, token ids to text. A chat template, or none, is the implementor's affair.
pub trait PromptText {
    /// The ids of the whole prompt, up to where the answer begins.
    ///
    /// # Errors
    /// Whatever the tokenizer or the template says.
    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TextFailure>;

    /// The ids of an answer behind such a prompt, white space that belongs between them included.
    ///
    /// # Errors
    /// Whatever the tokenizer says.
    fn encode_answer(&self, answer: &str) -> Result<Vec<u32>, TextFailure>;

    /// The text of a reply.
    fn decode(&self, ids: &[u32]) -> String;
}

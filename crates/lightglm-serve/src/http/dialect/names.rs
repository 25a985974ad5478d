//! `Names`: what a chat's fields are called in a dialect.

use crate::engine::Rejection;
use crate::http::error::ApiError;

/// Places in a chat's request, and where what stands there came from.
#[derive(Default)]
pub(in crate::http) struct Names(Vec<(String, String)>);

impl Names {
    /// What stands at `chat` in the chat's request was at `dialect`.
    pub(in crate::http) fn add(&mut self, chat: impl Into<String>, dialect: impl Into<String>) {
        self.0.push((chat.into(), dialect.into()));
    }

    /// A place by its name in the dialect: that of the longest beginning of it that is known.
    fn of(&self, place: &str) -> String {
        let begins = |chat: &String| {
            let rest = place.strip_prefix(chat.as_str());
            rest.filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let known = self.0.iter().filter_map(|(chat, dialect)| {
            begins(chat).map(|rest| (chat.len(), format!("{dialect}{rest}")))
        });
        // The last of those that are equally long: it was added for a reason.
        known.max_by_key(|(length, _)| *length).map_or_else(|| place.to_owned(), |(_, name)| name)
    }

    /// The words of a sentence that are fields, by their names in the dialect.
    fn in_words(&self, reason: &str) -> String {
        let word = |word: &str| match self.0.iter().any(|(chat, _)| chat == word) {
            true => self.of(word),
            false => word.to_owned(),
        };
        reason.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    /// The error with the dialect's names.
    pub(in crate::http) fn rename(&self, error: ApiError) -> ApiError {
        match error {
            ApiError::Field { param, reason } => {
                ApiError::Field { param: self.of(&param), reason: self.in_words(&reason) }
            }
            ApiError::Unsupported { param, reason } => {
                ApiError::Unsupported { param: self.of(&param), reason }
            }
            ApiError::Rejected {
                rejection:
                    rejection @ (Rejection::EmptyPrompt
                    | Rejection::PromptTooLong { .. }
                    | Rejection::UnknownToken { .. }),
                prompt_param,
            } => {
                let known = ["input", "messages", "prompt"];
                let name = self.of(prompt_param);
                let prompt_param = known.into_iter().find(|it| *it == name).unwrap_or(prompt_param);
                ApiError::Rejected { rejection, prompt_param }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_known_beginning_names_a_place() {
        let mut names = Names::default();
        names.add("messages", "input");
        names.add("messages[1]", "input[3]");
        names.add("messages[1].content", "input[3].output");
        names.add("max_tokens", "max_output_tokens");
        let of = |place: &str| names.of(place);
        assert_eq!(of("messages"), "input");
        assert_eq!(of("messages[1].content[2]"), "input[3].output[2]");
        assert_eq!(of("messages[1].role"), "input[3].role");
        assert_eq!(of("messages[11].role"), "input[11].role");
        assert_eq!(of("max_tokens_x"), "max_tokens_x");
        assert_eq!(names.in_words("beside max_tokens, no"), "beside max_tokens, no");
        assert_eq!(names.in_words("beside max_tokens no"), "beside max_output_tokens no");
    }
}

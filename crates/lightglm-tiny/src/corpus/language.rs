//! `Language`.

/// English or Chinese.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// English.
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    /// Both.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// What is answered where the context does not tell.
    pub fn refusal(self) -> &'static str {
        match self {
            Self::English => "Sorry, the text does not say.",
            Self::Chinese => "抱歉，文中没有提到。",
        }
    }

    /// What is answered where there is no text to answer from.
    pub fn no_context(self) -> &'static str {
        match self {
            Self::English => "I can only answer from a text. Please give me one.",
            Self::Chinese => "我只能根据文字来回答，请先给我一段文字。",
        }
    }

    /// What stands between two sentences.
    pub(super) fn space(self) -> &'static str {
        match self {
            Self::English => " ",
            Self::Chinese => "",
        }
    }

    /// What ends a sentence.
    pub(super) fn full_stop(self) -> &'static str {
        match self {
            Self::English => ".",
            Self::Chinese => "。",
        }
    }

    /// Its name in fact files.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }
}

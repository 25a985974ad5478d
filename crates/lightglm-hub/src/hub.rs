//! Which hub.

/// A place that keeps model repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hub {
    /// The Hugging Face hub, or a mirror of it.
    #[default]
    HuggingFace,
    /// ModelScope's hub.
    ModelScope,
}

impl Hub {
    /// The branch that is meant where a name has no revision.
    pub fn default_branch(self) -> &'static str {
        match self {
            Self::HuggingFace => "main",
            Self::ModelScope => "master",
        }
    }

    /// The variable that holds the hub's address.
    pub(crate) fn endpoint_variable(self) -> &'static str {
        match self {
            Self::HuggingFace => "HF_ENDPOINT",
            Self::ModelScope => "MODELSCOPE_ENDPOINT",
        }
    }

    /// The variable that holds the access token.
    pub(crate) fn token_variable(self) -> &'static str {
        match self {
            Self::HuggingFace => "HF_TOKEN",
            Self::ModelScope => "MODELSCOPE_API_TOKEN",
        }
    }

    /// How a token is given to the programs of this hub.
    pub(crate) fn login(self) -> &'static str {
        match self {
            Self::HuggingFace => "set HF_TOKEN, or run `hf auth login`",
            Self::ModelScope => "set MODELSCOPE_API_TOKEN",
        }
    }

    /// A model's page, below the hub's address.
    pub(crate) fn page(self, repository: &str) -> String {
        match self {
            Self::HuggingFace => repository.to_owned(),
            Self::ModelScope => format!("models/{repository}"),
        }
    }

    /// What switches downloads from this hub off.
    pub(crate) fn offline_switch(self) -> &'static str {
        match self {
            Self::HuggingFace => "`offline`, LIGHTGLM_OFFLINE or HF_HUB_OFFLINE",
            Self::ModelScope => "`offline` or LIGHTGLM_OFFLINE",
        }
    }
}

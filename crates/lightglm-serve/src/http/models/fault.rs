//! Why a model is not there: `ModelsError` at the start of a server, `ModelFault` for a request.

use std::fmt;

use super::repository::ModelBytes;

/// Why a server of several models does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelsError {
    /// There is none.
    #[error("there are no models")]
    None,
    /// A name or an alias is empty.
    #[error("model {index} has an empty name or alias")]
    EmptyName {
        /// Which one.
        index: usize,
    },
    /// Two models have one name.
    #[error("the name or alias `{name}` is given twice")]
    SameName {
        /// The name.
        name: String,
    },
    /// The model for requests that name none is none of the models.
    #[error("the model for requests that name none, `{name}`, is none of the models")]
    Default {
        /// Its name.
        name: String,
    },
    /// A model that is to be loaded at the start cannot be.
    #[error("model `{model}`: {reason}")]
    Load {
        /// The model.
        model: String,
        /// The repository's words.
        reason: String,
    },
    /// A model that is to be loaded at the start does not fit.
    #[error("{0}")]
    Memory(MemoryShortage),
}

/// A model that does not fit beside the others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryShortage {
    /// The model.
    pub model: String,
    /// What it needs.
    pub needs: ModelBytes,
    /// What there is for models, in bytes.
    pub budget: u64,
    /// What models take of it that stay, or that answer requests right now.
    pub taken: u64,
    /// What those of them take that stay in any case.
    pub kept: u64,
    /// How many models `taken` is of.
    pub models: usize,
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, needs, budget, taken, models, .. } = self;
        write!(
            f,
            "the model `{model}` needs {}, {} of weights and {} of keys and values; models may take {}",
            Size(needs.total()),
            Size(needs.weights),
            Size(needs.kv_cache),
            Size(*budget)
        )?;
        match models {
            0 => Ok(()),
            1 => write!(f, ", of which one that is in use takes {}", Size(*taken)),
            more => write!(f, ", of which {more} that are in use take {}", Size(*taken)),
        }
    }
}

/// Bytes, as people read them.
pub(in crate::http) struct Size(pub(in crate::http) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = (1 << 20) as f64;
        match self.0 as f64 / MIB {
            mib if mib >= 1024.0 => write!(f, "{:.2} GiB", mib / 1024.0),
            mib if mib >= 10.0 => write!(f, "{mib:.0} MiB"),
            mib => write!(f, "{mib:.2} MiB"),
        }
    }
}

/// Why a request's model is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::http) enum ModelFault {
    /// It cannot be loaded: the log says why.
    #[error("The model `{model}` cannot be loaded; the server's log says why")]
    Load { model: String, reason: String },
    /// It does not fit, now or ever.
    #[error("{}", uppercase(&.0.to_string()))]
    Memory(MemoryShortage),
}

impl ModelFault {
    /// Whether it may be there once others are not in use any more.
    pub(in crate::http) fn may_pass(&self) -> bool {
        let Self::Memory(shortage) = self else { return false };
        shortage.kept.saturating_add(shortage.needs.total()) <= shortage.budget
    }
}

fn uppercase(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    first + chars.as_str()
}

impl From<ModelFault> for ModelsError {
    fn from(fault: ModelFault) -> Self {
        match fault {
            ModelFault::Load { model, reason } => Self::Load { model, reason },
            ModelFault::Memory(shortage) => Self::Memory(shortage),
        }
    }
}

//! `Wanted`: the sizes that a student is to have.

use super::{StudentError, StudentShape};

/// The sizes that a student is to have; what is `None` stays the teacher's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Decoder blocks.
    pub num_hidden_layers: Option<usize>,
    /// Width of the residual stream.
    pub hidden_size: Option<usize>,
    /// Neurons of each feed-forward part.
    pub intermediate_size: Option<usize>,
    /// Query heads; each key and value head keeps as many of them.
    pub num_attention_heads: Option<usize>,
    /// Key and value heads, kept with the query heads that share them.
    pub num_key_value_heads: Option<usize>,
}

impl Wanted {
    /// The shape of a student of `teacher` with these sizes.
    ///
    /// Where key and value heads are wanted and query heads are not, those that are kept keep all of theirs.
    ///
    /// # Errors
    /// [`StudentError::Count`] for more than there are, or none; [`StudentError::HeadGroups`].
    pub fn shape(&self, teacher: &StudentShape) -> Result<StudentShape, StudentError> {
        let num_key_value_heads =
            count("num_key_value_heads", self.num_key_value_heads, teacher.num_key_value_heads)?;
        let all_of_them = num_key_value_heads * teacher.heads_per_group();
        let wanted = self.num_attention_heads.or(Some(all_of_them));
        let heads = count("num_attention_heads", wanted, teacher.num_attention_heads)?;
        let largest_group = teacher.heads_per_group();
        if heads % num_key_value_heads != 0 || heads / num_key_value_heads > largest_group {
            let key_value_heads = num_key_value_heads;
            return Err(StudentError::HeadGroups { heads, key_value_heads, largest_group });
        }
        Ok(StudentShape {
            num_hidden_layers: count(
                "num_hidden_layers",
                self.num_hidden_layers,
                teacher.num_hidden_layers,
            )?,
            hidden_size: count("hidden_size", self.hidden_size, teacher.hidden_size)?,
            intermediate_size: count(
                "intermediate_size",
                self.intermediate_size,
                teacher.intermediate_size,
            )?,
            num_attention_heads: heads,
            num_key_value_heads,
            ..*teacher
        })
    }
}

fn count(
    what: &'static str,
    wanted: Option<usize>,
    available: usize,
) -> Result<usize, StudentError> {
    match wanted.unwrap_or(available) {
        wanted if wanted == 0 || wanted > available => {
            Err(StudentError::Count { what, wanted, available })
        }
        wanted => Ok(wanted),
    }
}

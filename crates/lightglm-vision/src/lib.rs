//! Towers that turn pictures into rows of a GLM decoder: those of GLM-4.1V and GLM-4.6V-Flash (`glm4v`, `glm46v`), and of
//! GLM-OCR (`glm_ocr`), which are one tower with other parts.
//!
//! **Should I use this crate?** To run a model that sees, start at `lightglm`. Take this crate to run a tower alone, to
//! replace its projections ([`VisionTower::map_linears`]: INT8, adapters), or to train one.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::path::Path;
//!
//! use burn_flex::{Flex, FlexDevice};
//! use lightglm_core::{MediaEncoder, MediaInput};
//! use lightglm_media::{MediaLimits, Picture};
//! use lightglm_model::checkpoint::Checkpoint;
//! use lightglm_model::decoder::LoadPrecision;
//! use lightglm_vision::VisionEncoder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = Checkpoint::open(Path::new("GLM-OCR"))?;
//! let encoder = VisionEncoder::<Flex, _>::load(&checkpoint, LoadPrecision::Stored, &FlexDevice)?;
//! let picture = Picture::decode(&std::fs::read("page.png")?, &MediaLimits::default())?;
//! let (height, width, rgb) = (picture.height(), picture.width(), picture.rgb());
//! let rows = encoder.encode(
//!     &MediaInput::Picture { height, width, rgb },
//!     &mut || ControlFlow::Continue(()),
//! )?;
//! # Ok(())
//! # }
//! ```

mod encoder;
mod load;
mod position_table;
mod tower;
mod weights;

pub use encoder::VisionEncoder;
pub use tower::{DenseTower, Merger, Site, TowerBlock, VisionAttention, VisionTower};
pub use weights::tower_weights;

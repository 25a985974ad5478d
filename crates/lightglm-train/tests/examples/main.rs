//! From files to examples: one program, as each costs half a minute to build.

mod bad_rows;
#[cfg(feature = "parquet")]
mod columnar;
mod fuzz;
mod order;
mod reading;
mod reading_files;
mod shapes;
#[cfg(feature = "spreadsheets")]
mod spreadsheets;

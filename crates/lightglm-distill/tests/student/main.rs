//! The arithmetic of students, against slow references.

mod choosing;
mod measuring;
mod vocabulary;

//! The arithmetic of students, against slow references.

mod choosing;
mod knapsack;
mod measuring;
mod vocabulary;

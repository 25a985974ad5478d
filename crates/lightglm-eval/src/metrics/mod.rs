//! The metrics of the question sets, by their official definitions, with confidence intervals.

mod accuracy;
mod cmrc2018;
mod estimate;
mod gsm8k;
mod no_answer;
mod score_error;
mod squad2;
mod word_tokenize;

pub use accuracy::{accuracy, most_likely};
pub use cmrc2018::{cmrc2018, exact_match as cmrc2018_exact_match, f1 as cmrc2018_f1, segment};
pub use estimate::{Estimates, Interval, IntervalMethod, Metric, MetricValue};
pub use gsm8k::{final_answer, gsm8k};
pub use no_answer::NoAnswer;
pub use score_error::{Missing, ScoreError};
pub use squad2::{exact as squad2_exact, f1 as squad2_f1, normalize, squad2};
pub use word_tokenize::word_tokenize;

//! Generation: sampling, stopping, streaming.

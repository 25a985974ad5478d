//! `LogArgs`: what the log looks like.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, Result};
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// What the log looks like.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// How lines are written to stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Put the prompts into the lines of requests.
    #[arg(long)]
    pub log_prompts: bool,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object.
    Json,
}

impl LogArgs {
    /// Writes the log to stderr from now on; `LIGHTGLM_LOG` filters it as `RUST_LOG` would.
    ///
    /// # Errors
    /// Where the filter is none.
    pub fn init(&self) -> Result<()> {
        let filter = match std::env::var("LIGHTGLM_LOG") {
            Ok(filter) => EnvFilter::try_new(filter).context("LIGHTGLM_LOG")?,
            Err(_) => "info".into(),
        };
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
        match self.log_format {
            LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
            LogFormat::Json => {
                log.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
            }
        }
        Ok(())
    }
}

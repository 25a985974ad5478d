//! `ProgramArgs`: everything that `serve` is told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use lightglm::ServerOptions;

use crate::key_args::KeyArgs;
use crate::limit_args::LimitArgs;
use crate::listen_args::ListenArgs;
use crate::log_args::LogArgs;
use crate::serve_args::ServeArgs;

/// Everything that `serve` is told.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "serve",
    about = "Serve a model over HTTP",
    after_help = "Dense weights are held as int8 unless --scheme, --policy or --dtype says otherwise; a GGUF \
                  file's blocks and folders that `quantize` wrote are served as they are stored."
)]
pub struct ProgramArgs {
    /// A TOML file of settings: the long options without their dashes, `true` for those without a value, lists
    /// for those that may be given several times. The command line overrides it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which model is served, and how.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// TLS, a port for probes, names.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Let pages of this origin call the server from a browser (may be given several times).
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    pub cors_origins: Vec<String>,
    /// Seconds that running requests get once the server is told to end.
    #[arg(long, default_value_t = 60)]
    pub drain_seconds: u64,
    /// Seconds for which /ready says no before the server stops to listen: what a load balancer needs
    /// to notice.
    #[arg(long, default_value_t = 0)]
    pub notice_seconds: u64,
    /// Serve nothing: with --config say whether all settings are good, otherwise ask the server that listens
    /// on --host and --port, or --admin-port, whether it lives.
    #[arg(long)]
    pub check: bool,
    /// Who may use the server.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// What the log looks like.
    #[command(flatten)]
    pub log: LogArgs,
    /// How much a client may ask.
    #[command(flatten)]
    pub limits: LimitArgs,
}

impl ProgramArgs {
    /// The server's options as the library takes them, checked as far as that goes without a model.
    ///
    /// # Errors
    /// Where an option or a file that it names is wrong, and where other machines could use a server without a
    /// key by mistake.
    pub fn options(&self) -> Result<ServerOptions> {
        let mut options = ServerOptions {
            cors_origins: self.cors_origins.clone(),
            allowed_hosts: self.listen.allowed_hosts.clone(),
            limits: self.limits.limits(),
            log_prompts: self.log.log_prompts,
            drain_timeout: Duration::from_secs(self.drain_seconds),
            drain_notice: Duration::from_secs(self.notice_seconds),
            ..self.serve.options()
        };
        self.keys.apply(&mut options)?;
        let keyless = options.api_keys.is_empty() && options.tenants.is_empty();
        let admin_host =
            self.listen.admin_port.map(|_| self.listen.admin_host.unwrap_or(self.host));
        for (option, host) in [("host", Some(self.host)), ("admin-host", admin_host)] {
            let Some(host) = host else { continue };
            ensure!(
                !keyless || self.keys.without_key || host.is_loopback(),
                "--{option} {host}: other machines can reach this; set --api-key or --keys, or say --without-key"
            );
        }
        options.check()?;
        self.serve.several()?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// One row for each option, with the default that it has.
    #[test]
    fn the_documentation_has_every_option_with_its_default() {
        let documentation = include_str!("../../../docs/serving.md");
        for arg in ProgramArgs::command().get_arguments() {
            let Some(long) = arg.get_long().filter(|long| *long != "help") else { continue };
            let row = documentation
                .lines()
                .find(|line| line.starts_with('|') && line.contains(&format!("`--{long}`")));
            let row = row.unwrap_or_else(|| panic!("docs/serving.md does not have --{long}"));
            let numbers = arg.get_default_values().iter().filter_map(|value| value.to_str());
            let plain = row.replace(',', "");
            for default in numbers.filter(|value| value.parse::<f64>().is_ok()) {
                let words = plain.split(|c: char| !c.is_ascii_digit());
                assert!(words.into_iter().any(|word| word == default), "{default} in {row}");
            }
        }
    }

    #[test]
    fn options_are_checked_before_a_model_is_loaded() {
        let options = |more: &[&str]| {
            ProgramArgs::try_parse_from(["serve"].iter().chain(more)).unwrap().options()
        };
        assert!(options(&[]).is_ok());
        let cases: [(&[&str], &str); 7] = [
            (&["--admin-host", "0.0.0.0", "--admin-port", "9"], "--admin-host"),
            (&["--kv-budget", "512"], "kv_budget"),
            (&["--host", "0.0.0.0"], "--without-key"),
            (&["--max-headers", "0"], "headers"),
            (&["--request-timeout", "0"], "request_timeout"),
            (&["--keys", "/no/such/file"], "/no/such/file"),
            (&["--max-running", "0"], "max_running"),
        ];
        for (arguments, words) in cases {
            let error = options(arguments).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(options(&["--host", "0.0.0.0", "--without-key"]).is_ok());
    }
}

//! Configuration files: the long options of a program as keys of a TOML file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Options that are no settings.
const ACTIONS: [&str; 5] = ["config", "check", "new-key", "help", "version"];

/// The option whose values are secrets.
const SECRET: &str = "api-key";

/// Reads the command line and the file that its `--config` names, whose settings hold where the command line
/// does not say otherwise. Ends the program where the command line is wrong, or asks for help.
///
/// # Errors
/// Where the file is wrong: names file, line and key. Those of `check`, which sees what both say.
pub fn parse<P: Parser>(check: impl FnOnce(&ArgMatches) -> Result<()>) -> Result<P> {
    match parse_from(std::env::args_os().collect(), check) {
        Ok(parsed) => Ok(parsed),
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(error) => error.exit(),
            Err(error) => Err(error),
        },
    }
}

/// As [`parse`], of these arguments, the first of which is the program's name.
///
/// # Errors
/// Those of [`parse`], and [`clap::Error`].
pub fn parse_from<P: Parser>(
    arguments: Vec<OsString>,
    check: impl FnOnce(&ArgMatches) -> Result<()>,
) -> Result<P> {
    let command = P::command();
    let said = match command.clone().try_get_matches_from(&arguments) {
        // What it lacks may stand in the file; all together are looked at below.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            command.clone().ignore_errors(true).try_get_matches_from(&arguments)?
        }
        said => said?,
    };
    let Some(path) = said.get_one::<PathBuf>("config") else {
        let said = command.try_get_matches_from(&arguments)?;
        check(&said)?;
        return Ok(P::from_arg_matches(&said)?);
    };
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| path.display().to_string())?;
    let mut all = vec![arguments[0].clone()];
    let file = File { path, text: &text };
    for Setting { id, arguments } in settings(&command, &file, file.parse()?.get_ref())? {
        // What it excludes is overridden as well.
        let is_said = |id: &str| said.value_source(id) == Some(ValueSource::CommandLine);
        if !is_said(&id) && !excluded(&command, &id).iter().any(|other| is_said(other)) {
            all.extend(arguments);
        }
    }
    all.extend(arguments.into_iter().skip(1));
    let said = command.try_get_matches_from(all)?;
    check(&said)?;
    Ok(P::from_arg_matches(&said)?)
}

/// A TOML file that is read.
pub(crate) struct File<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

impl<'a> File<'a> {
    /// Its path, and the line of a byte.
    pub(crate) fn place(&self, at: usize) -> String {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }

    /// # Errors
    /// Where it is no TOML: names the line.
    pub(crate) fn parse(&self) -> Result<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text).map_err(|error| {
            let place = self.place(error.span().map_or(0, |it| it.start));
            anyhow!("{place}: {}", error.message())
        })
    }
}

/// What cannot be said beside the option `id`.
fn excluded(command: &Command, id: &str) -> Vec<String> {
    let excludes = |one: &Arg| -> Vec<String> {
        let others = command.get_arg_conflicts_with(one).into_iter();
        others.map(|other| other.get_id().to_string()).collect()
    };
    let all = command
        .get_arguments()
        .filter(|one| one.get_id() != id && excludes(one).iter().any(|other| other == id));
    let mut all: Vec<String> = all.map(|one| one.get_id().to_string()).collect();
    all.extend(command.get_arguments().filter(|one| one.get_id() == id).flat_map(excludes));
    all
}

/// A key of a file as an option's arguments.
pub(crate) struct Setting {
    /// What clap calls the option.
    pub(crate) id: String,
    pub(crate) arguments: Vec<OsString>,
}

/// The settings of a table of `file`, as options of `command`.
///
/// # Errors
/// Names the file, the line and the key that is wrong.
pub(crate) fn settings(
    command: &Command,
    file: &File<'_>,
    table: &DeTable<'_>,
) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let read = || -> Result<Setting> {
            if name == SECRET {
                bail!(
                    "keys do not stand here: name their file by api-key-file, or use LIGHTGLM_API_KEYS"
                );
            }
            let known = command.get_arguments().find(|arg| arg.get_long() == Some(name));
            let Some(arg) = known.filter(|_| !ACTIONS.contains(&name)) else {
                bail!("there is no such setting{}", suggestion(command, name));
            };
            let arguments = arguments(arg, name, value)?;
            check(command, &arguments)?;
            Ok(Setting { id: arg.get_id().to_string(), arguments })
        };
        let place = file.place(key.span().start);
        settings.push(read().with_context(|| format!("{place}: {name}"))?);
    }
    Ok(settings)
}

/// The setting that may have been meant.
fn suggestion(command: &Command, name: &str) -> String {
    let plain = |name: &str| name.replace('_', "-").to_lowercase();
    let all = command.get_arguments().filter_map(Arg::get_long);
    let near = all.filter(|long| !ACTIONS.contains(long)).find(|long| *long == plain(name));
    near.map_or_else(String::new, |near| format!("; it is called {near}"))
}

fn arguments(arg: &Arg, name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<OsString>> {
    let option = |value: String| OsString::from(format!("--{name}={value}"));
    match (arg.get_action(), value.get_ref()) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => Ok(vec![format!("--{name}").into()]),
        (ArgAction::SetTrue, DeValue::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, other) => bail!("it is true or false, not {}", kind(other)),
        (ArgAction::Append, DeValue::Array(list)) => {
            list.iter().map(|item| Ok(option(scalar(item.get_ref())?))).collect()
        }
        (_, value) => Ok(vec![option(scalar(value)?)]),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(whole) => {
            let whole = i128::from_str_radix(whole.as_str(), whole.radix());
            Ok(whole.context("it is no whole number")?.to_string())
        }
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        other => bail!("it is a text or a number, not {}", kind(other)),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Whether an option takes its value; what it needs or excludes is seen once all are together.
fn check(command: &Command, arguments: &[OsString]) -> Result<()> {
    let alone = [OsString::from("serve")].into_iter().chain(arguments.iter().cloned());
    let Err(error) = command.clone().try_get_matches_from(alone) else { return Ok(()) };
    match error.kind() {
        ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict => Ok(()),
        _ => {
            let said = error.to_string();
            let first = said.lines().next().unwrap_or_default();
            bail!("{}", first.strip_prefix("error: ").unwrap_or(first))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models_file::check_options;
    use crate::program_args::ProgramArgs;

    fn read(text: &str, more: &[&str]) -> Result<ProgramArgs> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("serve-{}-{count}.toml", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let start = ["serve".into(), "--config".into(), file.clone().into_os_string()];
        let arguments = start.into_iter().chain(more.iter().map(OsString::from)).collect();
        let parsed = parse_from(arguments, check_options);
        std::fs::remove_file(file).unwrap();
        parsed
    }

    #[test]
    fn settings_hold_where_the_command_line_is_silent() {
        let text = "port = 0x1F90\nhost = '0.0.0.0'\nwithout-key = true\nno-speculation = false\n\
                    cors-origin = ['http://a', 'http://b']\nmax-body-bytes = 1_000_000\nscheme = 'int4'\n\
                    max-priority = -0\nrequest-timeout = 30\n";
        let args = read(text, &[]).unwrap();
        assert_eq!((args.port, args.host.to_string()), (8080, "0.0.0.0".into()));
        assert_eq!(args.cors_origins, ["http://a", "http://b"]);
        assert!(args.keys.without_key && !args.serve.no_speculation);
        assert_eq!(args.limits.limits().body_bytes, 1_000_000);
        assert_eq!(args.limits.limits().request_timeout.as_secs(), 30);
        let args = read(text, &["--port", "1", "--cors-origin=http://c"]).unwrap();
        assert_eq!((args.port, args.cors_origins), (1, vec!["http://c".into()]));
        assert_eq!(read("cors-origin = 'http://a'", &[]).unwrap().cors_origins, ["http://a"]);
        // What an option of the command line needs may stand in the file.
        let args = read("admin-port = 9", &["--admin-host", "127.0.0.2"]).unwrap();
        assert_eq!(args.listen.admin_host.unwrap().to_string(), "127.0.0.2");
        assert!(read("port = 1", &["--admin-host", "127.0.0.2"]).is_err());
        // What excludes a setting of the file overrides it.
        for (setting, option) in
            [("scheme = 'int8'", "--dtype=f32"), ("dtype = 'f32'", "--scheme=int4")]
        {
            let model = read(setting, &[option]).unwrap().serve.served.model;
            assert_eq!(model.dtype.is_some(), option.contains("dtype"), "{option}");
            assert_eq!(model.scheme.is_some(), option.contains("scheme"), "{option}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_key() {
        let cases = [
            ("\nprot = 1\n", ":2: prot: there is no such setting"),
            (
                "max_running = 1",
                ":1: max_running: there is no such setting; it is called max-running",
            ),
            ("port = 'x'", ":1: port: invalid value 'x'"),
            ("port = 70000", ":1: port: invalid value '70000'"),
            ("port = true", ":1: port: it is a text or a number, not true or false"),
            ("port = [1]", ":1: port: it is a text or a number, not a list"),
            ("without-key = 'yes'", ":1: without-key: it is true or false, not a text"),
            ("cors-origin = [true]", ":1: cors-origin: it is a text or a number"),
            ("[limits]\nn = 1", ":1: limits: there is no such setting"),
            ("log-format = 'xml'", ":1: log-format: invalid value 'xml'"),
            ("scheme = 'int5'", ":1: scheme: invalid value 'int5'"),
            ("api-key = 'secret'", ":1: api-key: keys do not stand here"),
            ("config = 'x'", ":1: config: there is no such setting"),
            ("check = true", ":1: check: there is no such setting"),
            ("port = 1\nport = 2", ":2: "),
            ("port = = 1", ":1: "),
        ];
        for (text, words) in cases {
            let error = format!("{:#}", read(text, &[]).err().unwrap());
            assert!(error.contains(words), "{error}\n{text}");
            assert!(!error.contains("secret"), "{error}");
        }
        let conflict = read("scheme = 'int8'\ndtype = 'f32'", &[]).err().unwrap();
        assert!(conflict.to_string().contains("--dtype"), "{conflict}");
    }
}

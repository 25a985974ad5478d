//! Several models: a folder of them, or a file that has a table for each.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser};
use lightglm::ServedModel;
use toml::de::DeValue;

use crate::config_file::{File, settings};
use crate::served_args::ServedArgs;

/// A model's table: the options that concern one model, without their dashes.
#[derive(Clone, Debug, Parser)]
#[command(name = "model")]
struct ModelTable {
    #[command(flatten)]
    served: ServedArgs,
    /// Load it at the start, and keep it.
    #[arg(long)]
    keep: bool,
}

/// The models of a folder, as `args` say for each, or those of a file.
///
/// # Errors
/// Names the file, the line and the key that is wrong.
pub fn served_models(path: &Path, args: &ServedArgs) -> Result<Vec<ServedModel>> {
    let models = match path.is_dir() {
        true => models_of_folder(path, args),
        false => models_of_file(path),
    };
    let models = models.with_context(|| format!("--models {}", path.display()))?;
    for model in &models {
        model.check().with_context(|| format!("the model `{}`", model.name))?;
    }
    Ok(models)
}

/// Folders with a `config.json` and `.gguf` files, by their names.
fn models_of_folder(folder: &Path, args: &ServedArgs) -> Result<Vec<ServedModel>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_gguf = path.extension().is_some_and(|extension| extension == "gguf");
        if path.join("config.json").is_file() || (is_gguf && path.is_file()) {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "it has no models: folders with a config.json, or .gguf files");
    let models = paths.into_iter().map(|path| {
        let model = path.to_str().with_context(|| format!("{}: no UTF-8", path.display()))?;
        let mut args = args.clone();
        args.model.model = Some(model.to_owned());
        args.model_name = None;
        Ok(args.served())
    });
    models.collect()
}

fn models_of_file(path: &Path) -> Result<Vec<ServedModel>> {
    let text = std::fs::read_to_string(path)?;
    let file = File { path, text: &text };
    let document = file.parse()?;
    let mut models = Vec::new();
    for (key, value) in document.get_ref() {
        let (name, place) = (key.get_ref(), file.place(key.span().start));
        ensure!(name == "model", "{place}: {name}: a table [[model]] is all that stands here");
        let DeValue::Array(tables) = value.get_ref() else {
            bail!("{place}: model: it is a list of tables: write [[model]]")
        };
        for table in tables {
            let place = file.place(table.span().start);
            let DeValue::Table(table) = table.get_ref() else {
                bail!("{place}: model: it is a list of tables: write [[model]]")
            };
            let command = ModelTable::command();
            let settings = settings(&command, &file, table)?;
            let has = |id: &str| settings.iter().any(|setting| setting.id == id);
            ensure!(has("model"), "{place}: model: it is required");
            ensure!(!has("threads"), "{place}: threads: all models share them: say --threads");
            let arguments = settings.into_iter().flat_map(|setting| setting.arguments);
            let arguments = std::iter::once("model".into()).chain(arguments);
            let matches = command.try_get_matches_from(arguments);
            let matches = matches.with_context(|| place.clone())?;
            let ModelTable { served, keep } = ModelTable::from_arg_matches(&matches)?;
            models.push(ServedModel { keep, ..served.served() });
        }
    }
    ensure!(!models.is_empty(), "it has no models: write a table [[model]] for each");
    Ok(models)
}

/// Refuses options that concern one model where there are several.
///
/// # Errors
/// Names the option.
pub fn check_options(matches: &ArgMatches) -> Result<()> {
    let Some(path) = matches.get_one::<std::path::PathBuf>("models") else { return Ok(()) };
    for arg in ServedArgs::augment_args(Command::new("model")).get_arguments() {
        let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else { continue };
        let said = matches.value_source(id).is_some_and(|it| it != ValueSource::DefaultValue);
        match id {
            "model_name" | "threads" => {}
            "model" | "aliases" | "adapters" => {
                ensure!(!said, "--{long} is about one model, --models about several");
            }
            _ => ensure!(
                !said || path.is_dir(),
                "--{long} is about one model: write it into {}, in the model's table",
                path.display()
            ),
        }
    }
    Ok(())
}

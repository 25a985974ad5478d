//! Several models: a folder of them, or a file that has a table for each.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser};
use lightglm::{ProgressSink, ServedModel};
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
        let mut served = args.served();
        // It comes in the middle of the log, which says so.
        served.load.progress = ProgressSink::default();
        Ok(served)
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
            let mut served = ServedModel { keep, ..served.served() };
            if !keep {
                // It comes in the middle of the log, which says so.
                served.load.progress = ProgressSink::default();
            }
            models.push(served);
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

#[cfg(test)]
mod tests {
    use lightglm::{KvDtype, Weights};

    use super::*;
    use crate::config_file::parse_from;
    use crate::program_args::ProgramArgs;

    fn parsed(arguments: &[&str]) -> Result<ProgramArgs> {
        let arguments = ["serve"].iter().chain(arguments);
        parse_from(arguments.map(std::ffi::OsString::from).collect(), check_options)
    }

    /// The models of a file of this text.
    fn read(text: &str) -> Result<Vec<ServedModel>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("models.toml");
        std::fs::write(&file, text).unwrap();
        let args = parsed(&["--models", file.to_str().unwrap()])?;
        Ok(args.serve.several()?.unwrap())
    }

    #[test]
    fn a_file_has_a_table_for_each() {
        let text = "[[model]]\nmodel = '/models/glm-4-9b'\nmodel-alias = ['glm', 'gpt-4o']\nkv-dtype = 'int8'\n\
                    max-context = 1024\nkv-memory = 512\nkeep = true\nadapters = '.'\n\
                    [[model]]\nmodel = 'some/where.gguf'\nscheme = 'int4'\nmodel-name = 'small'\n";
        let models = read(text).unwrap();
        let [first, second] = models.as_slice() else { panic!("{models:?}") };
        assert_eq!((first.name.as_str(), second.name.as_str()), ("glm-4-9b", "small"));
        assert_eq!(first.aliases, ["glm", "gpt-4o"]);
        assert_eq!((first.keep, second.keep), (true, false));
        assert_eq!(first.kv_memory, Some(512 << 20));
        assert_eq!((first.load.max_context, second.load.max_context), (Some(1024), Some(8192)));
        assert_eq!(first.load.kv_dtype, KvDtype::Int8);
        assert_eq!(first.load.weights, Weights::Stored);
        assert_eq!(second.load.weights, Weights::scheme("int4").unwrap());
    }

    #[test]
    fn what_is_wrong_in_it_is_told_by_line_and_key() {
        let cases = [
            ("", "no models"),
            ("[[model]]\nmodel = 'a'\nprot = 1", "models.toml:3: prot: there is no such setting"),
            (
                "[[model]]\nmodel = 'a'\nmodel_name = 'b'",
                ":3: model_name: there is no such setting; it is called",
            ),
            ("[[model]]\nscheme = 'int8'", ":1: model: it is required"),
            ("[model]\nmodel = 'a'", ":1: model: it is a list of tables"),
            ("model = ['a']", ":1: model: it is a list of tables"),
            ("port = 1", ":1: port: a table [[model]] is all"),
            (
                "[[model]]\nmodel = 'a'\nmax-running = 1",
                ":3: max-running: there is no such setting",
            ),
            ("[[model]]\nmodel = 'a'\nthreads = 1", ":1: threads: all models share them"),
            ("[[model]]\nmodel = 'a'\nkeep = 'yes'", ":3: keep: it is true or false"),
            ("[[model]]\nmodel = 'a'\nkv-budget = 32", "kv_budget"),
            ("[[model]]\nmodel = 'a'\nscheme = 'int8'\ndtype = 'f32'", ":1"),
            ("[[model]]\nmodel = ", ":2: "),
        ];
        for (text, words) in cases {
            let error = format!("{:#}", read(text).err().unwrap_or_else(|| panic!("{text}")));
            assert!(error.contains(words), "{error}\n{text}");
        }
    }

    #[test]
    fn a_folder_has_its_models_and_options_are_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let several = |arguments: &[&str]| {
            let args = parsed(&[&["--models", path], arguments].concat())?;
            Ok::<_, anyhow::Error>(args.serve.several()?.unwrap())
        };
        let error = format!("{:#}", several(&[]).unwrap_err());
        assert!(error.contains(path) && error.contains("no models"), "{error}");
        std::fs::create_dir_all(folder.path().join("b model")).unwrap();
        std::fs::write(folder.path().join("b model/config.json"), "{}").unwrap();
        std::fs::write(folder.path().join("a.gguf"), "").unwrap();
        std::fs::create_dir(folder.path().join("c")).unwrap();
        let models = several(&["--scheme", "int4", "--model-name", "a"]).unwrap();
        let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["a", "b model"]);
        assert!(models.iter().all(|model| model.load.weights == Weights::scheme("int4").unwrap()));
        for option in ["--model", "--model-alias", "--adapters"] {
            let error = several(&[option, "x"]).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }

    #[test]
    fn options_of_one_model_stand_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("models.toml");
        std::fs::write(&file, "[[model]]\nmodel = 'a'\n").unwrap();
        let file = file.to_str().unwrap();
        for option in ["--scheme=int8", "--max-context=9", "--fold-tools", "--kv-memory=1"] {
            let error = parsed(&["--models", file, option]).unwrap_err().to_string();
            assert!(error.contains(option.split('=').next().unwrap()), "{error}");
        }
        let fine = [
            "--models",
            file,
            "--model-name=a",
            "--threads=1",
            "--unload-after=60",
            "--model-memory=9",
        ];
        assert_eq!(parsed(&fine).unwrap().options().unwrap().model_memory, Some(9 << 20));
        assert!(parsed(&["--unload-after", "60"]).is_err());
    }
}

//! The repository checks itself: what docs/architecture.md and docs/contributing.md promise about
//! the tree as a whole, which no compiler sees.
//!
//! Every rule returns its violations as sentences, and one more test feeds each rule what it must
//! object to: a check that cannot fail is none.

mod manifest;
mod objections;
mod rules;
mod rust_code;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rules::RULES;

/// A file of the repository.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    bytes: Vec<u8>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), bytes: text.into() }
    }

    /// The text, or nothing for a binary file.
    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or("")
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_manifest(&self) -> bool {
        self.path.ends_with("/Cargo.toml")
    }
}

#[test]
fn the_repository_is_tidy() {
    let sources = sources();
    assert!(sources.len() > 20, "only {} files found", sources.len());
    let violations: Vec<String> = RULES.iter().flat_map(|rule| rule(&sources)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The tracked files, and those which are about to be; without git, all but hidden and built ones.
fn sources() -> Vec<Source> {
    let paths = git_files().unwrap_or_else(|| {
        println!("git does not list this tree: walking it");
        let mut paths = BTreeSet::new();
        walk(&root(), "", &mut paths);
        paths
    });
    let read = |path: String| {
        // A tracked file that is deleted and not yet committed is no longer there.
        let bytes = std::fs::read(root().join(&path)).ok()?;
        Some(Source { path, bytes })
    };
    paths.into_iter().filter_map(read).collect()
}

fn git_files() -> Option<BTreeSet<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().ok()?;
    let listing = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    let paths: BTreeSet<_> =
        listing.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (!paths.is_empty()).then_some(paths)
}

fn walk(folder: &Path, prefix: &str, paths: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if name == "target" || name == ".git" {
            continue;
        }
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{path}/"), paths);
        } else {
            paths.insert(path);
        }
    }
}

//! Reading Cargo.toml, as far as this workspace's manifests go: one dependency a line, or a table.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Section {
    Normal,
    Dev,
}

/// The dependencies of a manifest, those of build scripts and single platforms included.
pub(crate) fn dependencies(manifest: &str) -> Vec<(Section, String)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let mut parts = header.split('.').skip_while(|part| !part.ends_with("dependencies"));
            current = parts.next().map(|part| match part {
                "dev-dependencies" => Section::Dev,
                _ => Section::Normal,
            });
            // `[dependencies.name]`
            if let (Some(section), Some(name)) = (current, parts.next()) {
                found.push((section, name.trim_matches('"').to_owned()));
                current = None;
            }
        } else if let (Some(section), Some((key, value))) = (current, line.split_once('=')) {
            let key = key.trim().split('.').next().unwrap_or_default();
            if !key.starts_with('#') {
                // A dependency may be renamed: `name = { package = "the-crate" }`.
                let renamed = value.split_once("package = \"").and_then(|(_, v)| v.split_once('"'));
                let name = renamed.map_or(key.trim_matches('"'), |(package, _)| package);
                found.push((section, name.to_owned()));
            }
        }
    }
    found
}

pub(crate) fn package_name(manifest: &str) -> Option<String> {
    let line = manifest.lines().find(|line| line.starts_with("name = "))?;
    line.split('"').nth(1).map(str::to_owned)
}

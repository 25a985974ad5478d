//! The rules: each looks at all files and returns what is wrong, one sentence each.

use std::path::Path;

use crate::Source;
use crate::manifest::{Section, dependencies, package_name};
use crate::rust_code::{
    UnsafeUse, argued, code_lines, ignored_tests, is_word, unsafe_keyword, words,
};

/// Crates that meet only in `examples/`, `benches/` and the user's program.
const SIBLINGS: [&str; 7] = [
    "lightglm-model",
    "lightglm-quant",
    "lightglm-sparse",
    "lightglm-train",
    "lightglm-distill",
    "lightglm-serve",
    "lightglm-eval",
];

/// The one crate with `unsafe` in it.
const UNSAFE_CRATE: &str = "crates/lightglm-kernels/";

/// The folders with the workspace's packages.
const HOUSE: [&str; 3] = ["crates/", "examples/", "benches/"];

/// File names that say nothing about what is inside.
const NAMELESS: [&str; 6] = ["base", "utils", "util", "common", "helpers", "misc"];

/// Lines past which a source file needs a reason to stay whole.
const LONGEST_FILE: usize = 600;

/// Source files that are longer, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Lines of an example program at most: it shows arguments, calls of the library and printing.
const LONGEST_PROGRAM: usize = 250;

/// Bytes past which a tracked file belongs elsewhere.
const LARGEST_FILE: usize = 2 << 20;

/// Files that have to be larger, the bytes of each at most, and the reason.
const LARGE_FILES: [(&str, usize, &str); 1] = [(
    "crates/lightglm-tiny/model/model.safetensors",
    10_000_000,
    "the weights that are compiled in, so that the first answer needs no network",
)];

/// Lines above an `unsafe` block in which its argument must stand.
const SAFETY_DISTANCE: usize = 8;

/// A rule looks at all files and returns what is wrong, one sentence each.
pub(crate) type Rule = fn(&[Source]) -> Vec<String>;

/// All of them.
pub(crate) const RULES: [Rule; 12] = [
    dependencies_form_a_star,
    unsafe_stays_in_its_crate,
    unsafe_is_argued_for,
    lints_are_inherited,
    names_say_something,
    files_are_short,
    files_are_small,
    programs_are_short,
    measuring_is_for_benches,
    nothing_knows_this_machine,
    readmes_are_twins,
    anyhow_stays_at_the_edge,
];

pub(crate) fn dependencies_form_a_star(sources: &[Source]) -> Vec<String> {
    let allowed = |package: &str, section: Section, dependency: &str| match dependency {
        // The testkit is for tests alone.
        "lightglm-testkit" => section == Section::Dev,
        // The facade is the star's centre: it may depend on all, and none on it.
        _ if package == "lightglm" => true,
        // Where models come from is the business of whoever opens them.
        "lightglm-hub" => false,
        // Below the siblings: the seams, the kernels, and what knows no tensor at all.
        _ if ["lightglm-core", "lightglm-text", "lightglm-hub", "lightglm-media"]
            .contains(&package) =>
        {
            false
        }
        _ if package == "lightglm-generation" => {
            matches!(dependency, "lightglm-core" | "lightglm-text")
        }
        _ if package == "lightglm-kernels" => dependency == "lightglm-core",
        _ if package == "lightglm-testkit" => {
            matches!(dependency, "lightglm-core" | "lightglm-text")
        }
        // Encoders stand on the decoder's parts and on what reads files.
        _ if ["lightglm-vision", "lightglm-speech"].contains(&package) => {
            matches!(
                dependency,
                "lightglm-core" | "lightglm-kernels" | "lightglm-media" | "lightglm-model"
            ) || (section == Section::Dev && dependency == "lightglm-generation")
        }
        _ if SIBLINGS.contains(&package) => {
            matches!(
                dependency,
                "lightglm-core" | "lightglm-generation" | "lightglm-kernels" | "lightglm-text"
            )
        }
        _ => false,
    };
    let mut violations = Vec::new();
    for manifest in sources.iter().filter(|s| s.is_manifest() && s.path.starts_with("crates/")) {
        let folder = manifest.path.split('/').nth(1).unwrap_or_default();
        let package = package_name(manifest.text()).unwrap_or_default();
        if package != folder {
            violations.push(format!("{}: the package is called `{package}`", manifest.path));
        }
        for (section, dependency) in dependencies(manifest.text()) {
            if dependency.starts_with("lightglm") && !allowed(&package, section, &dependency) {
                violations.push(format!("{}: must not depend on {dependency}", manifest.path));
            }
        }
    }
    violations
}

pub(crate) fn unsafe_stays_in_its_crate(sources: &[Source]) -> Vec<String> {
    let outside = sources.iter().filter(|s| s.is_rust() && !s.path.starts_with(UNSAFE_CRATE));
    let mut violations = Vec::new();
    for source in outside {
        for (number, line) in code_lines(source.text()) {
            if words(&line).any(|word| word == "unsafe") {
                violations.push(format!("{}:{number}: unsafe code", source.path));
            }
        }
    }
    violations
}

pub(crate) fn unsafe_is_argued_for(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust() && s.path.starts_with(UNSAFE_CRATE)) {
        let lines: Vec<&str> = source.text().lines().collect();
        for (number, line) in code_lines(source.text()) {
            let Some(keyword) = unsafe_keyword(&line) else { continue };
            // A block says why it is sound; a public function says in its docs what callers owe.
            let arguments: &[&str] = match keyword {
                UnsafeUse::Block => &["SAFETY:"],
                UnsafeUse::Public => &["SAFETY:", "# Safety"],
            };
            if !argued(&lines[..number], arguments, SAFETY_DISTANCE) {
                let missing = arguments.join(" or ");
                violations.push(format!("{}:{number}: unsafe without {missing}", source.path));
            }
        }
    }
    violations
}

pub(crate) fn lints_are_inherited(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    // Packages of their own workspace have no lints to inherit.
    let housed = |path: &str| HOUSE.iter().any(|folder| path.starts_with(folder));
    for manifest in sources.iter().filter(|s| s.is_manifest() && housed(&s.path)) {
        let own = manifest.path.starts_with(UNSAFE_CRATE);
        let lines: Vec<&str> = manifest.text().lines().map(str::trim).collect();
        let inherits = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
        let states = lines.contains(&"[lints.rust]") && lines.contains(&"missing_docs = \"deny\"");
        if !(if own { states } else { inherits }) {
            let wanted = if own { "state its own lints" } else { "inherit the workspace's lints" };
            violations.push(format!("{}: must {wanted}", manifest.path));
        }
    }
    violations
}

pub(crate) fn names_say_something(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        let path = Path::new(&source.path);
        let stem = |part: &std::ffi::OsStr| {
            Path::new(part).file_stem().and_then(|s| s.to_str()).map(str::to_owned)
        };
        if path.iter().filter_map(stem).any(|name| NAMELESS.contains(&name.as_str())) {
            violations.push(format!("{}: the name says nothing", source.path));
        }
    }
    violations
}

pub(crate) fn files_are_short(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust() || s.path.ends_with(".py")) {
        let lines = source.text().lines().count();
        let reason = LONG_FILES.iter().find(|(path, _)| *path == source.path);
        if lines > LONGEST_FILE && reason.is_none() {
            violations.push(format!("{}: {lines} lines, more than one concept?", source.path));
        }
    }
    for (path, _) in LONG_FILES {
        if !sources.iter().any(|s| s.path == path && s.text().lines().count() > LONGEST_FILE) {
            violations.push(format!("{path}: listed as long, and is not"));
        }
    }
    violations
}

pub(crate) fn files_are_small(sources: &[Source]) -> Vec<String> {
    let most = |path: &str| {
        let allowed = LARGE_FILES.iter().find(|(file, ..)| *file == path);
        allowed.map_or(LARGEST_FILE, |(_, bytes, _)| *bytes)
    };
    let large = sources.iter().filter(|s| s.bytes.len() > most(&s.path));
    large.map(|s| format!("{}: {} bytes", s.path, s.bytes.len())).collect()
}

pub(crate) fn programs_are_short(sources: &[Source]) -> Vec<String> {
    let programs = sources.iter().filter(|s| s.is_rust() && is_program(&s.path));
    programs
        .map(|s| (&s.path, s.text().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_PROGRAM)
        .map(|(path, lines)| format!("{path}: {lines} lines of a program, is it a library's work?"))
        .collect()
}

pub(crate) fn measuring_is_for_benches(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust() && !s.path.starts_with("benches/")) {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        for (number, name) in ignored_tests(source.text()) {
            if [file, name.as_str()].iter().any(|name| name.contains("speed")) {
                let path = &source.path;
                violations.push(format!("{path}:{number}: `{name}` is ignored and measures"));
            }
        }
    }
    violations
}

pub(crate) fn nothing_knows_this_machine(sources: &[Source]) -> Vec<String> {
    // Put together at run time, so that this file does not contain what it looks for. (A mount
    // under mnt is not among them: GLM-4's own chat template names one.)
    let roots = ["home", "root", "Users", "work"].map(|root| format!("/{root}/"));
    let mut violations = Vec::new();
    for source in sources {
        for (number, line) in source.text().lines().enumerate() {
            if let Some(root) = roots.iter().find(|root| mentions_path(line, root)) {
                violations.push(format!("{}:{}: a path under {root}", source.path, number + 1));
            }
        }
    }
    violations
}

pub(crate) fn readmes_are_twins(sources: &[Source]) -> Vec<String> {
    let read = |path: &str| sources.iter().find(|s| s.path == path).map(Source::text);
    let names = ["README.md", "README.zh-CN.md"];
    let [Some(english), Some(chinese)] = names.map(read) else {
        return vec![format!("{} must both be there", names.join(" and "))];
    };
    let mut violations = Vec::new();
    let [(levels, blocks), (levels_zh, blocks_zh)] = [english, chinese].map(outline);
    if levels != levels_zh {
        violations.push(format!(
            "the READMEs' headings differ: {} in English, {} in Chinese, or other levels",
            levels.len(),
            levels_zh.len()
        ));
    }
    if blocks.len() != blocks_zh.len() {
        let [en, zh] = [blocks.len(), blocks_zh.len()];
        violations.push(format!("README.md has {en} code blocks, README.zh-CN.md {zh}"));
    }
    for (number, (block, block_zh)) in blocks.iter().zip(&blocks_zh).enumerate() {
        if block != block_zh {
            violations.push(format!("code block {} differs:\n{block}\n{block_zh}", number + 1));
        }
    }
    violations
}

pub(crate) fn anyhow_stays_at_the_edge(sources: &[Source]) -> Vec<String> {
    let manifests = sources.iter().filter(|s| s.is_manifest() && s.path.starts_with("crates/"));
    manifests
        .filter(|s| dependencies(s.text()).iter().any(|(_, name)| name == "anyhow"))
        .map(|s| format!("{}: anyhow is for examples and benches", s.path))
        .collect()
}

/// Whether the file is a program of `examples/`, in any package below it: not what they share, nor a
/// test.
fn is_program(path: &str) -> bool {
    let Some(path) = path.strip_prefix("examples/") else { return false };
    !path.split('/').any(|folder| ["src", "tests"].contains(&folder))
}

/// Whether `line` has `root` where a path can begin: not within a URL, a longer path or a word.
fn mentions_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !is_word(c) && !matches!(c, '.' | '/' | '-' | '}' | ')' | '*' | '$'))
    })
}

/// The levels of a Markdown text's headings, and its code blocks.
fn outline(text: &str) -> (Vec<usize>, Vec<String>) {
    let (mut levels, mut blocks) = (Vec::new(), Vec::new());
    let mut block: Option<String> = None;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            match block.take() {
                Some(done) => blocks.push(done),
                None => block = Some(String::new()),
            }
        } else if let Some(block) = &mut block {
            block.push_str(line);
            block.push('\n');
        } else if line.starts_with('#') {
            levels.push(line.chars().take_while(|c| *c == '#').count());
        }
    }
    (levels, blocks)
}

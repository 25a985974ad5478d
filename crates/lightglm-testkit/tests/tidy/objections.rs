//! Each rule is shown what it must object to, and what it must let pass.

use crate::Source;
use crate::manifest::{Section, dependencies};
use crate::rules::*;
use crate::rust_code::code_lines;

const INHERITED: &str = "[lints]\nworkspace = true\n";

fn manifest(package: &str, rest: &str) -> Source {
    let text = format!("[package]\nname = \"{package}\"\n\n{INHERITED}\n{rest}");
    Source::new(&format!("crates/{package}/Cargo.toml"), &text)
}

fn objects(rule: Rule, source: Source) -> bool {
    !rule(&[source]).is_empty()
}

#[test]
fn edges_outside_of_the_star() {
    let objects = |package, rest| objects(dependencies_form_a_star, manifest(package, rest));
    assert!(!objects("lightglm-eval", "[dependencies]\nlightglm-core.workspace = true\n"));
    assert!(!objects("lightglm-model", "[dev-dependencies]\nlightglm-testkit.workspace = true\n"));
    assert!(objects("lightglm-eval", "[dependencies]\nlightglm-testkit.workspace = true\n"));
    assert!(objects("lightglm-eval", "[dependencies.lightglm-model]\nworkspace = true\n"));
    assert!(objects("lightglm-eval", "[dev-dependencies]\nlightglm-model = { path = \"..\" }\n"));
    assert!(objects("lightglm-core", "[dependencies]\nlightglm-kernels.workspace = true\n"));
    assert!(objects("lightglm-kernels", "[dependencies]\nlightglm-model.workspace = true\n"));
    let on_hub = "[dependencies]\nlightglm-hub.workspace = true\n";
    assert!(!objects("lightglm", on_hub));
    assert!(objects("lightglm-model", on_hub));
    assert!(objects("lightglm-serve", "[dev-dependencies]\nlightglm-hub.workspace = true\n"));
    assert!(objects("lightglm-hub", "[dependencies]\nlightglm-core.workspace = true\n"));
    assert!(!objects("lightglm-hub", "[dependencies]\nhf-hub.workspace = true\n"));
    let renamed = "[target.'cfg(unix)'.dependencies]\nm = { package = \"lightglm-model\" }\n";
    assert!(objects("lightglm-eval", renamed));
    assert!(objects("lightglm-newcomer", "[dependencies]\nlightglm-model.workspace = true\n"));
}

#[test]
fn dependencies_are_read() {
    let text = "[package]\nname = \"x\"\n[dependencies]\n# a = 1\nb = \"1\"\nc.workspace = true\n\
                [features]\nf = []\n[dev-dependencies.d]\nversion = \"1\"\n";
    let found = [(Section::Normal, "b"), (Section::Normal, "c"), (Section::Dev, "d")];
    assert_eq!(dependencies(text), found.map(|(section, name)| (section, name.to_owned())));
}

#[test]
fn unsafe_outside_of_the_kernels() {
    let objects = |path, text| objects(unsafe_stays_in_its_crate, Source::new(path, text));
    let path = "crates/lightglm-model/src/lib.rs";
    assert!(objects(path, "fn f() { unsafe { g() } }"));
    assert!(objects(path, "/* a /* b */ c */ unsafe fn f() {}"));
    assert!(!objects(path, "// unsafe\n/// unsafe\nlet s = \"unsafe \\\" unsafe\"; let c = '\"';"));
    assert!(!objects(path, "let s = r#\"unsafe\" unsafe\"#; #![forbid(unsafe_code)]"));
    assert!(!objects("crates/lightglm-kernels/src/lib.rs", "unsafe fn f() {}"));
}

#[test]
fn code_keeps_its_line_numbers() {
    let text = "a\n\"two\nlines\" b\n/* c\n*/ d // e\n'x' 'life r\"raw\n\" f";
    let lines: Vec<_> =
        code_lines(text).into_iter().map(|(n, line)| (n, line.trim().len())).collect();
    assert_eq!(lines, [(1, 1), (2, 0), (3, 1), (4, 0), (5, 1), (6, 5), (7, 1)]);
}

#[test]
fn unsafe_without_an_argument() {
    let path = "crates/lightglm-kernels/src/lib.rs";
    let objects = |text: &str| objects(unsafe_is_argued_for, Source::new(path, text));
    assert!(objects("fn f() {\n    unsafe { g() }\n}"));
    assert!(!objects("fn f() {\n    // SAFETY: g is fine.\n    unsafe { g() }\n}"));
    assert!(objects(&format!(
        "// SAFETY: far off.\n{}unsafe {{ g() }}",
        "let x = 1;\n".repeat(20)
    )));
    assert!(objects("/// Adds.\npub unsafe fn add() {}"));
    let long = "/// # Safety\n".to_owned() + &"/// More.\n".repeat(20);
    assert!(!objects(&(long + "#[inline]\npub unsafe fn add() {}")));
    assert!(objects("    let y =\n        unsafe { g() };"));
    assert!(objects("unsafe impl Send for X {}"));
    assert!(!objects("type Gemv = unsafe fn(*const f32);"));
    assert!(!objects("unsafe fn one_of_many_intrinsics() {}"));
}

#[test]
fn lints_that_are_not_inherited() {
    let kernels = "crates/lightglm-kernels/Cargo.toml";
    let objects = |path: &str, text: &str| objects(lints_are_inherited, Source::new(path, text));
    for folder in ["crates/a", "examples", "examples/serving", "benches"] {
        let path = format!("{folder}/Cargo.toml");
        assert!(objects(&path, "[package]\nname = \"a\"\n"), "{path}");
        assert!(!objects(&path, INHERITED), "{path}");
    }
    assert!(!objects("tools/outside/Cargo.toml", "[package]\nname = \"outside\"\n"));
    assert!(objects(kernels, INHERITED));
    assert!(!objects(kernels, "[lints.rust]\nmissing_docs = \"deny\"\n"));
}

#[test]
fn names_lengths_and_sizes() {
    for path in ["a/utils.rs", "a/common/mod.rs", "docs/misc.md"] {
        assert!(objects(names_say_something, Source::new(path, "")), "{path}");
    }
    assert!(!objects(names_say_something, Source::new("a/database.rs", "")));
    assert!(objects(files_are_short, Source::new("a.rs", &"x\n".repeat(601))));
    assert!(!objects(files_are_short, Source::new("a.rs", &"x\n".repeat(600))));
    assert!(!objects(files_are_short, Source::new("a.json", &"x\n".repeat(601))));
    assert!(objects(files_are_small, Source::new("a.bin", &"x".repeat((2 << 20) + 1))));
    // The one that may be larger has a limit, too.
    let weights =
        |bytes| Source::new("crates/lightglm-tiny/model/model.safetensors", &"x".repeat(bytes));
    assert!(!objects(files_are_small, weights(10_000_000)));
    assert!(objects(files_are_small, weights(10_000_001)));
}

#[test]
fn programs_that_are_long() {
    let objects =
        |path, lines| objects(programs_are_short, Source::new(path, &"x\n".repeat(lines)));
    for path in ["examples/chat.rs", "examples/serving/load.rs", "examples/training/qat/main.rs"] {
        assert!(objects(path, 251), "{path}");
        assert!(!objects(path, 250), "{path}");
    }
    for path in ["examples/src/plot.rs", "examples/serving/tests/load.rs", "benches/decode.rs"] {
        assert!(!objects(path, 251), "{path}");
    }
    assert!(!objects("examples/data/faq.jsonl", 251));
}

#[test]
fn tests_that_measure() {
    let objects = |path, text: &str| objects(measuring_is_for_benches, Source::new(path, text));
    let ignored = "#[test]\n#[ignore = \"minutes\"]\nfn ";
    let (kernels, plain) = ("crates/a/tests/packed_speed.rs", "crates/a/tests/packed.rs");
    assert!(objects(kernels, &format!("{ignored}middle() {{}}")));
    assert!(objects(plain, &format!("{ignored}speed_of_half() {{}}")));
    assert!(objects(plain, "#[ignore] // slow\n#[test]\npub(crate) async fn decode_speed() {}"));
    assert!(!objects(plain, &format!("{ignored}middle() {{}}\n#[test]\nfn speeds_add_up() {{}}")));
    assert!(!objects(kernels, "#[test]\nfn middle() {}"));
    assert!(!objects(plain, "// #[ignore]\n#[test]\nfn speed() {}"));
    assert!(!objects("benches/speed.rs", &format!("{ignored}middle() {{}}")));
}

#[test]
fn paths_of_a_machine() {
    let objects = |text: String| objects(nothing_knows_this_machine, Source::new("a.md", &text));
    for root in ["home", "root", "Users", "work"] {
        assert!(objects(format!("see `/{root}/someone/x`")), "{root}");
        assert!(!objects(format!("https://example.com/{root}/x and ../{root}/x")), "{root}");
    }
}

#[test]
fn readmes_that_are_not_twins() {
    let twins = |en: &str, zh: &str| {
        let pair = [Source::new("README.md", en), Source::new("README.zh-CN.md", zh)];
        readmes_are_twins(&pair).is_empty()
    };
    let english = "# Title\ntext\n```sh\n# not a heading\ncargo test\n```\n## Use\n";
    assert!(twins(english, "# 题\n```sh\n# not a heading\ncargo test\n```\n## 用\n"));
    assert!(!twins(english, "# 题\n```sh\n# not a heading\ncargo test\n```\n"));
    assert!(!twins(english, "# 题\n```sh\n# not a heading\ncargo bench\n```\n## 用\n"));
    assert!(!twins(english, "# 题\n## 用\n"));
    assert!(objects(readmes_are_twins, Source::new("README.md", english)));
}

#[test]
fn anyhow_in_a_library() {
    let with = |rest| objects(anyhow_stays_at_the_edge, manifest("lightglm-eval", rest));
    assert!(with("[dependencies]\nanyhow.workspace = true\n"));
    assert!(!with("[dependencies]\nthiserror.workspace = true\n"));
}

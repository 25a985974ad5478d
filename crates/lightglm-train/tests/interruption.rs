//! Runs in a process of their own that is killed, or whose disk is full.
//!
//! The test starts itself again as a child, which trains and appends each step's loss to a file.
#![cfg(unix)]

mod bigrams;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bigrams::{Train, config, corpus, losses};
use burn_flex::FlexDevice;
use lightglm_testkit::BigramLm;
use lightglm_train::checkpoint::CheckpointFolder;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::trainer::{TrainConfig, TrainError, TrainEvent, Trainer};

/// Tells a child where to work; unset, it does nothing.
const FOLDER: &str = "LIGHTGLM_TEST_FOLDER";

/// Behind which step a child stops by itself.
const LAST_STEP: &str = "LIGHTGLM_TEST_LAST_STEP";

/// A table of 1 MiB, with moments 3 MiB a checkpoint: long enough to be killed meanwhile.
const VOCAB: usize = 512;

/// Checkpoints that are kept.
const KEEP: usize = 2;

fn settings() -> TrainConfig {
    // With patience the best parameters are kept too, which is another file to be killed at.
    let patience = Some(1000);
    let (evaluate_every, checkpoint_every) = (Some(1), Some(1));
    TrainConfig { epochs: 8, evaluate_every, checkpoint_every, patience, ..config() }
}

fn model(seed: u64) -> BigramLm<Train> {
    BigramLm::new(VOCAB, seed, &FlexDevice)
}

/// The child: trains in the folder that the environment names.
#[test]
#[ignore = "a child of the other tests"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let last_step = std::env::var(LAST_STEP).ok().map(|step| step.parse::<u64>().unwrap());
    if let Err(error) = train(&folder, last_step) {
        fs::write(folder.join("error.txt"), format!("{error}\n{error:?}")).unwrap();
        panic!("{error}");
    }
    fs::write(folder.join("done.txt"), "done").unwrap();
}

fn train(folder: &Path, last_step: Option<u64>) -> Result<(), TrainError> {
    let mut out = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("losses.txt"))
        .expect("a file for losses");
    let mut watch = |event: &TrainEvent| {
        let TrainEvent::Step(step) = event else { return ControlFlow::Continue(()) };
        // One write, so that no line is cut.
        let line = format!("{} {:016x}\n", step.step, step.loss.to_bits());
        out.write_all(line.as_bytes()).expect("a line of losses");
        match Some(step.step) == last_step {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let (config, examples) = (settings(), corpus());
    let checkpoints = CheckpointFolder::open(&folder.join("run"), KEEP)?;
    let trainer = Trainer::new(&config, &CrossEntropy).with_checkpoints(&checkpoints, true);
    let trainer = trainer.with_validation(&examples[..2]);
    // The seed differs from process to process: what is resumed must not depend on it, but for the
    // first, which is that of the run without interruption.
    let seed = if checkpoints.steps()?.is_empty() { 1 } else { u64::from(std::process::id()) };
    trainer.run(model(seed), &examples, &mut watch).map(|_| ())
}

/// The child's command, behind what `shell` does first.
fn command(folder: &Path, shell: Option<&str>) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match shell {
        None => Command::new(exe),
        Some(first) => {
            let mut sh = Command::new("sh");
            sh.arg("-c").arg(format!("{first}; exec \"$@\"")).arg("sh").arg(exe);
            sh
        }
    };
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    command.env(FOLDER, folder).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The losses that all children wrote; the same step has the same loss whoever did it.
fn written(folder: &Path) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    for line in fs::read_to_string(folder.join("losses.txt")).unwrap_or_default().lines() {
        let (step, bits) = line.split_once(' ').unwrap();
        let bits = u64::from_str_radix(bits, 16).unwrap();
        let step = step.parse().unwrap();
        let before = *found.entry(step).or_insert(bits);
        assert_eq!(before, bits, "step {step} was done twice and differs");
    }
    found
}

fn expected() -> BTreeMap<u64, u64> {
    let (config, examples) = (settings(), corpus());
    let mut events = Vec::new();
    let mut watch = |event: &TrainEvent| {
        events.push(event.clone());
        ControlFlow::Continue(())
    };
    Trainer::new(&config, &CrossEntropy).run(model(1), &examples, &mut watch).unwrap();
    losses(&events).into_iter().collect()
}

/// Every checkpoint under a final name is whole.
fn check_whole(folder: &Path) {
    // Not `open`, which would tidy up.
    let run = folder.join("run");
    let Ok(entries) = fs::read_dir(&run) else { return };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let steps: Vec<u64> =
        names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect();
    if steps.is_empty() {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    for step in steps {
        let name = format!("step-{step:08}");
        fs::create_dir(copy.path().join(&name)).unwrap();
        for file in ["run.json", "parameters.safetensors", "optimizer.safetensors"] {
            fs::copy(run.join(&name).join(file), copy.path().join(&name).join(file)).unwrap();
        }
        let checkpoints = CheckpointFolder::open(copy.path(), KEEP).unwrap();
        let (_, _, state) = checkpoints.load(step, model(3), settings().optimizer).unwrap();
        assert_eq!(state.step, step);
    }
}

fn half_written(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder.join("run")) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// Waits until the child is in the middle of a checkpoint; false where it ended before.
fn wait_for_writing(child: &mut Child, folder: &Path) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        if !half_written(folder).is_empty() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
    }
    panic!("the child neither writes nor ends");
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut kills, mut in_the_middle) = (0, 0);
    let mut random = u64::from(std::process::id());
    while kills < 14 && !folder.join("done.txt").exists() {
        let mut child = command(folder, None).spawn().unwrap();
        if kills % 2 == 0 {
            if !wait_for_writing(&mut child, folder) {
                break;
            }
        } else {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            std::thread::sleep(Duration::from_millis((random >> 33) % 120));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        in_the_middle += usize::from(!half_written(folder).is_empty());
        check_whole(folder);
        written(folder);
    }
    assert!(command(folder, None).status().unwrap().success());
    assert_eq!(written(folder), expected());
    assert_eq!(half_written(folder), [""; 0]);
    let checkpoints = CheckpointFolder::open(&folder.join("run"), KEEP).unwrap();
    assert_eq!(checkpoints.steps().unwrap(), [39, 40]);
    checkpoints.load_best(model(3)).unwrap();
    println!("killed {kills} times, {in_the_middle} of them in the middle of a checkpoint");
    assert!(in_the_middle > 0, "no kill met a checkpoint half-written");
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(command(folder, None).env(LAST_STEP, "3").status().unwrap().success());
    let checkpoints = CheckpointFolder::open(&folder.join("run"), KEEP).unwrap();
    assert_eq!(checkpoints.steps().unwrap(), [2, 3]);
    // Files of at most 1000 blocks of 512 bytes (of 1024 in some shells): less than the table. The
    // signal that would end the process is ignored, so that writing fails instead.
    for blocks in [1000, 64, 2] {
        let shell = format!("trap '' XFSZ; ulimit -f {blocks}");
        let status = command(folder, Some(&shell)).status().unwrap();
        assert!(!status.success(), "{blocks} blocks were enough");
        let error = fs::read_to_string(folder.join("error.txt")).unwrap();
        let (message, variant) = error.split_once('\n').unwrap();
        let named = ["parameters.safetensors", "best.safetensors"];
        assert!(named.iter().any(|name| message.contains(name)), "{message} names no file");
        assert!(variant.starts_with("Checkpoint(Write(Io {"), "{variant}");
        assert_eq!(half_written(folder), [""; 0]);
        assert_eq!(checkpoints.steps().unwrap(), [2, 3]);
        check_whole(folder);
        checkpoints.load_best(model(3)).unwrap();
        fs::remove_file(folder.join("error.txt")).unwrap();
    }
    // With room again it goes on.
    assert!(command(folder, None).status().unwrap().success());
    assert_eq!(written(folder), expected());
}

//! Rows of a model's answers: as one run writes them, however often it was interrupted.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lightglm::training::generations::{
    AnswerSource, Answered, Asking, GenerationOptions, Question, TeacherAnswer, generate_rows,
    prompts,
};
use lightglm::training::{Example, ReadOptions, TrainingModel, read_examples};
use lightglm::{Error, LoadOptions, Model, Progress, ProgressSink, SamplingParams};

use crate::checkpoint_folder::{rows, write_model};

fn options() -> GenerationOptions {
    let sampling =
        SamplingParams { temperature: 1.0, max_tokens: 8, seed: 3, ..Default::default() };
    GenerationOptions { sampling, samples: 2, keep_cut: true, ..GenerationOptions::default() }
}

fn examples(folder: &Path) -> Vec<Example> {
    rows(folder).examples
}

/// Answers four at once, and refuses or fails at some numbers.
#[derive(Default)]
struct Scripted {
    fails_at: Option<u64>,
    asked: Mutex<Vec<(u64, u64)>>,
}

impl AnswerSource for Scripted {
    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn at_once(&self) -> usize {
        4
    }

    fn answers(
        &self,
        questions: &[Question<'_>],
        asking: &Asking<'_>,
    ) -> Result<Vec<Answered>, Error> {
        let answer = |question: &Question<'_>| {
            self.asked.lock().unwrap().push((question.prompt, question.sample));
            if self.fails_at == Some(question.prompt) {
                return Answered::Failed(Error::TrainingFailed);
            }
            let text = match question.prompt {
                3 => return Answered::Refused("too long".to_owned()),
                5 => " ".to_owned(),
                prompt => format!("answer {prompt} of seed {}", question.seed),
            };
            let is_cut = question.prompt == 7;
            Answered::Answer(TeacherAnswer { text, is_cut, ..TeacherAnswer::default() })
        };
        (asking.tell)(questions.len());
        Ok(questions.iter().map(answer).collect())
    }
}

#[test]
fn a_model_writes_rows_that_can_be_learnt_from() {
    let folder = tempfile::tempdir().unwrap();
    let base = write_model(folder.path(), false);
    let model = Model::open(&base, LoadOptions::default()).unwrap();
    let examples = examples(folder.path());
    let asked = prompts(&examples);
    let whole = folder.path().join("whole.jsonl");
    let outcome = generate_rows(&model, &asked, &whole, &options()).unwrap();
    assert_eq!((outcome.written + outcome.empty, outcome.cut), (40, 0));
    assert!(outcome.written > 30, "{outcome:?}");
    let read = read_examples(&whole, &ReadOptions::default()).unwrap();
    assert_eq!(read.examples.len() as u64, outcome.written);
    let conversation = read.examples[0].conversation().unwrap();
    assert_eq!(conversation.question(), asked[0].question());
    let student = TrainingModel::open(&base, lightglm::training::Method::Full).unwrap();
    let rows = student.tokenize(&read).unwrap();
    assert!(rows.rows.len() > 30, "{}", rows.report);

    // Killed in the middle of a line, and gone on with: the same bytes.
    let bytes = fs::read(&whole).unwrap();
    for kept in [0, 1, bytes.len() / 3, bytes.len() - 1, bytes.len()] {
        fs::write(&whole, &bytes[..kept]).unwrap();
        let resumed = GenerationOptions { resume: true, ..options() };
        generate_rows(&model, &asked, &whole, &resumed).unwrap();
        assert_eq!(fs::read(&whole).unwrap(), bytes, "{kept}");
    }
    // Ended by whoever watches, at a token: what is answered stays.
    let some = folder.path().join("some.jsonl");
    let told = AtomicUsize::new(0);
    let progress = ProgressSink::new(move |progress| match progress {
        Progress::Working { .. } if told.fetch_add(1, Ordering::Relaxed) > 275 => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    let watched = GenerationOptions { progress, ..options() };
    let error = generate_rows(&model, &asked, &some, &watched).unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    let kept = fs::read(&some).unwrap();
    assert!(!kept.is_empty() && kept.len() < bytes.len() && bytes.starts_with(&kept));
    let resumed = GenerationOptions { resume: true, ..options() };
    generate_rows(&model, &asked, &some, &resumed).unwrap();
    assert_eq!(fs::read(&some).unwrap(), bytes);
}

#[test]
fn what_is_left_out_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let examples = examples(folder.path());
    let asked = prompts(&examples);
    let file = folder.path().join("rows.out.jsonl");
    let options = GenerationOptions { keep_cut: false, ..options() };
    let outcome = generate_rows(&Scripted::default(), &asked, &file, &options).unwrap();
    let line = asked[3].line;
    assert_eq!((outcome.written, outcome.cut, outcome.empty), (34, 2, 2));
    assert_eq!(outcome.refused, [(line, "too long".to_owned())]);
    let bytes = fs::read_to_string(&file).unwrap();
    let seeds: Vec<&str> = bytes.lines().filter_map(|row| row.split("of seed ").nth(1)).collect();
    assert_eq!(seeds.len(), 34);
    assert_eq!(seeds.iter().collect::<std::collections::BTreeSet<_>>().len(), 34);

    // A failure keeps what was answered before it, and the next run asks from there on.
    let again = folder.path().join("again.jsonl");
    let failing = Scripted { fails_at: Some(10), ..Scripted::default() };
    let error = generate_rows(&failing, &asked, &again, &options).unwrap_err();
    assert!(matches!(error, Error::TrainingFailed), "{error}");
    assert_eq!(fs::read_to_string(&again).unwrap().lines().count(), 14);
    let whole = Scripted::default();
    let resumed = GenerationOptions { resume: true, ..options.clone() };
    let outcome = generate_rows(&whole, &asked, &again, &resumed).unwrap();
    assert_eq!((outcome.before, outcome.written), (20, 20));
    assert_eq!(whole.asked.lock().unwrap()[0], (10, 0));
    assert_eq!(fs::read_to_string(&again).unwrap(), bytes);
}

#[test]
fn another_run_does_not_go_on_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let examples = examples(folder.path());
    let asked = prompts(&examples);
    let file = folder.path().join("rows.out.jsonl");
    let teacher = Scripted::default();
    generate_rows(&teacher, &asked, &file, &options()).unwrap();
    let refused = |asked: &[_], options: GenerationOptions| {
        let error = generate_rows(&teacher, asked, &file, &options).unwrap_err();
        assert!(matches!(error, Error::AnswersFile { .. }), "{error}");
        error.to_string()
    };
    assert!(refused(&asked, options()).contains("is there already"));
    let resumed = || GenerationOptions { resume: true, ..options() };
    assert!(refused(&asked[1..], resumed()).contains("other settings: `prompts: 20"));
    let error = refused(&asked, GenerationOptions { samples: 3, ..resumed() });
    assert!(error.contains("`samples: 2`, now `samples: 3`"), "{error}");
    // Somebody else's rows.
    fs::write(&file, "{\"question\": \"a\", \"answer\": \"b\"}\n").unwrap();
    assert!(refused(&asked, resumed()).contains("not one of these"));
    fs::remove_file(folder.path().join("rows.out.jsonl.settings")).unwrap();
    assert!(refused(&asked, resumed()).contains("settings are not known"));

    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let twice = GenerationOptions { sampling: greedy, ..options() };
    let error = generate_rows(&teacher, &asked, folder.path().join("new"), &twice).unwrap_err();
    assert!(matches!(error, Error::Option { option: "samples", .. }), "{error}");
    assert!(!folder.path().join("new").exists());
}

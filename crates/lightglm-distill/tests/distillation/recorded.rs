//! A teacher that was asked before.

use lightglm_core::LabelledSpan;
use lightglm_distill::{DistillError, RecordedTeacher, Teacher, TeacherRows, TopRow};

fn row(id: u32) -> TopRow {
    TopRow::new(vec![id], vec![-0.5]).unwrap()
}

#[test]
fn it_knows_the_rows_it_was_asked_about() {
    let first = LabelledSpan::text(&[1, 2, 3], &[None, Some(3), Some(0)]);
    let second = LabelledSpan::text(&[1, 2, 3], &[None, Some(3), None]);
    let silent = LabelledSpan::text(&[4], &[None]);
    let mut teacher = RecordedTeacher::new(5);
    assert!(teacher.is_empty());
    teacher.record(first, vec![row(3), row(0)]).unwrap();
    let error = teacher.record(second, vec![row(3), row(0)]).unwrap_err();
    assert_eq!(error, DistillError::Rows { teacher: 2, student: 1 });
    let error = teacher.record(second, vec![row(5)]).unwrap_err();
    assert!(matches!(error, DistillError::TopRow { .. }), "{error}");
    assert!(teacher.knows(first) && !teacher.knows(second));
    // Rows without labels need nothing to be known of them.
    let said = teacher.rows(&[silent, first]).unwrap();
    assert_eq!(said, TeacherRows::top(vec![row(3), row(0)], 5, 1.0).unwrap());
    let error = teacher.rows(&[first, second]).unwrap_err();
    assert!(error.to_string().contains("row 1 of the batch"), "{error}");
    // What is said again replaces what was said.
    teacher.record(first, vec![row(1), row(2)]).unwrap();
    assert_eq!((teacher.len(), teacher.vocab_size()), (1, 5));
    let said = teacher.rows(&[first]).unwrap();
    assert_eq!(said, TeacherRows::top(vec![row(1), row(2)], 5, 1.0).unwrap());
}

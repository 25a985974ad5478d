//! How much of what a model answers is right.

use lightglm::training::{Accuracy, Conversation};
use lightglm_train::data::{Role, Turn};

fn conversation(turns: &[(Role, &str)]) -> Conversation {
    let turns = turns.iter().map(|(role, content)| Turn::new(*role, *content)).collect();
    Conversation { turns, line: 7, extra: serde_json::Map::new() }
}

#[test]
fn an_answer_is_right_where_it_is_the_wanted_one() {
    let mut faq = conversation(&[(Role::User, "How long?"), (Role::Assistant, "30 days.")]);
    let label = conversation(&[(Role::User, "x"), (Role::Assistant, "card_arrival")]);
    faq.extra.insert("expect".into(), serde_json::json!(["30 days"]));
    let answers = ["You have 30 days for it.", " Card_arrival\n", "card"].map(str::to_owned);
    let rows = [&faq, &label, &label];
    let total = Accuracy::of(&rows, &answers);
    assert_eq!((total.asked, total.right), (3, 2));
    // Who was not asked does not count.
    let total = Accuracy::of(&rows[1..], &answers[1..2]);
    assert_eq!((total.asked, total.right, total.accuracy), (1, 1, 1.0));
    assert_eq!(Accuracy::of(&[], &[]).accuracy, 0.0);
}

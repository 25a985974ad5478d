//! The ledger against a map of everything that was ever said.

use std::collections::HashMap;
use std::sync::Arc;

use lightglm_core::MediaLayout;
use lightglm_generation::media::{MediaIdentity, MediaLedger, epoch_salt};
use lightglm_testkit::SplitMix;

fn content(number: u8) -> (MediaIdentity, MediaLayout, Arc<[f32]>) {
    let rows: Vec<f32> = vec![f32::from(number); 4];
    ([number; 32], MediaLayout::sequence(2), rows.into())
}

/// A million prompts over three ids: ids of one epoch never stand for two contents, and a prefix cache that tells epochs
/// apart by their salt never mixes two prompts.
#[test]
fn a_million_prompts_over_three_ids_mix_nothing_and_leak_nothing() {
    const BYTES: usize = 5 * 16;
    let mut ledger = MediaLedger::new(100, 3, BYTES);
    let mut random = SplitMix::new(20);
    let mut cached: HashMap<(String, Vec<u32>), Vec<u8>> = HashMap::new();
    let (mut epochs, mut shared) = (0, 0);
    for _ in 0..1_000_000 {
        let numbers: Vec<u8> = (0..random.below(3) + 1).map(|_| random.below(8) as u8).collect();
        let contents: Vec<_> = numbers.iter().map(|&number| content(number)).collect();
        let allotted = ledger.allot(&contents).expect("three different ones at most");
        let epoch = allotted[0].epoch;
        assert!(allotted.iter().all(|content| content.epoch == epoch));
        for (content, number) in allotted.iter().zip(&numbers) {
            assert!((100..103).contains(&content.id));
            assert!(content.rows.iter().all(|value| *value == f32::from(*number)));
        }
        // What a cache of this epoch has found under these ids.
        if epoch != epochs {
            cached.clear();
            epochs = epoch;
        }
        let ids: Vec<u32> = allotted.iter().map(|content| content.id).collect();
        let key = (epoch_salt("", &allotted), ids);
        match cached.get(&key) {
            Some(known) => {
                assert_eq!(*known, numbers);
                shared += 1;
            }
            None => {
                cached.insert(key, numbers);
            }
        }
        assert!(ledger.bytes() <= BYTES && ledger.len() <= 5);
    }
    assert!(epochs > 1000 && shared > 1000, "{epochs} epochs, {shared} found");
}

#[test]
fn epochs_have_salts_of_their_own_and_the_first_has_that_of_texts() {
    let mut ledger = MediaLedger::new(0, 1, 1 << 10);
    let mut salts = Vec::new();
    for number in 0..4 {
        let allotted = ledger.allot(&[content(number)]).unwrap();
        salts.push(epoch_salt("tenant", &allotted));
    }
    assert_eq!(salts[0], "tenant");
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), 4);
    assert!(ledger.allot(&[content(1), content(2)]).is_none());
    assert_eq!(ledger.allot(&[content(1), content(1)]).unwrap()[1].id, 0);
}

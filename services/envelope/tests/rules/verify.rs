//! Every tampering with a history is found, and erasing what is personal is none.

use countersign_envelope::domain::id::EnvelopeId;
use countersign_envelope::domain::record::{Record, link};
use countersign_envelope::domain::verify::{Entry, Flaw, Verifier};

use crate::record::story;
use crate::shape::env;

/// The story's history as it is stored, with its envelope's own mark of the last event.
fn stored() -> (Vec<Entry>, u64, [u8; 32]) {
    let play = story();
    let entry = |event: countersign_envelope::domain::record::Recorded| Entry {
        sequence: event.sequence,
        record: event.record,
        prev_hash: event.prev_hash,
        hash: event.hash,
        kept: event.kept,
    };
    (play.history.into_iter().map(entry).collect(), play.envelope.sequence, play.envelope.chain)
}

/// The place and kind of the first flaw.
fn verify(id: EnvelopeId, entries: &[Entry], sequence: u64, chain: &[u8; 32]) -> Result<(), (u64, Flaw)> {
    let mut verifier = Verifier::new(id);
    for entry in entries {
        verifier.follow(entry).map_err(|flaw| (verifier.sequence() + 1, flaw))?;
    }
    verifier.finish(sequence, chain).map_err(|flaw| (verifier.sequence() + 1, flaw))
}

/// What is found once the history has been tampered with.
fn found(tamper: impl FnOnce(&mut Vec<Entry>)) -> Result<(), (u64, Flaw)> {
    let (mut entries, sequence, chain) = stored();
    tamper(&mut entries);
    verify(env(2), &entries, sequence, &chain)
}

/// Links all entries from that index on anew, as somebody would who can write to the database.
fn relink(entries: &mut [Entry], from: usize) {
    for index in from..entries.len() {
        let prev_hash = index.checked_sub(1).map_or([0; 32], |before| entries[before].hash);
        let entry = &mut entries[index];
        entry.prev_hash = prev_hash;
        entry.hash = link(entry.sequence, &prev_hash, &entry.record);
    }
}

#[test]
fn d4_an_untouched_history_verifies() {
    assert_eq!(found(|_| {}), Ok(()));
    let (entries, sequence, chain) = stored();
    let mut verifier = Verifier::new(env(2));
    for entry in &entries {
        verifier.follow(entry).unwrap();
    }
    assert_eq!((verifier.sequence(), verifier.hash()), (sequence, chain));
}

#[test]
fn d4_every_flipped_byte_is_found() {
    let (entries, sequence, chain) = stored();
    for index in 0..entries.len() {
        let place = entries[index].sequence;
        let flip = |change: &dyn Fn(&mut Entry), flaw| {
            let mut tampered = entries.clone();
            change(&mut tampered[index]);
            assert_eq!(verify(env(2), &tampered, sequence, &chain), Err((place, flaw)));
        };
        for byte in (0..entries[index].record.len()).step_by(7) {
            flip(&|entry| entry.record[byte] ^= 1, Flaw::Changed);
        }
        flip(&|entry| entry.hash[31] ^= 1, Flaw::Changed);
        flip(&|entry| entry.prev_hash[0] ^= 1, Flaw::Unlinked);
        let Some((_, kept)) = &entries[index].kept else { continue };
        flip(&|entry| entry.kept.as_mut().unwrap().0[0] ^= 1, Flaw::ParticularsChanged);
        for byte in 0..kept.len() {
            flip(&|entry| entry.kept.as_mut().unwrap().1[byte] ^= 1, Flaw::ParticularsChanged);
        }
    }
}

#[test]
fn d4_every_lost_or_swapped_entry_is_found() {
    let (entries, _, _) = stored();
    let last = entries.len();
    for index in 0..last {
        let place = index as u64 + 1;
        let lost = found(|entries| drop(entries.remove(index)));
        assert_eq!(lost, Err((place, Flaw::Missing)));
        let renumbered = found(|entries| {
            entries.remove(index);
            entries.iter_mut().skip(index).for_each(|entry| entry.sequence -= 1);
        });
        let flaw = if index + 1 == last { Flaw::Missing } else { Flaw::Unlinked };
        assert_eq!(renumbered, Err((place, flaw)));
        for other in index + 1..last {
            assert_eq!(found(|entries| entries.swap(index, other)), Err((place, Flaw::Missing)));
            let renumbered = found(|entries| {
                entries.swap(index, other);
                (entries[index].sequence, entries[other].sequence) = (entries[other].sequence, entries[index].sequence);
            });
            assert_eq!(renumbered, Err((place, Flaw::Unlinked)));
        }
    }
    assert_eq!(found(Vec::clear), Err((1, Flaw::Missing)));
    let twice = found(|entries| entries.insert(1, entries[0].clone()));
    assert_eq!(twice, Err((2, Flaw::Missing)));
}

/// Who can write to the database can make a chain that is right in itself, but not one that belongs here and ends so.
#[test]
fn d4_a_forged_chain_is_found() {
    let (entries, sequence, chain) = stored();
    assert_eq!(verify(env(3), &entries, sequence, &chain), Err((1, Flaw::Misplaced)), "another envelope's");
    let renumbered = found(|entries| {
        entries.remove(3);
        entries.iter_mut().skip(3).for_each(|entry| entry.sequence -= 1);
        relink(entries, 3);
    });
    assert_eq!(renumbered, Err((4, Flaw::Misplaced)), "the record itself says where it belongs");
    let unreadable = found(|entries| {
        entries[2].record = b"nothing".to_vec();
        relink(entries, 2);
    });
    assert_eq!(unreadable, Err((3, Flaw::Misplaced)));
    let rewritten = found(|entries| {
        let mut record: Record = serde_json::from_slice(&entries[4].record).unwrap();
        record.revision += 1;
        entries[4].record = serde_json::to_vec(&record).unwrap();
        relink(entries, 4);
    });
    assert_eq!(rewritten, Err((sequence + 1, Flaw::Head)));
    let shorter = verify(env(2), &entries, sequence - 1, &entries[entries.len() - 2].hash);
    assert_eq!(shorter, Err((sequence + 1, Flaw::Head)), "the envelope knows of fewer");
    assert_eq!(verify(env(2), &entries, sequence, &[0; 32]), Err((sequence + 1, Flaw::Head)));
    assert_eq!(verify(env(2), &[], 0, &[0; 32]), Ok(()));
}

/// T-57: what is personal can be erased, all or in part, and what was not there cannot be added.
#[test]
fn t57_erased_particulars_still_verify() {
    assert_eq!(found(|entries| entries.iter_mut().for_each(|entry| entry.kept = None)), Ok(()));
    let (entries, _, _) = stored();
    let with: Vec<_> = (0..entries.len()).filter(|index| entries[*index].kept.is_some()).collect();
    let [one, other] = with[..2] else { panic!() };
    assert_eq!(found(|entries| entries[one].kept = None), Ok(()));
    let place = entries[one].sequence;
    let exchanged = found(|entries| entries[one].kept = entries[other].kept.clone());
    assert_eq!(exchanged, Err((place, Flaw::ParticularsChanged)));
    let added = found(|entries| {
        let mut record: Record = serde_json::from_slice(&entries[one].record).unwrap();
        record.evidence = None;
        entries[one].record = serde_json::to_vec(&record).unwrap();
        relink(entries, one);
    });
    assert_eq!(added, Err((place, Flaw::ParticularsChanged)));
}

/// Every flaw is found by one of these tests; a new one breaks the build here.
#[test]
fn d4_the_flaws_keep_their_numbers() {
    let number = |flaw| match flaw {
        Flaw::Missing => 1,
        Flaw::Unlinked => 2,
        Flaw::Changed => 3,
        Flaw::Misplaced => 4,
        Flaw::ParticularsChanged => 5,
        Flaw::Head => 6,
    };
    for flaw in [Flaw::Missing, Flaw::Unlinked, Flaw::Changed, Flaw::Misplaced, Flaw::ParticularsChanged, Flaw::Head] {
        assert_eq!(flaw as u8, number(flaw));
    }
}

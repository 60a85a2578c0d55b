//! What somebody with the database's password can do to a history, and that VerifyHistory names it.

use countersign::v1::{EnvelopeStatus, HistoryFlaw, Routing, VerifyHistoryRequest, VerifyHistoryResponse};
use countersign_test_support::{Caller, Service};

/// Events of [`ended`].
const LAST: u64 = 8;

/// An envelope that one signed and another refused: its id on the wire and in the database.
async fn ended(service: &Service, sender: &Caller) -> (String, uuid::Uuid) {
    let story = sender.story(2, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.signer(1).decline("No, thank you").await.unwrap();
    let ended = story.until_artifact().await;
    assert_eq!(ended.status(), EnvelopeStatus::Declined);
    let client = service.database.connect().await;
    let query = "SELECT envelope_id FROM event WHERE convert_from(record, 'UTF8') LIKE '%' || $1 || '%' LIMIT 1";
    let id = client.query_one(query, &[&ended.id]).await.unwrap().get(0);
    (ended.id, id)
}

async fn verify(sender: &Caller, id: &str) -> VerifyHistoryResponse {
    let request = VerifyHistoryRequest { envelope_id: id.to_owned() };
    sender.envelopes().verify_history(request).await.unwrap().into_inner()
}

/// Runs SQL as a superuser who has switched the triggers off; `$e` stands for the envelope's rows.
async fn tamper(service: &Service, id: uuid::Uuid, sql: &str) {
    let sql = sql.replace("$id", &format!("'{id}'")).replace("$e", &format!("envelope_id = '{id}'"));
    let script = format!(
        "BEGIN; ALTER TABLE event DISABLE TRIGGER ALL; ALTER TABLE event_particulars DISABLE TRIGGER ALL; {sql};
         ALTER TABLE event ENABLE TRIGGER ALL; ALTER TABLE event_particulars ENABLE TRIGGER ALL; COMMIT"
    );
    service.database.connect().await.batch_execute(&script).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The hash that belongs to a record, in SQL.
const LINK: &str = "sha256('\\x00'::bytea || int8send(sequence) || prev_hash || sha256(record))";

/// What is done, and which entry is then the first bad one, and why.
fn tampers() -> Vec<(&'static str, String, u64, HistoryFlaw)> {
    use HistoryFlaw::{Changed, Head, Misplaced, Missing, ParticularsChanged, Unlinked};
    let flip = "UPDATE event SET record = set_byte(record, 40, get_byte(record, 40) # 1) WHERE $e AND sequence = ";
    let swap = |what: &str| {
        format!(
            "UPDATE event SET {what} FROM event AS o WHERE event.$e AND o.$e AND event.sequence IN (3, 4) AND o.sequence = 7 - event.sequence"
        )
    };
    let rewrite = |sequence: u64| {
        format!(
            "UPDATE event SET record = convert_to(replace(convert_from(record, 'UTF8'), '\"form\":1', '\"form\":2'), 'UTF8')
             WHERE $e AND sequence = {sequence};
             UPDATE event SET hash = {LINK} WHERE $e AND sequence = {sequence}"
        )
    };
    let of_stranger = "UPDATE event SET record = o.record, hash = o.hash
        FROM (SELECT record, hash FROM event WHERE envelope_id <> $id AND sequence = 1 LIMIT 1) AS o
        WHERE $e AND sequence = 1";
    let garbage = format!(
        "UPDATE event SET record = 'no record' WHERE $e AND sequence = 8;
         UPDATE event SET hash = {LINK} WHERE $e AND sequence = 8"
    );
    let close = "; UPDATE event SET sequence = sequence - 1 WHERE $e AND sequence > 3";
    let particulars = |what: &str| format!("UPDATE event_particulars SET {what} WHERE $e AND sequence = 6");
    vec![
        ("a byte of the first", format!("{flip} 1"), 1, Changed),
        ("a byte in the middle", format!("{flip} 5"), 5, Changed),
        ("a byte of the last", format!("{flip} 8"), 8, Changed),
        ("two records swapped", swap("record = o.record"), 3, Changed),
        ("two entries swapped", swap("record = o.record, prev_hash = o.prev_hash, hash = o.hash"), 3, Unlinked),
        ("a hash", "UPDATE event SET hash = sha256(hash) WHERE $e AND sequence = 4".into(), 4, Changed),
        ("a link", "UPDATE event SET prev_hash = sha256(hash) WHERE $e AND sequence = 4".into(), 4, Unlinked),
        ("the first deleted", "DELETE FROM event WHERE $e AND sequence = 1".into(), 1, Missing),
        ("one deleted", "DELETE FROM event WHERE $e AND sequence = 3".into(), 3, Missing),
        ("one deleted, the gap closed", format!("DELETE FROM event WHERE $e AND sequence = 3{close}"), 3, Unlinked),
        ("the last deleted", "DELETE FROM event WHERE $e AND sequence = 8".into(), LAST, Missing),
        ("all deleted", "DELETE FROM event WHERE $e".into(), 1, Missing),
        ("one rewritten with its hash", rewrite(3), 4, Unlinked),
        ("the last rewritten with its hash", rewrite(8), LAST, Head),
        ("that of another envelope", of_stranger.into(), 1, Misplaced),
        ("no record at all", garbage, LAST, Misplaced),
        ("a reason", particulars("content = convert_to('{\"reason\":\"Yes\"}', 'UTF8')"), 6, ParticularsChanged),
        ("a salt", particulars("salt = decode(repeat('ab', 16), 'hex')"), 6, ParticularsChanged),
        ("a reason for another entry", particulars("sequence = 7"), 7, ParticularsChanged),
        ("the head", "UPDATE envelope SET chain = sha256(chain) WHERE id = $id".into(), LAST, Head),
    ]
}

/// D4: whatever is changed, swapped or deleted, the first bad entry is named, and with what is wrong with it.
#[tokio::test(flavor = "multi_thread")]
async fn d4_each_tampering_is_found_and_named() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (untouched, _) = ended(&service, &sender).await;
    for (name, sql, bad, flaw) in tampers() {
        let (id, uuid) = ended(&service, &sender).await;
        let whole = verify(&sender, &id).await;
        assert!(whole.intact && whole.flaw() == HistoryFlaw::Unspecified, "{name}");
        assert_eq!((whole.intact_entries, whole.first_bad_sequence), (LAST, 0), "{name}");
        tamper(&service, uuid, &sql).await;
        let found = verify(&sender, &id).await;
        assert_eq!((found.intact, found.first_bad_sequence, found.flaw()), (false, bad, flaw), "{name}");
        let good = if flaw == HistoryFlaw::Head { bad } else { bad - 1 };
        assert_eq!((found.intact_entries, found.head_hash.len()), (good, 64), "{name}");
    }
    let found = verify(&sender, &untouched).await;
    assert_eq!(found.intact_entries, LAST, "each history stands for itself");
}

/// D4: any byte of any record, from the first to the last.
#[tokio::test(flavor = "multi_thread")]
async fn d4_any_flipped_byte_is_found() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (id, uuid) = ended(&service, &sender).await;
    let client = service.database.connect().await;
    let query = format!("SELECT sequence, length(record) FROM event WHERE envelope_id = '{uuid}' ORDER BY sequence");
    for row in client.query(&query, &[]).await.unwrap() {
        let (sequence, length): (i64, i32) = (row.get(0), row.get(1));
        for at in [0, 1, length / 3, length / 2, length - 2, length - 1] {
            let flip = format!("UPDATE event SET record = set_byte(record, {at}, get_byte(record, {at}) # 4)");
            let flip = format!("{flip} WHERE $e AND sequence = {sequence}");
            tamper(&service, uuid, &flip).await;
            let found = verify(&sender, &id).await;
            let told = (found.intact, found.first_bad_sequence, found.flaw());
            assert_eq!(told, (false, sequence.unsigned_abs(), HistoryFlaw::Changed), "{at} of {sequence}");
            tamper(&service, uuid, &flip).await;
        }
    }
    assert!(verify(&sender, &id).await.intact, "all is as it was");
}

/// D4: an entry that nobody wrote does not pass for one that was.
#[tokio::test(flavor = "multi_thread")]
async fn d4_an_entry_put_at_the_end_is_found() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (id, uuid) = ended(&service, &sender).await;
    let forge = "INSERT INTO event (account_id, envelope_id, sequence, id, kind, occurred_at, record, prev_hash, hash)
         SELECT account_id, envelope_id, 9, gen_random_uuid(), kind, occurred_at,
             convert_to(replace(convert_from(record, 'UTF8'), '\"sequence\":8', '\"sequence\":9'), 'UTF8'), hash, hash
         FROM event WHERE $e AND sequence = 8";
    let hash = format!("UPDATE event SET hash = {LINK} WHERE $e AND sequence = 9");
    tamper(&service, uuid, &format!("{forge}; {hash}")).await;
    let shown = sender.history(&id).await.unwrap().len() as u64;
    let found = verify(&sender, &id).await;
    assert!(!found.intact || shown == LAST, "{shown} entries are shown, and said to be as they were written");
}

/// D4, T-57: what is personal can be erased, and the history still proves itself.
#[tokio::test(flavor = "multi_thread")]
async fn t57_an_erased_reason_leaves_the_history_whole() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (id, uuid) = ended(&service, &sender).await;
    let before = sender.history(&id).await.unwrap();
    assert_eq!(before[5].reason, "No, thank you");
    let client = service.database.connect().await;
    let erase = format!("DELETE FROM event_particulars WHERE envelope_id = '{uuid}'");
    assert!(client.execute(&erase, &[]).await.expect("no trigger forbids it") > 0);
    let verified = verify(&sender, &id).await;
    assert_eq!((verified.intact, verified.intact_entries), (true, LAST));
    let after = sender.history(&id).await.unwrap();
    assert_eq!(after[5].reason, "");
    let events =
        |history: &[countersign::v1::HistoryEntry]| history.iter().map(|it| it.event.clone()).collect::<Vec<_>>();
    assert_eq!(events(&after), events(&before), "the events are as they were");
}

/// D4: by plain SQL nobody changes or deletes an event.
#[tokio::test(flavor = "multi_thread")]
async fn d4_the_history_is_append_only() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (id, _) = ended(&service, &sender).await;
    let client = service.database.connect().await;
    for sql in ["UPDATE event SET kind = 1", "DELETE FROM event", "TRUNCATE event CASCADE"] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert!(format!("{error:?}").contains("append-only"), "{sql}: {error:?}");
    }
    assert!(verify(&sender, &id).await.intact);
}

//! Lists by every filter, and as fresh as asked for.

use std::collections::BTreeSet;

use countersign::v1::{
    CreateEnvelopeRequest, Envelope, EnvelopeChanges, EnvelopeRevision, EnvelopeStatus, Freshness,
    ListEnvelopesRequest, ListEnvelopesResponse, ReplaceEnvelopeRequest, Routing, UpdateEnvelopeRequest,
};
use countersign_chassis::clock::Clock;
use countersign_test_support::client::request;
use countersign_test_support::plans::Plans;
use countersign_test_support::{Caller, Database, Errors as _, Service};
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};

async fn list(caller: &Caller, request: ListEnvelopesRequest) -> Result<ListEnvelopesResponse, Status> {
    Ok(caller.envelopes().list_envelopes(request).await?.into_inner())
}

/// The ids on all pages, each of two.
async fn all(caller: &Caller, request: &ListEnvelopesRequest) -> Vec<String> {
    let (mut ids, mut request) = (Vec::new(), ListEnvelopesRequest { page_size: 2, ..request.clone() });
    loop {
        let page = list(caller, request.clone()).await.unwrap();
        assert!(page.envelopes.len() <= 2);
        ids.extend(page.envelopes.into_iter().map(|it| it.id));
        if page.next_page_token.is_empty() {
            return ids;
        }
        request.page_token = page.next_page_token;
    }
}

async fn made(caller: &Caller, email: &str, metadata: &[(&str, &str)], send: bool) -> Envelope {
    let mut form = CreateEnvelopeRequest { ..request(2, Routing::Parallel, send) };
    form.recipients[1].email = email.to_owned();
    form.metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    caller.create(form).await.unwrap()
}

fn by_metadata(metadata: &[(&str, &str)]) -> ListEnvelopesRequest {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ListEnvelopesRequest { metadata, ..Default::default() }
}

fn by_email(email: &str) -> ListEnvelopesRequest {
    ListEnvelopesRequest { recipient_email: email.to_owned(), ..Default::default() }
}

/// The filters by which a list is asked for, and what of the envelopes they let through.
type Case<'a> = (ListEnvelopesRequest, Box<dyn Fn(&Envelope) -> bool + 'a>);

/// S3.74 to S3.76: each filter alone and with others lets through exactly what fits, newest first, over pages of any size.
#[tokio::test(flavor = "multi_thread")]
async fn s3_74_filters_are_exact_and_go_together() {
    let service = Service::start().await;
    let (sender, stranger) = (service.account(false).await, service.account(false).await);
    made(&stranger, "ann@example.com", &[("order", "7")], true).await;
    let mut envelopes = Vec::new();
    for index in 0..12 {
        let email = if index % 3 == 0 { "Ann@Example.com" } else { "bob@example.com" };
        let order = if index % 4 == 0 { "7" } else { "8" };
        let envelope = made(&sender, email, &[("order", order), ("desk", "north")], index % 2 == 0).await;
        envelopes.push(sender.get(&envelope.id).await.unwrap());
    }
    let time = |index: usize| envelopes[index].created_at;
    let seconds = |time: Option<Timestamp>| time.map(|it| (it.seconds, it.nanos));
    let sent = EnvelopeStatus::Sent;
    let has = |envelope: &Envelope, key: &str, value: &str| envelope.metadata.get(key).is_some_and(|it| it == value);
    let ann = |envelope: &Envelope| envelope.recipients[1].email == "Ann@Example.com";
    let all_of = by_metadata(&[("order", "7"), ("desk", "north")]);
    let cases: Vec<Case<'_>> = vec![
        (ListEnvelopesRequest::default(), Box::new(|_| true)),
        (ListEnvelopesRequest { status: sent.into(), ..Default::default() }, Box::new(|it| it.status() == sent)),
        (by_email("ANN@example.COM "), Box::new(ann)),
        (by_email("nobody@example.com"), Box::new(|_| false)),
        (by_metadata(&[("order", "7")]), Box::new(|it| has(it, "order", "7"))),
        (all_of.clone(), Box::new(|it| has(it, "order", "7"))),
        (by_metadata(&[("order", "7"), ("desk", "south")]), Box::new(|_| false)),
        (by_metadata(&[("orde", "r7")]), Box::new(|_| false)),
        (
            ListEnvelopesRequest { created_from: time(3), created_before: time(9), ..Default::default() },
            Box::new(|it| (seconds(time(3))..seconds(time(9))).contains(&seconds(it.created_at))),
        ),
        (
            ListEnvelopesRequest { status: sent.into(), recipient_email: "ann@example.com".into(), ..all_of },
            Box::new(|it| it.status() == sent && ann(it) && has(it, "order", "7")),
        ),
        (
            ListEnvelopesRequest { created_before: time(6), ..by_email("ann@example.com") },
            Box::new(|it| ann(it) && seconds(it.created_at) < seconds(time(6))),
        ),
    ];
    for (request, fits) in &cases {
        let expected: Vec<_> = envelopes.iter().rev().filter(|it| fits(it)).map(|it| it.id.clone()).collect();
        assert_eq!(all(&sender, request).await, expected, "{request:?}");
    }
    assert!(cases.iter().filter(|(_, fits)| envelopes.iter().any(fits)).count() > 7);
}

/// S3.74: what no longer fits is not found any more: metadata that were changed, addresses that were, and what was purged.
#[tokio::test(flavor = "multi_thread")]
async fn s3_74_a_list_follows_what_is_changed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let draft = made(&sender, "ann@example.com", &[("order", "7"), ("desk", "north")], false).await;
    let metadata = [("order".to_owned(), "9".to_owned()), ("desk".to_owned(), "north".to_owned())].into();
    let changes = Some(EnvelopeChanges { metadata, ..Default::default() });
    let update_mask = Some(FieldMask { paths: vec!["metadata".into()] });
    let update = UpdateEnvelopeRequest { envelope_id: draft.id.clone(), changes, update_mask, ..Default::default() };
    sender.envelopes().update_envelope(update).await.unwrap();
    assert!(all(&sender, &by_metadata(&[("order", "7")])).await.is_empty());
    for entry in [("order", "9"), ("desk", "north")] {
        assert_eq!(all(&sender, &by_metadata(&[entry])).await, [draft.id.as_str()]);
    }
    let story = sender.story(1, Routing::Parallel).await;
    story.signer(0).decline("no").await.unwrap();
    let owing = |owes| ListEnvelopesRequest { requires_replacement: Some(owes), ..Default::default() };
    let declined = story.until(EnvelopeStatus::Declined).await;
    // What comes in the place of another has its id from before the lock: it is found from its own time on all the same.
    let replaced = ReplaceEnvelopeRequest { envelope_id: declined.id.clone(), ..Default::default() };
    let replacement = sender.envelopes().replace_envelope(replaced).await.unwrap().into_inner().envelope.unwrap();
    let created_from = replacement.created_at;
    let since = ListEnvelopesRequest { created_from, ..Default::default() };
    assert_eq!(all(&sender, &since).await, [replacement.id.as_str()]);
    let until = ListEnvelopesRequest { created_before: created_from, ..Default::default() };
    assert!(!all(&sender, &until).await.contains(&replacement.id));
    let (owes, rest) = (all(&sender, &owing(true)).await, all(&sender, &owing(false)).await);
    let now = sender.get(&declined.id).await.unwrap();
    assert_eq!(owes.contains(&declined.id), now.requires_replacement);
    let every = [declined.id, draft.id.clone(), replacement.id];
    assert_eq!(owes.into_iter().chain(rest).collect::<BTreeSet<_>>(), every.into());
    // Beside the envelope, what it is found by is as it says.
    let wrong = "SELECT count(*) FROM envelope_metadata AS m JOIN envelope AS e ON e.account_id = m.account_id
        AND e.id = m.envelope_id WHERE NOT EXISTS (SELECT FROM jsonb_each_text(e.metadata) AS it
        WHERE metadata_entry(it.key, it.value) = m.entry)";
    assert_eq!(service.database.number(wrong).await, 0);
    assert_eq!(service.database.number("SELECT count(*) FROM envelope_metadata").await, 2);
}

/// S3.74, C-27: what no list can be asked for is refused by its field, and a page leads to its own list only.
#[tokio::test(flavor = "multi_thread")]
async fn s3_74_bad_filters_are_refused_by_field() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for _ in 0..2 {
        made(&sender, "ann@example.com", &[("order", "7")], false).await;
    }
    let token = list(&sender, ListEnvelopesRequest { page_size: 1, ..by_email("ann@example.com") }).await.unwrap();
    let token = token.next_page_token;
    assert!(!token.is_empty());
    let far = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    let seen = |envelope_id: &str, revision| {
        let seen = Some(EnvelopeRevision { envelope_id: envelope_id.to_owned(), revision });
        ListEnvelopesRequest { seen, ..Default::default() }
    };
    let many = (0..100).map(|index| (format!("key {index}"), String::new())).collect();
    for (request, field) in [
        (by_email("no address"), "recipient_email"),
        (ListEnvelopesRequest { created_from: far, ..Default::default() }, "created_from"),
        (ListEnvelopesRequest { created_before: far, ..Default::default() }, "created_before"),
        (ListEnvelopesRequest { metadata: many, ..Default::default() }, "metadata"),
        (ListEnvelopesRequest { freshness: 9, ..Default::default() }, "freshness"),
        (seen("env_x", 1), "seen.envelope_id"),
        (seen("env_01m8103f19fywsdfyv698bsqre", 0), "seen.revision"),
        (ListEnvelopesRequest { page_token: token.clone(), ..by_email("bob@example.com") }, "page_token"),
        (ListEnvelopesRequest { page_token: token.clone(), ..by_metadata(&[("order", "7")]) }, "page_token"),
    ] {
        let refused = list(&sender, request.clone()).await.unwrap_err();
        assert_eq!((refused.code(), refused.fields()), (Code::InvalidArgument, vec![field.to_owned()]), "{request:?}");
        assert!(!refused.message().contains("no address"));
    }
    // How many are asked for, and how fresh, may change from page to page.
    let freshness = Freshness::Cached.into();
    let next = ListEnvelopesRequest { page_token: token, page_size: 9, freshness, ..by_email("ann@example.com") };
    assert_eq!(list(&sender, next).await.unwrap().envelopes.len(), 1);
}

/// S3.74, S3.75: a page is found by one index however many there are: each walk reads about as many rows as it gives.
#[tokio::test(flavor = "multi_thread")]
async fn s3_75_a_page_costs_the_same_among_many() {
    each_page_costs_what_it_gives(&Database::envelope().await).await;
}

/// The same on cut tables, whose walks are planned to be sorted as a whole unless they are kept from it.
#[tokio::test(flavor = "multi_thread")]
async fn s3_75_a_page_costs_the_same_where_tables_are_cut() {
    each_page_costs_what_it_gives(&Database::envelope_in(8).await).await;
}

async fn each_page_costs_what_it_gives(database: &Database) {
    let (plans, database) = Plans::of(database).await;
    let service = Service::start_on(database, Clock::database(), tempfile::tempdir().unwrap()).await;
    let sender = service.account(false).await;
    let one = made(&sender, "ann@example.com", &[("order", "7")], true).await;
    let client = service.database.connect().await;
    // Twenty thousand more like it, of other people and orders.
    let copies = "
        CREATE TEMP TABLE one AS SELECT * FROM envelope;
        CREATE TEMP TABLE two AS SELECT * FROM recipient;
        DO $$
        DECLARE columns text; others text;
        BEGIN
            SELECT string_agg(quote_ident(column_name), ', '), string_agg(CASE column_name WHEN 'id' THEN 'gen_random_uuid()'
                ELSE quote_ident(column_name) END, ', ') INTO columns, others
            FROM information_schema.columns WHERE table_name = 'envelope' AND is_generated = 'NEVER' AND table_schema = 'public';
            EXECUTE format('INSERT INTO envelope (%s) SELECT %s FROM one, generate_series(1, 20000)', columns, others);
        END $$;
        INSERT INTO envelope_metadata SELECT account_id, metadata_entry('order', id::text), id FROM envelope WHERE id NOT IN (SELECT id FROM one);
        DO $$
        DECLARE columns text; others text;
        BEGIN
            SELECT string_agg(quote_ident(column_name), ', '), string_agg(CASE column_name WHEN 'envelope_id' THEN 'e.id'
                WHEN 'address' THEN '''bob@example.com''' ELSE 't.' || quote_ident(column_name) END, ', ') INTO columns, others
            FROM information_schema.columns WHERE table_name = 'recipient' AND is_generated = 'NEVER' AND table_schema = 'public';
            EXECUTE format('INSERT INTO recipient (%s) SELECT %s FROM two AS t, envelope AS e WHERE e.id NOT IN (SELECT id FROM one)', columns, others);
        END $$;
        ANALYZE";
    client.batch_execute(copies).await.unwrap();
    let mut worst = 0.0_f64;
    for request in [
        ListEnvelopesRequest::default(),
        ListEnvelopesRequest { status: EnvelopeStatus::Sent.into(), ..Default::default() },
        ListEnvelopesRequest { requires_replacement: Some(true), ..Default::default() },
        by_email("ann@example.com"),
        by_email("bob@example.com"),
        by_metadata(&[("order", "7")]),
        ListEnvelopesRequest { recipient_email: "bob@example.com".into(), ..by_metadata(&[("order", "7")]) },
    ] {
        let _ = plans.take();
        let given = list(&sender, request.clone()).await.unwrap().envelopes.len();
        let ran = plans
            .take()
            .into_iter()
            .filter(|ran| !ran.is_across_accounts && ran.statement.contains("requires_replacement"));
        let rows: f64 = ran.map(|ran| ran.rows).sum();
        assert!(rows <= 4.0 * f64::from(u32::try_from(given).unwrap()) + 8.0, "{request:?}: {rows} rows for {given}");
        worst = worst.max(rows);
    }
    let found = list(&sender, by_metadata(&[("order", "7")])).await.unwrap().envelopes;
    assert_eq!(found.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [one.id.as_str()]);
    assert!(worst >= 50.0, "something was counted");
}

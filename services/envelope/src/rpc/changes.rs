//! ListStatusChanges: the feed page by page, for those who cannot hold a stream open.

use countersign::v1;
use countersign_chassis::problem::Problem;
use tonic::Status;

use super::auth::Sender;
use super::parse::{Faults, page_size};
use super::reading::Reading;
use super::watch::known;
use super::{Context, Handler};
use crate::store::PARTS;

/// Events on a page: default and most.
const EVENTS: (i64, i64) = (100, 500);
/// Bytes of a page's events: well below what gRPC clients take by default, 4 MiB.
const BYTES_MAX: usize = 1024 * 1024;
/// Events that are looked for at least, also for a smaller page: one of each partition, so that none waits for others.
const LOOK_MIN: usize = PARTS as usize;
/// How often a call looks further where the filters let little through.
const LOOKS_MAX: usize = 8;

impl Handler {
    pub(super) async fn changes(
        &self,
        sender: Option<Sender>,
        request: v1::ListStatusChangesRequest,
    ) -> Result<v1::ListStatusChangesResponse, Status> {
        let mut faults = Faults::default();
        let most = page_size(&mut faults, request.page_size, EVENTS.0, EVENTS.1);
        faults.finish()?;
        let most = usize::try_from(most).unwrap_or_default();
        let context = &self.0;
        let heads = known(&mut context.tail.end()).await?;
        if !context.tail.sees() {
            // It would say that there is nothing more without knowing it.
            return Err(Problem::unavailable().into());
        }
        let from_now = request.resume_token.is_empty() && request.start != i32::from(v1::WatchStart::Oldest);
        let mut reading = Reading::new(context, sender, &as_watched(request), &heads)?;
        reading.check(context, &heads).await?;
        if from_now {
            // An event between the look at the end and now would be on the page.
            return Ok(page(context, &reading, Vec::new(), true));
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        for _ in 0..LOOKS_MAX {
            let next = reading.next(context, (most - events.len()).max(LOOK_MIN)).await?;
            for told in &next.told {
                bytes += told.bytes;
                if events.len() >= most || (bytes > BYTES_MAX && !events.is_empty()) {
                    return Ok(page(context, &reading, events, false));
                }
                let event = told.event.clone().ok_or_else(|| Status::from(Problem::internal()))?;
                if let Some(position) = reading.positions.get_mut(told.at.part) {
                    *position = told.at.position;
                }
                events.push(event);
            }
            reading.positions = next.reached;
            if next.caught_up || events.len() >= most {
                return Ok(page(context, &reading, events, next.caught_up));
            }
        }
        Ok(page(context, &reading, events, false))
    }
}

fn page(
    context: &Context,
    reading: &Reading,
    events: Vec<v1::Event>,
    caught_up: bool,
) -> v1::ListStatusChangesResponse {
    v1::ListStatusChangesResponse { events, resume_token: reading.token(context), caught_up }
}

/// What a stream from there would tell.
fn as_watched(request: v1::ListStatusChangesRequest) -> v1::WatchStatusChangesRequest {
    v1::WatchStatusChangesRequest {
        resume_token: request.resume_token,
        start: request.start,
        types: request.types,
        envelope_id: request.envelope_id,
        partitions: request.partitions,
        account_id: request.account_id,
        livemode: request.livemode,
    }
}

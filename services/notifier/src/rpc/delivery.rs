//! Calls about deliveries: parse, act, render.

use chrono::{DateTime, Utc};
use countersign::v1;
use countersign::v1::{DeliveryState, ErrorReason, EventType};
use countersign_chassis::once::Claimed;
use countersign_chassis::problem::Problem;
use prost::Message as _;
use tonic::Status;
use uuid::Uuid;

use super::caller::Sender;
use super::cursor::{self, Purpose};
use super::parse::{Faults, delivery_id, endpoint_id, malformed, read_delivery_id};
use super::{Handler, database, render};
use crate::id::{EndpointId, EventId};
use crate::store::{Endpoint, Filter, LoggedDelivery, Named, Redelivery, Standing, Told};
use crate::webhook::deliver::event_id;
use crate::webhook::plan::{body, endpoint_event};

/// Deliveries on a page: usually, and at most.
const PAGE: (u32, u32) = (50, 100);
/// Deliveries that are put into the queue again at once.
const REDELIVERED_MAX: usize = 1_000;

impl Handler {
    pub(super) async fn deliveries(
        &self,
        sender: Sender,
        request: &v1::ListDeliveriesRequest,
    ) -> Result<v1::ListDeliveriesResponse, Status> {
        let mut faults = Faults::default();
        let limit = faults.page_size(request.page_size, PAGE.0, PAGE.1);
        let bare = v1::ListDeliveriesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let bare = bare.encode_to_vec();
        let purpose = Purpose { call: "deliveries", scope: sender.scope(), filter: &bare };
        let filter = Filter {
            endpoint: faults.endpoint("endpoint_id", &request.endpoint_id),
            state: faults.state("state", request.state),
            envelope: faults.envelope("envelope_id", &request.envelope_id),
            since: faults.time("since", request.since.as_ref()),
            until: faults.time("until", request.until.as_ref()),
            after: self.page_start(&purpose, &request.page_token, &mut faults).and_then(|content| place(&content)),
        };
        faults.finish()?;
        let listed = self.store.deliveries(sender.scope(), &filter, limit + 1).await;
        let mut listed = listed.map_err(|error| database(&error))?;
        let limit = usize::try_from(limit).unwrap_or_default();
        let more = listed.len() > limit;
        listed.truncate(limit);
        let last = listed.last().filter(|_| more);
        let next_page_token = last.map(|last| cursor::seal(&self.pages, &purpose, &write(last))).unwrap_or_default();
        Ok(v1::ListDeliveriesResponse { deliveries: listed.iter().map(render::delivery).collect(), next_page_token })
    }

    pub(super) async fn delivery(
        &self,
        sender: Sender,
        request: &v1::GetDeliveryRequest,
    ) -> Result<v1::GetDeliveryResponse, Status> {
        let id = read_delivery_id(&request.delivery_id)
            .ok_or_else(|| malformed("delivery_id", "must be an id that ListDeliveries gave"))?;
        let found = self.store.delivery(sender.scope(), id).await.map_err(|error| database(&error))?;
        let (delivery, attempts) = found.ok_or_else(|| Status::from(Problem::not_found()))?;
        let attempts = attempts.iter().map(render::attempt).collect();
        Ok(v1::GetDeliveryResponse { delivery: Some(render::delivery(&delivery)), attempts })
    }

    pub(super) async fn redeliver(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::RedeliverEventsRequest,
    ) -> Result<v1::RedeliverEventsResponse, Status> {
        let now = self.store.clock().now();
        let wanted = redelivery(request, now)?;
        if let Redelivery::Range(endpoint, ..) = &wanted {
            active(&self.get(sender, &endpoint.to_string()).await?)?;
        }
        let kept = |redelivered: u32| v1::RedeliverEventsResponse { redelivered }.encode_to_vec();
        let most = i64::try_from(REDELIVERED_MAX).unwrap_or(i64::MAX);
        let once = claimed.map(|claimed| &claimed.once);
        let redelivered = self.store.redeliver(sender.scope(), &wanted, most, once, kept).await;
        let redelivered = redelivered.map_err(|error| database(&error))?;
        self.wake.notify_one();
        Ok(v1::RedeliverEventsResponse { redelivered })
    }

    pub(super) async fn test(
        &self,
        sender: Sender,
        claimed: Option<&Claimed>,
        request: &v1::SendTestEventRequest,
    ) -> Result<v1::SendTestEventResponse, Status> {
        let id = endpoint_id(&request.endpoint_id)?;
        active(&self.get(sender, &request.endpoint_id).await?)?;
        let at = self.store.clock().now();
        let event = endpoint_event(EventType::EndpointTest, sender.scope(), id, event_id(at), at);
        let bytes = body(&event).map_err(|error| {
            tracing::error!(error = error.to_string(), "no test event");
            Status::from(Problem::internal())
        })?;
        let event: EventId = event.id.parse().map_err(|_| Status::from(Problem::internal()))?;
        let test = Told { event, kind: EventType::EndpointTest as i16, body: bytes };
        let reply = v1::SendTestEventResponse { delivery_id: delivery_id(event, id) };
        let named = Named { account: sender.account, livemode: sender.livemode, id };
        let once = claimed.map(|claimed| &claimed.once);
        let sent = self.store.test_event(named, &test, once, reply.encode_to_vec()).await;
        if !sent.map_err(|error| database(&error))? {
            // It was active a moment ago.
            return Err(Problem::unavailable().into());
        }
        self.wake.notify_one();
        Ok(reply)
    }
}

fn active(endpoint: &Endpoint) -> Result<(), Status> {
    let standing = endpoint.standing();
    if standing == Standing::Active {
        return Ok(());
    }
    let state = render::state(standing).as_str_name().trim_start_matches("WEBHOOK_ENDPOINT_STATE_");
    let message = "Nothing is posted to the endpoint now.";
    Err(Problem::new(ErrorReason::EndpointNotActive, message).with("current_state", state).into())
}

fn redelivery(request: &v1::RedeliverEventsRequest, now: DateTime<Utc>) -> Result<Redelivery, Status> {
    let mut faults = Faults::default();
    let ids = &request.delivery_ids;
    if ids.is_empty() == request.endpoint_id.is_empty() {
        faults.add("delivery_ids", "either these or `endpoint_id` must be given");
    }
    if ids.len() > REDELIVERED_MAX {
        faults.add("delivery_ids", format!("must not be more than {REDELIVERED_MAX}"));
    }
    let mut these = Vec::new();
    for (place, id) in ids.iter().take(REDELIVERED_MAX).enumerate() {
        match read_delivery_id(id) {
            Some(id) => these.push(id),
            None => faults.add(format!("delivery_ids[{place}]"), "must be an id that ListDeliveries gave"),
        }
    }
    let endpoint = faults.endpoint("endpoint_id", &request.endpoint_id);
    let since = faults.time("since", request.since.as_ref());
    let until = faults.time("until", request.until.as_ref());
    if endpoint.is_some() && request.since.is_none() {
        faults.add("since", "is needed with `endpoint_id`");
    }
    let over = [DeliveryState::Delivered, DeliveryState::Dead, DeliveryState::Cancelled];
    for (place, given) in request.states.iter().enumerate().take(PAGE.0 as usize) {
        if !over.iter().any(|state| *state as i32 == *given) {
            faults.add(format!("states[{place}]"), "must be DELIVERED, DEAD or CANCELLED");
        }
    }
    let mut states: Vec<i16> = request.states.iter().filter_map(|state| i16::try_from(*state).ok()).collect();
    if states.is_empty() {
        states = vec![DeliveryState::Dead as i16, DeliveryState::Cancelled as i16];
    }
    faults.finish()?;
    match (endpoint, since) {
        (Some(endpoint), Some(since)) => Ok(Redelivery::Range(endpoint, since, until.unwrap_or(now), states)),
        _ => Ok(Redelivery::These(these)),
    }
}

/// A place in the list, for a token.
fn write(last: &LoggedDelivery) -> Vec<u8> {
    let mut bytes = last.created_at.timestamp_micros().to_be_bytes().to_vec();
    bytes.extend(last.event.uuid().as_bytes());
    bytes.extend(last.endpoint.uuid().as_bytes());
    bytes
}

fn place(content: &[u8]) -> Option<(DateTime<Utc>, EventId, EndpointId)> {
    let (at, rest) = content.split_first_chunk::<8>()?;
    let at = DateTime::from_timestamp_micros(i64::from_be_bytes(*at))?;
    let (event, endpoint) = rest.split_at_checked(16)?;
    let (event, endpoint) = (Uuid::from_slice(event).ok()?, Uuid::from_slice(endpoint).ok()?);
    Some((at, EventId::from_uuid(event), EndpointId::from_uuid(endpoint)))
}

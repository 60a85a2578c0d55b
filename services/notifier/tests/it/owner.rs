//! What owners of endpoints do over the wire, and a receiver of theirs that knows its secret.
//! Must never answer a challenge by anything but the documented recipe.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use countersign::v1;
use countersign::v1::DeliveryState;
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost_types::FieldMask;
use tokio::net::TcpListener;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::endpoints::{Serving, by};
use crate::receiver::until;

/// A receiver that knows its secret and answers challenges.
pub struct Knowing {
    pub url: String,
    pub secret: Arc<Mutex<String>>,
    pub kept: Arc<Mutex<Vec<(HeaderMap, axum::body::Bytes)>>>,
}

fn key_of(secret: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or_default()).unwrap()
}

fn response(secret: &str, challenge: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key_of(secret)).unwrap();
    mac.update(challenge.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

impl Knowing {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (secret, kept) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (knows, keeps) = (Arc::clone(&secret), Arc::clone(&kept));
        let take = move |headers: HeaderMap, body: axum::body::Bytes| {
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            keeps.lock().unwrap().push((headers, body));
            let answer = match json["type"].as_str() {
                Some("endpoint.challenge") => {
                    let response = response(&knows.lock().unwrap(), json["data"]["challenge"].as_str().unwrap());
                    serde_json::json!({ "response": response }).to_string()
                }
                _ => String::new(),
            };
            async { (StatusCode::OK, answer) }
        };
        let router = axum::Router::new().fallback(axum::routing::post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, secret, kept }
    }

    pub fn types(&self) -> Vec<String> {
        let json = |body: &axum::body::Bytes| -> serde_json::Value { serde_json::from_slice(body).unwrap() };
        self.kept.lock().unwrap().iter().map(|(_, body)| json(body)["type"].as_str().unwrap().to_owned()).collect()
    }
}

pub type Answered<T> = Result<T, Status>;

impl Serving {
    pub async fn verify(&self, key: &str, id: &str) -> Answered<v1::WebhookEndpoint> {
        let request = by(key, v1::VerifyWebhookEndpointRequest { endpoint_id: id.to_owned(), ..Default::default() });
        self.client.clone().verify_webhook_endpoint(request).await.map(|it| it.into_inner().endpoint.unwrap())
    }

    pub async fn get(&self, key: &str, id: &str) -> Answered<v1::WebhookEndpoint> {
        let request = by(key, v1::GetWebhookEndpointRequest { endpoint_id: id.to_owned() });
        self.client.clone().get_webhook_endpoint(request).await.map(|it| it.into_inner().endpoint.unwrap())
    }

    pub async fn update(
        &self,
        key: &str,
        id: &str,
        changes: v1::WebhookEndpointChanges,
        mask: &[&str],
    ) -> Answered<v1::WebhookEndpoint> {
        let paths = mask.iter().map(|path| (*path).to_owned()).collect();
        let request = v1::UpdateWebhookEndpointRequest {
            endpoint_id: id.to_owned(),
            changes: Some(changes),
            update_mask: Some(FieldMask { paths }),
            ..Default::default()
        };
        self.client.clone().update_webhook_endpoint(by(key, request)).await.map(|it| it.into_inner().endpoint.unwrap())
    }

    pub async fn test(&self, key: &str, id: &str) -> Answered<String> {
        let request = by(key, v1::SendTestEventRequest { endpoint_id: id.to_owned(), ..Default::default() });
        self.client.clone().send_test_event(request).await.map(|it| it.into_inner().delivery_id)
    }

    pub async fn deliveries(
        &self,
        key: &str,
        request: v1::ListDeliveriesRequest,
    ) -> Answered<v1::ListDeliveriesResponse> {
        self.client.clone().list_deliveries(by(key, request)).await.map(tonic::Response::into_inner)
    }

    pub async fn delivery(&self, key: &str, id: &str) -> Answered<v1::GetDeliveryResponse> {
        let request = by(key, v1::GetDeliveryRequest { delivery_id: id.to_owned() });
        self.client.clone().get_delivery(request).await.map(tonic::Response::into_inner)
    }

    pub async fn redeliver(&self, key: &str, request: v1::RedeliverEventsRequest) -> Answered<u32> {
        self.client.clone().redeliver_events(by(key, request)).await.map(|it| it.into_inner().redelivered)
    }

    /// Until that delivery is over.
    pub async fn over(&self, key: &str, id: &str) -> v1::GetDeliveryResponse {
        until(async || {
            let delivery = self.delivery(key, id).await.unwrap().delivery.unwrap();
            delivery.state() != DeliveryState::Pending && delivery.attempts > 0
        })
        .await;
        self.delivery(key, id).await.unwrap()
    }
}

pub fn violated(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|it| it.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

pub fn fact(status: &Status, name: &str) -> String {
    status.get_details_error_info().and_then(|info| info.metadata.get(name).cloned()).unwrap_or_default()
}

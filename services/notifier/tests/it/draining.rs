//! The end of a process: calls that are open are answered. Must never lose the one reply that shows a secret.

use std::time::Duration;

use countersign::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::endpoints::{Serving, by, reason};

/// While a receiver takes its time over its challenge, the process is told to stop.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_call_is_answered_before_the_end() {
    let serving = Serving::with(|config| config.webhook_challenge = true).await;
    let key = serving.key(serving.stand.account, true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let endpoint_id = serving.create(&key, &url).await.unwrap().endpoint.unwrap().id;
    let request = by(&key, v1::VerifyWebhookEndpointRequest { endpoint_id, ..Default::default() });
    let mut client = serving.client.clone();
    let asking = tokio::spawn(async move { client.verify_webhook_endpoint(request).await });
    let (mut receiver, _) = listener.accept().await.unwrap();
    assert!(receiver.read(&mut [0; 4096]).await.unwrap() > 0);

    serving.stand.stop.cancel();
    tokio::time::sleep(Duration::from_millis(300)).await;
    receiver.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let refused = asking.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "CHALLENGE_FAILED", "{refused:?}");
    serving.stop().await;
}

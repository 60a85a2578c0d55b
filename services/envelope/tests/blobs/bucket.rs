//! The same in buckets, by the protocols of those who sell them.

use std::sync::Arc;

use bytes::Bytes;
use countersign_envelope::blobs::{BlobError, Blobs};
use countersign_test_support::bucket::{Bucket, Protocol};
use object_store::RetryConfig;
use object_store::aws::AmazonS3Builder;
use object_store::prefix::PrefixStore;

use crate::{LARGE, content, keys, listed, read};

/// Conditional puts, ranges, listing, deletion.
#[tokio::test]
async fn a_bucket_keeps_documents_as_a_folder_does() {
    countersign_chassis::grpc::install_tls_provider();
    for protocol in Protocol::ALL {
        if let Some(bucket) = Bucket::start(protocol) {
            keeps_documents(&bucket).await;
        }
    }
}

async fn keeps_documents(bucket: &Bucket) {
    for ring in ["", "a1"] {
        let url = format!("{}/countersign{ring}", bucket.url()).parse().unwrap();
        let variables = bucket.variables().into_iter().map(|(name, value)| (name.to_lowercase(), value));
        let (store, prefix) = object_store::parse_url_opts(&url, variables).unwrap();
        let store = PrefixStore::new(store, prefix);
        let blobs = Blobs::on(Arc::new(store), (!ring.is_empty()).then(|| keys(ring)));
        let (small, large) = (content(LARGE), content(11 * 1024 * 1024 + 7));
        let one = blobs.put(small.clone()).await.unwrap();
        assert_eq!(blobs.put(small.clone()).await.unwrap(), one, "what is there already is taken as it is");
        let other = blobs.put(large.clone()).await.unwrap();
        let empty = blobs.put(Bytes::new()).await.unwrap();
        assert_eq!(blobs.get(&empty).await.unwrap(), Bytes::new());
        assert_eq!(blobs.get(&one).await.unwrap(), small);
        for from in [0, 1, 65_536, 5 * 1024 * 1024 - 1, 11 * 1024 * 1024] {
            let (told, ended) = read(&blobs, &other, from as u64..u64::MAX).await;
            ended.unwrap();
            assert!(told == large[from..], "{from}");
        }
        let mut all = [one, other, empty];
        all.sort_unstable();
        assert_eq!(listed(&blobs).await, all, "nothing is left of what was being written");
        blobs.delete(&one).await.unwrap();
        blobs.delete(&one).await.unwrap();
        assert!(matches!(blobs.find(&one).await, Err(BlobError::Missing(_))));
    }
}

/// Nobody is there: it is said within seconds, and not that the document is missing.
#[tokio::test]
async fn a_bucket_that_does_not_answer_is_away() {
    countersign_chassis::grpc::install_tls_provider();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let retry = RetryConfig { max_retries: 1, ..RetryConfig::default() };
    let store = AmazonS3Builder::new().with_endpoint(address).with_region("us-east-1").with_bucket_name("documents");
    let store = store.with_access_key_id("x").with_secret_access_key("x").with_allow_http(true).with_retry(retry);
    let blobs = Blobs::on(Arc::new(store.build().unwrap()), None);
    assert!(matches!(blobs.find(&[7; 32]).await, Err(BlobError::Away(_))));
}

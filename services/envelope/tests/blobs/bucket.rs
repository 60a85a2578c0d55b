//! The same in a bucket, over S3's own protocol, served by moto on this machine.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use countersign_envelope::blobs::{BlobError, Blobs};
use countersign_test_support::outside::python_module;
use object_store::aws::AmazonS3Builder;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use crate::{LARGE, content, keys, listed, read};

const SERVER: &str = r"
import sys, time
from moto.server import ThreadedMotoServer
import boto3
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
address = f'http://{host}:{port}'
boto3.client('s3', endpoint_url=address, region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x').create_bucket(Bucket='documents')
print(address, flush=True)
sys.stdin.read()
";

/// A server of S3, with the bucket `documents`. Ends with this.
struct S3 {
    server: Child,
    address: String,
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl S3 {
    fn start() -> Option<Self> {
        if !python_module("moto.server, boto3", "pip install 'moto[server]'") {
            return None;
        }
        let mut server = Command::new("python3");
        server.args(["-c", SERVER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = server.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { server, address: address.trim().to_owned() })
    }

    fn store(&self) -> impl ObjectStore + use<> {
        let retry = RetryConfig { max_retries: 1, ..RetryConfig::default() };
        let options = ClientOptions::new().with_allow_http(true);
        let store =
            AmazonS3Builder::new().with_endpoint(&self.address).with_region("us-east-1").with_bucket_name("documents");
        store
            .with_access_key_id("x")
            .with_secret_access_key("x")
            .with_retry(retry)
            .with_client_options(options)
            .build()
            .unwrap()
    }
}

/// Conditional puts, ranges, listing, deletion.
#[tokio::test]
async fn a_bucket_keeps_documents_as_a_folder_does() {
    countersign_chassis::grpc::install_tls_provider();
    let Some(s3) = S3::start() else { return };
    for ring in ["", "a1"] {
        let store = PrefixStore::new(s3.store(), format!("countersign{ring}"));
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

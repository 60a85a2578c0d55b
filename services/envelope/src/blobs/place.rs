//! Where documents lie: a folder, or a bucket of S3, Google Cloud Storage or Azure by its address.
//!
//! Credentials for buckets come from the variables that their own tools read (`AWS_…`, `GOOGLE_…`, `AZURE_…`), never from the address.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

/// How long one request to a bucket may take. A window or a part of a document fits into it on a slow line.
const REQUEST_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long a request is tried again before the caller is told that the store is away.
const TRIED_FOR: Duration = Duration::from_secs(10);
const RETRIES_MAX: usize = 3;

/// Where documents lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine, or one that all replicas share.
    Folder(PathBuf),
    /// A bucket, and a prefix in it.
    Bucket(Url),
}

impl From<PathBuf> for Place {
    fn from(folder: PathBuf) -> Self {
        Self::Folder(folder)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, _)) = text.split_once("://") else {
            return if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(Self::Folder(text.into())) };
        };
        let url = Url::parse(text).map_err(|_| "is not an address".to_owned())?;
        match scheme {
            "file" => {
                let folder = url.to_file_path().map_err(|()| "must name a folder of this machine".to_owned())?;
                Ok(Self::Folder(folder))
            }
            "s3" | "gs" | "az" => {
                if url.host_str().unwrap_or_default().is_empty() {
                    return Err("must name a bucket".to_owned());
                }
                if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
                    return Err("must not hold credentials: they come from the provider's own variables".to_owned());
                }
                Ok(Self::Bucket(url))
            }
            _ => Err("must be a folder or begin with file://, s3://, gs:// or az://".to_owned()),
        }
    }
}

impl Place {
    /// The store there. A folder is made if it is not there; a bucket must be.
    pub(super) fn open(&self) -> anyhow::Result<Arc<dyn ObjectStore>> {
        match self {
            Self::Folder(folder) => {
                let named = || format!("document folder {}", folder.display());
                std::fs::create_dir_all(folder).with_context(named)?;
                Ok(Arc::new(LocalFileSystem::new_with_prefix(folder).with_context(named)?.with_fsync(true)))
            }
            Self::Bucket(url) => bucket(url).with_context(|| format!("document store {url}")),
        }
    }
}

fn bucket(url: &Url) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let (address, prefix) = (url.as_str(), Key::from_url_path(url.path())?);
    let retry =
        || RetryConfig { max_retries: RETRIES_MAX, retry_timeout: TRIED_FOR, backoff: BackoffConfig::default() };
    // Besides what the variables say, and in place of nothing else of it.
    let waits = [(ClientConfigKey::Timeout, REQUEST_MAX), (ClientConfigKey::ConnectTimeout, CONNECT_MAX)]
        .map(|(key, wait)| (key, format!("{} seconds", wait.as_secs())));
    Ok(match url.scheme() {
        "s3" => {
            let store = AmazonS3Builder::from_env().with_url(address).with_retry(retry());
            let set = |store: AmazonS3Builder, (key, wait)| store.with_config(AmazonS3ConfigKey::Client(key), wait);
            prefixed(waits.into_iter().fold(store, set).build()?, prefix)
        }
        "gs" => {
            let store = GoogleCloudStorageBuilder::from_env().with_url(address).with_retry(retry());
            let set =
                |store: GoogleCloudStorageBuilder, (key, wait)| store.with_config(GoogleConfigKey::Client(key), wait);
            prefixed(waits.into_iter().fold(store, set).build()?, prefix)
        }
        _ => {
            let store = MicrosoftAzureBuilder::from_env().with_url(address).with_retry(retry());
            let set = |store: MicrosoftAzureBuilder, (key, wait)| store.with_config(AzureConfigKey::Client(key), wait);
            prefixed(waits.into_iter().fold(store, set).build()?, prefix)
        }
    })
}

fn prefixed(store: impl ObjectStore, prefix: Key) -> Arc<dyn ObjectStore> {
    if prefix.as_ref().is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        for folder in ["documents", "/var/lib/countersign", "./a:b", "file:///var/lib/countersign"] {
            let path = folder.trim_start_matches("file://").into();
            assert_eq!(folder.parse(), Ok(Place::Folder(path)), "{folder}");
        }
        for bucket in ["s3://bucket", "s3://bucket/some/prefix", "gs://bucket/prefix", "az://container/prefix"] {
            assert_eq!(bucket.parse(), Ok(Place::Bucket(Url::parse(bucket).unwrap())), "{bucket}");
        }
        let secret = "s3://key:secret@bucket";
        for wrong in
            ["", "ftp://bucket", "http://bucket", "s3://", "s3:///prefix", "file://host/x", secret, "s3://b?key=secret"]
        {
            let told = wrong.parse::<Place>().expect_err(wrong);
            assert!(!told.contains("secret"), "{told}");
        }
    }
}

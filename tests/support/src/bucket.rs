//! Buckets by the protocols of those who sell them, served on this machine: S3 by moto, Azure Blob Storage by Azurite.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::outside::{program, python_module};

/// How long a server may take to end.
const END_MAX: Duration = Duration::from_secs(5);

/// Whose bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    S3,
    Azure,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::S3, Self::Azure];
}

/// A server with one bucket, `documents`. Ends with this.
pub struct Bucket {
    server: Child,
    told: Lines<BufReader<ChildStdout>>,
    protocol: Protocol,
    address: String,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // It ends with its standard input, and ends what it has started.
        drop(self.server.stdin.take());
        let began = Instant::now();
        while began.elapsed() < END_MAX && self.server.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Bucket {
    /// None after saying what to install.
    #[must_use]
    pub fn start(protocol: Protocol) -> Option<Self> {
        let mut server = Command::new("python3");
        match protocol {
            Protocol::S3 => {
                if !python_module("moto.server, boto3", "pip install 'moto[server]'") {
                    return None;
                }
                server.args(["-c", include_str!("bucket/s3.py")]);
            }
            Protocol::Azure => {
                let azurite = program("azurite-blob", "npm install --global azurite")?;
                server.args(["-c", include_str!("bucket/azure.py")]).arg(azurite).arg(AZURITE_KEY);
            }
        }
        let server = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut server = server.expect("python3");
        let mut told = BufReader::new(server.stdout.take().unwrap()).lines();
        let address = told.next().expect("an address").unwrap();
        Some(Self { server, told, protocol, address })
    }

    /// As an operator names it.
    #[must_use]
    pub fn url(&self) -> &'static str {
        match self.protocol {
            Protocol::S3 => "s3://documents",
            Protocol::Azure => "az://documents",
        }
    }

    /// The variables of the one who sells it.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        match self.protocol {
            Protocol::S3 => vec![
                ("AWS_ENDPOINT_URL", &self.address),
                ("AWS_ALLOW_HTTP", "true"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "x"),
                ("AWS_SECRET_ACCESS_KEY", "x"),
            ],
            Protocol::Azure => vec![
                ("AZURE_STORAGE_ENDPOINT", &self.address),
                ("AZURE_ALLOW_HTTP", "true"),
                ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1"),
                ("AZURE_STORAGE_ACCOUNT_KEY", AZURITE_KEY),
            ],
        }
    }

    /// The keys of all objects in it.
    pub fn keys(&mut self) -> Vec<String> {
        self.server.stdin.as_mut().unwrap().write_all(b"list\n").unwrap();
        self.told.by_ref().map(Result::unwrap).take_while(|line| !line.is_empty()).collect()
    }
}

/// Azurite's own, which all the world knows.
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

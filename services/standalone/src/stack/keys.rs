//! The keys of a stack: made once, kept in the folder, needed for ever by the data in it.
//! Must never make new ones for data that exists, and never show one.

use anyhow::{Result, bail};
use countersign_chassis::config::KeyConfig;
use countersign_chassis::keys::{KEY_BYTES, random};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use crate::private_file;

/// All secrets of a stack.
#[derive(Debug)]
pub(super) struct Keys {
    envelope: SecretString,
    notifier: SecretString,
    pub service_token: SecretString,
}

/// As kept in `keys.json`.
#[derive(Serialize, Deserialize)]
struct Kept {
    envelope_master_key: String,
    notifier_master_key: String,
    service_token: String,
}

impl Keys {
    /// Those of the folder; new ones if nothing is in it yet.
    pub fn of(folder: &Folder) -> Result<Self> {
        let path = folder.keys();
        let kept = match private_file::read(&path)? {
            Some(kept) => kept,
            None if folder.postgres().join("pgdata").exists() => {
                bail!("{} is missing: the data in the folder cannot be used without it", path.display())
            }
            None => {
                let kept = Kept {
                    envelope_master_key: hex::encode(random::<KEY_BYTES>()),
                    notifier_master_key: hex::encode(random::<KEY_BYTES>()),
                    service_token: format!("css_{}", hex::encode(random::<KEY_BYTES>())),
                };
                private_file::write(&path, &kept)?;
                kept
            }
        };
        Ok(Self {
            envelope: kept.envelope_master_key.into(),
            notifier: kept.notifier_master_key.into(),
            service_token: kept.service_token.into(),
        })
    }

    pub fn for_envelope(&self) -> KeyConfig {
        KeyConfig::new(self.envelope.clone())
    }

    pub fn for_notifier(&self) -> KeyConfig {
        KeyConfig::new(self.notifier.clone())
    }
}

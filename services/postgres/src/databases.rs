//! Makes and drops databases on the running server.
//! Must never look into a database: what is in it belongs to the services.

use crate::Postgres;
use crate::cluster::{OWNER, SUPERUSER};
use anyhow::{Context, Result, bail};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

/// The database that always exists.
const MAINTENANCE_DATABASE: &str = "postgres";
/// The server is on this machine.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// What Postgres keeps of a name; it would cut a longer one silently.
const NAME_BYTES_MAX: usize = 63;

impl Postgres {
    /// Where the given database is reached by its owner, an ordinary user.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_of(OWNER, database)
    }

    /// Where the given database is reached by the superuser, before whom no row is hidden.
    #[must_use]
    pub fn superuser_url(&self, database: &str) -> String {
        self.url_of(SUPERUSER, database)
    }

    fn url_of(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{}", self.port(), percent_encode(database))
    }

    /// Makes an empty database, if there is none of this name.
    ///
    /// # Errors
    /// When the name is not possible, or the server does not answer.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        let sql = format!("CREATE DATABASE {} OWNER {OWNER}", quote(name)?);
        let client = connect(self.port()).await?;
        let existing = client.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name]).await?;
        if existing.is_some() {
            return Ok(());
        }
        match client.batch_execute(&sql).await {
            // Somebody else was faster: noticed by the check of the name, or of the index below it.
            Err(error) if error.code().is_some_and(is_duplicate) => Ok(()),
            other => other.with_context(|| format!("cannot make the database {name}")),
        }
    }

    /// Makes a database as a copy of another one, to which nobody may be connected.
    ///
    /// # Errors
    /// When the name is taken, the template is missing or in use, or the server does not answer.
    pub async fn create_database_from_template(&self, name: &str, template: &str) -> Result<()> {
        let sql = format!("CREATE DATABASE {} OWNER {OWNER} TEMPLATE {}", quote(name)?, quote(template)?);
        let client = connect(self.port()).await?;
        client.batch_execute(&sql).await.with_context(|| format!("cannot copy the database {template} to {name}"))
    }

    /// Drops a database, if it exists, and ends all connections to it.
    ///
    /// # Errors
    /// When the name is not possible, or the server does not answer.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(name)?);
        let client = connect(self.port()).await?;
        client.batch_execute(&sql).await.with_context(|| format!("cannot drop the database {name}"))
    }
}

/// Makes the owner of databases, if there is none yet.
pub(super) async fn make_owner(port: u16) -> Result<()> {
    let client = connect(port).await?;
    let existing = client.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&OWNER]).await?;
    if existing.is_none() {
        let sql = format!("CREATE ROLE {OWNER} LOGIN");
        client.batch_execute(&sql).await.with_context(|| format!("cannot make the user {OWNER}"))?;
    }
    Ok(())
}

/// Has a replica end its following.
pub(super) async fn promote(port: u16) -> Result<()> {
    let row = connect(port).await?.query_one("SELECT pg_promote(wait_seconds => 60)", &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        bail!("the replica does not become a server of its own");
    }
    Ok(())
}

/// A connection to the maintenance database.
pub(super) async fn connect(port: u16) -> Result<Client> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(SUPERUSER).dbname(MAINTENANCE_DATABASE);
    let connecting = tokio::time::timeout(CONNECT_MAX, config.connect(NoTls));
    let (client, connection) =
        connecting.await.context("Postgres does not answer")?.context("cannot connect to Postgres")?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to Postgres broke: {error}");
        }
    });
    Ok(client)
}

fn is_duplicate(code: &SqlState) -> bool {
    [&SqlState::DUPLICATE_DATABASE, &SqlState::UNIQUE_VIOLATION].contains(&code)
}

fn quote(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        bail!("the name of a database has 1 to {NAME_BYTES_MAX} bytes, not {}: {name:?}", name.len());
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

fn percent_encode(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    name.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_quoted_and_limited() {
        assert_eq!(quote("a\"b").unwrap(), "\"a\"\"b\"");
        quote("").unwrap_err();
        quote(&"x".repeat(NAME_BYTES_MAX)).unwrap();
        quote(&"x".repeat(NAME_BYTES_MAX + 1)).unwrap_err();
    }

    #[test]
    fn odd_names_are_encoded_in_the_address() {
        assert_eq!(percent_encode("plain_name-1"), "plain_name-1");
        assert_eq!(percent_encode("a b/ü"), "a%20b%2F%C3%BC");
    }
}

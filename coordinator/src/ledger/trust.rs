//! What the store keeps of who is trusted: authorities, join tokens, hosts' keys, users, and requests for a second
//! person.

use muster_proto::{AccessRole, HostName, Secret, pki::Key};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Ledger, LedgerError, Write, damaged, signed, unsigned};
use crate::{
    authority::Authority,
    trust::{Certified, HostRecord, SecondRecord, TokenRecord, TrustState, UserRecord},
};

type Result<T> = std::result::Result<T, LedgerError>;

/// Tables of this file.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS authorities (
    nth INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL UNIQUE, certificate BLOB NOT NULL, crossed BLOB,
    key BLOB NOT NULL, created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, secret BLOB NOT NULL, host TEXT, uses INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    rejoin INTEGER NOT NULL, approve INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS trust (
    host TEXT PRIMARY KEY, state TEXT NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, since_ms INTEGER NOT NULL,
    certificate_ms INTEGER NOT NULL, issuer TEXT NOT NULL, token TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, secret TEXT NOT NULL, key TEXT, issuer TEXT,
    created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS seconds (
    id TEXT PRIMARY KEY, first TEXT NOT NULL, what TEXT NOT NULL, second TEXT, expires_ms INTEGER NOT NULL
) STRICT;
";

const HOST: &str = "SELECT host, state, key, reason, since_ms, certificate_ms, issuer, token FROM trust";
const TOKEN: &str = "SELECT id, secret, host, uses, expires_ms, rejoin, approve FROM tokens";
const USER: &str = "SELECT name, role, secret, key, issuer, created_ms, expires_ms FROM users";

fn key_place(sha256: &str) -> String {
    format!("key of authority {sha256}")
}

fn token_place(id: &str) -> String {
    format!("secret of token {id}")
}

impl Ledger {
    /// The fleet's authorities, the signing one first; none before the first start.
    pub fn authorities(&self) -> Result<Vec<Authority>> {
        type Found = (String, Vec<u8>, Option<Vec<u8>>, Vec<u8>, i64, i64);
        let rows: Vec<Found> = {
            let connection = self.lock();
            let mut statement = connection.prepare_cached(
                "SELECT sha256, certificate, crossed, key, created_ms, expires_ms FROM authorities ORDER BY nth DESC",
            )?;
            let read = |row: &Row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?));
            statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?
        };
        let believe = |(sha256, certificate, crossed, key, created, expires): Found| {
            let key = self.seal.unseal(&key_place(&sha256), &key)?;
            let key = Secret::new(std::str::from_utf8(&key).map_err(damaged)?);
            Ok(Authority {
                certificate,
                crossed,
                key: Key::from_pem(key).map_err(damaged)?,
                created_ms: unsigned(created),
                expires_ms: unsigned(expires),
            })
        };
        rows.into_iter().map(believe).collect()
    }

    /// A join token.
    pub fn token(&self, id: &str) -> Result<Option<TokenRecord>> {
        let found = {
            let connection = self.lock();
            let mut statement = connection.prepare_cached(&format!("{TOKEN} WHERE id = ?1"))?;
            statement.query_row([id], token_row).optional()?
        };
        found.map(|row| self.token_of(row)).transpose()
    }

    /// Join tokens, by expiry.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>> {
        let rows = {
            let connection = self.lock();
            let mut statement = connection.prepare_cached(&format!("{TOKEN} ORDER BY expires_ms, id"))?;
            statement.query_map([], token_row)?.collect::<rusqlite::Result<Vec<_>>>()?
        };
        rows.into_iter().map(|row| self.token_of(row)).collect()
    }

    fn token_of(&self, (id, secret, host, uses, expires, rejoin, approve): TokenRow) -> Result<TokenRecord> {
        let secret = self.seal.unseal(&token_place(&id), &secret)?;
        Ok(TokenRecord {
            secret: Secret::new(std::str::from_utf8(&secret).map_err(damaged)?),
            host: host.map(|host| host.parse().map_err(damaged)).transpose()?,
            uses,
            expires_ms: unsigned(expires),
            rejoin,
            approve,
            id,
        })
    }

    /// What is known of a host's identity; none if it was never enrolled.
    pub fn host_trust(&self, host: &HostName) -> Result<Option<HostRecord>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{HOST} WHERE host = ?1"))?;
        statement.query_row([host.as_str()], host_row).optional()?.map(host_of).transpose()
    }

    /// Every enrolled host, by name.
    pub fn hosts_trust(&self) -> Result<Vec<HostRecord>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{HOST} ORDER BY host"))?;
        let rows = statement.query_map([], host_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter().map(host_of).collect()
    }

    /// A user.
    pub fn user(&self, name: &str) -> Result<Option<UserRecord>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{USER} WHERE name = ?1"))?;
        statement.query_row([name], user_row).optional()?.map(user_of).transpose()
    }

    /// Users, by name.
    pub fn users(&self) -> Result<Vec<UserRecord>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{USER} ORDER BY name"))?;
        let rows = statement.query_map([], user_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter().map(user_of).collect()
    }

    /// A request for a second person.
    pub fn second(&self, id: &str) -> Result<Option<SecondRecord>> {
        self.second_where("id = ?1", id)
    }

    /// The same, by what is to be done.
    pub fn second_for(&self, what: &str) -> Result<Option<SecondRecord>> {
        self.second_where("what = ?1", what)
    }

    fn second_where(&self, condition: &str, key: &str) -> Result<Option<SecondRecord>> {
        let connection = self.lock();
        let query = format!(
            "SELECT id, first, what, second, expires_ms FROM seconds WHERE {condition} ORDER BY expires_ms DESC LIMIT 1"
        );
        let read = |row: &Row| {
            Ok(SecondRecord {
                id: row.get(0)?,
                first: row.get(1)?,
                what: row.get(2)?,
                second: row.get(3)?,
                expires_ms: unsigned(row.get(4)?),
            })
        };
        Ok(connection.prepare_cached(&query)?.query_row([key], read).optional()?)
    }
}

type TokenRow = (String, Vec<u8>, Option<String>, u32, i64, bool, bool);
type HostRow = (String, String, String, String, i64, i64, String, String);
type UserRow = (String, String, String, Option<String>, Option<String>, i64, i64);

fn token_row(row: &Row) -> rusqlite::Result<TokenRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn host_row(row: &Row) -> rusqlite::Result<HostRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?))
}

fn host_of((host, state, key, reason, since, certificate, issuer, token): HostRow) -> Result<HostRecord> {
    Ok(HostRecord {
        host: host.parse().map_err(damaged)?,
        state: TrustState::from_word(&state).ok_or_else(|| damaged(format!("the state {state:?}")))?,
        key: key.parse().map_err(damaged)?,
        reason,
        since_ms: unsigned(since),
        certificate_ms: unsigned(certificate),
        issuer: issuer.parse().map_err(damaged)?,
        token,
    })
}

fn user_row(row: &Row) -> rusqlite::Result<UserRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn user_of((name, role, secret, key, issuer, created, expires): UserRow) -> Result<UserRecord> {
    let certified = |(key, issuer): (String, String)| {
        Ok::<_, LedgerError>(Certified { key: key.parse().map_err(damaged)?, issuer: issuer.parse().map_err(damaged)? })
    };
    Ok(UserRecord {
        name,
        role: role.parse::<AccessRole>().map_err(damaged)?,
        secret: secret.parse().map_err(damaged)?,
        certified: key.zip(issuer).map(certified).transpose()?,
        created_ms: unsigned(created),
        expires_ms: unsigned(expires),
    })
}

impl Write<'_> {
    /// Another authority, which signs from now on.
    pub fn authority(&self, authority: &Authority) -> Result<()> {
        let sha256 = authority.sha256().to_string();
        let key = self.seal().seal(&key_place(&sha256), authority.key.pem().expose().as_bytes())?;
        let row = params![
            sha256,
            authority.certificate,
            authority.crossed,
            key,
            signed(authority.created_ms),
            signed(authority.expires_ms),
        ];
        let columns = "sha256, certificate, crossed, key, created_ms, expires_ms";
        let insert = format!("INSERT INTO authorities ({columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        self.transaction().execute(&insert, row)?;
        Ok(())
    }

    /// Only the signing authority is left.
    pub fn retire_authorities(&self) -> Result<()> {
        self.transaction().execute("DELETE FROM authorities WHERE nth < (SELECT MAX(nth) FROM authorities)", [])?;
        Ok(())
    }

    /// A join token, new or used once more. Those that have expired a day ago are forgotten.
    pub fn token(&self, token: &TokenRecord) -> Result<()> {
        let secret = self.seal().seal(&token_place(&token.id), token.secret.expose().as_bytes())?;
        let now = super::unix_ms();
        self.transaction().execute("DELETE FROM tokens WHERE expires_ms < ?1", [signed(now) - 86_400_000])?;
        let row = params![
            token.id,
            secret,
            token.host.as_ref().map(HostName::as_str),
            token.uses,
            signed(token.expires_ms),
            token.rejoin,
            token.approve,
        ];
        self.transaction().execute("INSERT OR REPLACE INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", row)?;
        Ok(())
    }

    /// Takes a join token back; whether there was one.
    pub fn forget_token(&self, id: &str) -> Result<bool> {
        Ok(self.transaction().execute("DELETE FROM tokens WHERE id = ?1", [id])? == 1)
    }

    /// What is known of a host's identity from now on.
    pub fn host_trust(&self, record: &HostRecord) -> Result<()> {
        let row = params![
            record.host.as_str(),
            record.state.word(),
            record.key.to_string(),
            record.reason,
            signed(record.since_ms),
            signed(record.certificate_ms),
            record.issuer.to_string(),
            record.token,
        ];
        self.transaction().execute("INSERT OR REPLACE INTO trust VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row)?;
        Ok(())
    }

    /// Forgets a host, with all that it was told.
    pub fn forget_host(&self, host: &HostName) -> Result<()> {
        for (table, column) in [("trust", "host"), ("desired", "host"), ("hosts", "name")] {
            let delete = format!("DELETE FROM {table} WHERE {column} = ?1");
            self.transaction().execute(&delete, [host.as_str()])?;
        }
        Ok(())
    }

    /// A user, new or changed.
    pub fn user(&self, user: &UserRecord) -> Result<()> {
        let row = params![
            user.name,
            user.role.word(),
            user.secret.to_string(),
            user.certified.map(|certified| certified.key.to_string()),
            user.issuer().map(|issuer| issuer.to_string()),
            signed(user.created_ms),
            signed(user.expires_ms),
        ];
        self.transaction().execute("INSERT OR REPLACE INTO users VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", row)?;
        Ok(())
    }

    /// Takes a user away; whether there was one.
    pub fn forget_user(&self, name: &str) -> Result<bool> {
        Ok(self.transaction().execute("DELETE FROM users WHERE name = ?1", [name])? == 1)
    }

    /// A request for a second person, new or approved.
    pub fn second(&self, record: &SecondRecord) -> Result<()> {
        self.transaction().execute("DELETE FROM seconds WHERE expires_ms < ?1", [signed(super::unix_ms())])?;
        let row = params![record.id, record.first, record.what, record.second, signed(record.expires_ms)];
        self.transaction().execute("INSERT OR REPLACE INTO seconds VALUES (?1, ?2, ?3, ?4, ?5)", row)?;
        Ok(())
    }

    /// It has been used.
    pub fn forget_second(&self, id: &str) -> Result<()> {
        self.transaction().execute("DELETE FROM seconds WHERE id = ?1", [id])?;
        Ok(())
    }
}

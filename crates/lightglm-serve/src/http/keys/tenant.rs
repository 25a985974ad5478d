//! `Tenant`: who has a key, and what it is good for.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::access::Access;

/// Characters of a tenant's name.
const LONGEST: usize = 64;

/// What the names of keys without an entry begin with; no tenant is called so.
pub(in crate::http) const PLAIN: &str = "api-key-";

/// Who has a key, and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name in the log and in metrics: 1 to 64 letters, digits, `.`, `_`, `-`, `@`.
    pub name: String,
    /// The key's digest: the key itself is nowhere.
    pub key: KeyDigest,
    /// Which routes it may use.
    pub role: Role,
    /// Tokens of prompts and replies a minute; any number where `None`.
    pub tokens_per_minute: Option<u64>,
    /// Tokens of prompts and replies a day; any number where `None`.
    pub tokens_per_day: Option<u64>,
    /// The highest `priority` that a request may have; that of the server's limits where `None`.
    pub max_priority: Option<i32>,
    /// The models and adapters that there are for it; all where `None`.
    pub models: Option<Vec<String>>,
    /// With whom it shares the keys and values of prompts: with tenants of the same salt; with everybody who
    /// has none where `None`.
    pub cache_salt: Option<String>,
}

impl Tenant {
    /// A user without quotas, who may use every model.
    pub fn new(name: impl Into<String>, key: KeyDigest) -> Self {
        Self {
            name: name.into(),
            key,
            role: Role::User,
            tokens_per_minute: None,
            tokens_per_day: None,
            max_priority: None,
            models: None,
            cache_salt: None,
        }
    }

    /// Which field is wrong, and why.
    pub(in crate::http) fn fault(&self) -> Option<(&'static str, String)> {
        let known = |c: char| c.is_alphanumeric() || "._-@".contains(c);
        let length = self.name.chars().count();
        if !(1..=LONGEST).contains(&length) || !self.name.chars().all(known) {
            let reason = format!("it must be 1 to {LONGEST} letters, digits, '.', '_', '-' or '@'");
            return Some(("name", reason));
        }
        if self.name.starts_with(PLAIN) {
            return Some(("name", format!("`{PLAIN}` begins the names of keys without an entry")));
        }
        if self.key == KeyDigest::of("") {
            return Some(("sha256", "it is the digest of nothing".into()));
        }
        let quotas = [
            ("tokens-per-minute", self.tokens_per_minute),
            ("tokens-per-day", self.tokens_per_day),
        ];
        if let Some((field, _)) = quotas.into_iter().find(|(_, quota)| *quota == Some(0)) {
            return Some((field, "it must be at least 1".into()));
        }
        if self.models.as_ref().is_some_and(Vec::is_empty) {
            return Some(("models", "it must name one at least".into()));
        }
        if self.cache_salt.as_deref() == Some("") {
            return Some((
                "cache-salt",
                "it is empty; leave it out to share with everybody".into(),
            ));
        }
        None
    }
}

/// Which routes a key may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What generates and reads: no adapters loaded, no metrics.
    User,
    /// Metrics alone.
    Metrics,
    /// Everything.
    Admin,
}

impl Role {
    /// Its name in keys files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }

    /// Whether a key of this role may use routes of this kind.
    pub const fn may(self, access: Access) -> bool {
        match access {
            Access::Open => true,
            Access::Generate | Access::User => matches!(self, Self::User | Self::Admin),
            Access::Metrics => matches!(self, Self::Metrics | Self::Admin),
            Access::Admin => matches!(self, Self::Admin),
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [Self::User, Self::Metrics, Self::Admin];
        let found = all.into_iter().find(|role| role.as_str() == name);
        found.ok_or("it must be `user`, `metrics` or `admin`")
    }
}

/// The SHA-256 digest of a key; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub(in crate::http) [u8; 32]);

impl KeyDigest {
    /// That of `key`.
    pub fn of(key: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(key.as_ref()).into())
    }
}

impl FromStr for KeyDigest {
    type Err = &'static str;

    fn from_str(hex: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "it must be 64 hexadecimal digits: the SHA-256 digest of the key";
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        let mut digest = [0; 32];
        if pairs.len() != digest.len() || !rest.is_empty() {
            return Err(WRONG);
        }
        for (byte, pair) in digest.iter_mut().zip(pairs) {
            let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(WRONG);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    /// Enough to tell them apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

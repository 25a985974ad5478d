//! Keys files: TOML with an entry for each tenant.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tenant::{Role, Tenant};
use super::tenants::{TenantError, Tenants};

/// What is wrong with a keys file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysFileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or has other tables than `[[key]]`.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An entry's field is unknown, missing, or of a wrong type or value.
    #[error("{}:{line}: entry {entry} (`{name}`): {field}: {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Which entry, counted from 1.
        entry: usize,
        /// Its name, as far as it has one.
        name: String,
        /// The field.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// It has no entry.
    #[error("{}: there is no [[key]] in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Tenants {
    /// The tenants of a keys file.
    ///
    /// ```toml
    /// [[key]]
    /// name = "support"
    /// sha256 = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
    /// role = "user"               # or "metrics", "admin"; a user's if omitted
    /// tokens-per-minute = 60_000  # this and all that follows may be left out
    /// tokens-per-day = 5_000_000
    /// max-priority = 0
    /// models = ["glm-4-9b", "support-zh"]
    /// cache-salt = "support"
    /// ```
    ///
    /// # Errors
    /// [`KeysFileError`], which names file, line, entry and field.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeysFileError> {
        let all = Self::default();
        all.reload(path)?;
        Ok(all)
    }

    /// As [`replace`](Self::replace), with the tenants of a keys file.
    ///
    /// # Errors
    /// [`KeysFileError`]; nothing changes then.
    pub fn reload(&self, path: impl AsRef<Path>) -> Result<(), KeysFileError> {
        let path = path.as_ref();
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| KeysFileError::Read { path: path.into(), source })?;
        let entries = entries(&KeysFile { path, text: &text })?;
        let lines: Vec<usize> = entries.iter().map(|(line, _)| *line).collect();
        let tenants = entries.into_iter().map(|(_, tenant)| tenant).collect();
        self.replace(tenants).map_err(|error| match error {
            TenantError::Empty => KeysFileError::Empty { path: path.into() },
            TenantError::Field { entry, name, field, reason } => KeysFileError::Entry {
                path: path.into(),
                line: lines[entry],
                entry: entry + 1,
                name,
                field: field.into(),
                reason,
            },
        })
    }
}

struct KeysFile<'a> {
    path: &'a Path,
    text: &'a str,
}

impl KeysFile<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    fn syntax(&self, at: usize, reason: impl Into<String>) -> KeysFileError {
        let (path, line) = (self.path.into(), self.line(at));
        KeysFileError::Syntax { path, line, reason: reason.into() }
    }
}

fn entries(file: &KeysFile<'_>) -> Result<Vec<(usize, Tenant)>, KeysFileError> {
    let document = DeTable::parse(file.text)
        .map_err(|error| file.syntax(error.span().map_or(0, |span| span.start), error.message()))?;
    let mut tenants = Vec::new();
    for (key, value) in document.get_ref() {
        if key.get_ref() != "key" {
            return Err(file.syntax(key.span().start, format!("unknown key `{}`", key.get_ref())));
        }
        let list = value.get_ref().as_array();
        let tables = list.and_then(|list| {
            list.iter().map(|entry| Some((entry.span(), entry.get_ref().as_table()?))).collect()
        });
        let tables: Vec<_> = tables.ok_or_else(|| {
            file.syntax(value.span().start, "`key` must be tables: write [[key]] above each")
        })?;
        for (index, (span, table)) in tables.into_iter().enumerate() {
            let entry = Entry { file, number: index + 1, at: span.start, table };
            tenants.push((file.line(span.start), entry.tenant()?));
        }
    }
    Ok(tenants)
}

struct Entry<'a> {
    file: &'a KeysFile<'a>,
    number: usize,
    /// Where it begins, in bytes.
    at: usize,
    table: &'a DeTable<'a>,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl Entry<'_> {
    fn wrong(&self, at: usize, field: &str, reason: impl Into<String>) -> KeysFileError {
        let name = self.table.get("name").and_then(|name| name.get_ref().as_str());
        KeysFileError::Entry {
            path: self.file.path.into(),
            line: self.file.line(at),
            entry: self.number,
            name: name.unwrap_or_default().into(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    fn tenant(&self) -> Result<Tenant, KeysFileError> {
        let digest = self.required("sha256")?;
        let mut tenant = Tenant::new(self.string("name", self.required("name")?)?, {
            self.parsed("sha256", digest)?
        });
        for (field, value) in self.table {
            match field.get_ref().as_ref() {
                "name" | "sha256" => {}
                "role" => tenant.role = self.parsed::<Role>("role", value)?,
                "tokens-per-minute" => {
                    tenant.tokens_per_minute = Some(self.integer("tokens-per-minute", value)?);
                }
                "tokens-per-day" => {
                    tenant.tokens_per_day = Some(self.integer("tokens-per-day", value)?);
                }
                "max-priority" => tenant.max_priority = Some(self.integer("max-priority", value)?),
                "models" => tenant.models = Some(self.strings("models", value)?),
                "cache-salt" => tenant.cache_salt = Some(self.string("cache-salt", value)?),
                unknown => {
                    let reason = "unknown; there are name, sha256, role, tokens-per-minute, \
                                  tokens-per-day, max-priority, models and cache-salt";
                    return Err(self.wrong(field.span().start, unknown, reason));
                }
            }
        }
        Ok(tenant)
    }

    fn required(&self, field: &str) -> Result<&Value<'_>, KeysFileError> {
        self.table.get(field).ok_or_else(|| self.wrong(self.at, field, "it is missing"))
    }

    fn string(&self, field: &str, value: &Value<'_>) -> Result<String, KeysFileError> {
        let text = value.get_ref().as_str().map(str::to_owned);
        text.ok_or_else(|| self.wrong(value.span().start, field, "it must be a string"))
    }

    fn strings(&self, field: &str, value: &Value<'_>) -> Result<Vec<String>, KeysFileError> {
        let list = value.get_ref().as_array();
        let list = list.and_then(|list| {
            list.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        });
        list.ok_or_else(|| self.wrong(value.span().start, field, "it must be a list of strings"))
    }

    fn parsed<T: FromStr<Err = &'static str>>(
        &self,
        field: &str,
        value: &Value<'_>,
    ) -> Result<T, KeysFileError> {
        let parsed = self.string(field, value)?.parse();
        parsed.map_err(|reason| self.wrong(value.span().start, field, reason))
    }

    fn integer<T: TryFrom<i128>>(
        &self,
        field: &str,
        value: &Value<'_>,
    ) -> Result<T, KeysFileError> {
        let integer = value.get_ref().as_integer().and_then(|integer| {
            let whole = i128::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            T::try_from(whole).ok()
        });
        integer.ok_or_else(|| {
            self.wrong(value.span().start, field, "it must be a whole number within its bounds")
        })
    }
}

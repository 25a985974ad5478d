//! `Tenants`: who may use a server, which may change while it runs.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::quota::Account;
use super::tenant::Tenant;

/// Who may use a server, by keys with names, rights and quotas; clones are the same.
///
/// ```
/// use lightglm_serve::http::{KeyDigest, Tenant, Tenants};
///
/// let tenants = Tenants::new(vec![Tenant::new("support", KeyDigest::of("a key"))])?;
/// // Later, while the server has a clone of it:
/// tenants.replace(vec![Tenant::new("support", KeyDigest::of("another key"))])?;
/// # Ok::<(), lightglm_serve::http::TenantError>(())
/// ```
#[derive(Clone, Default)]
pub struct Tenants(Arc<RwLock<Arc<[Arc<Holder>]>>>);

/// A tenant and its account.
pub(in crate::http) struct Holder {
    pub(in crate::http) tenant: Tenant,
    /// The same one as long as there is a tenant of this name.
    pub(in crate::http) account: Arc<Account>,
}

/// What is wrong with a list of tenants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// There is none: nobody, or everybody, could use the server.
    #[error("there is no entry")]
    Empty,
    /// A field of an entry is wrong.
    #[error("entry {} (`{name}`): {field}: {reason}", entry + 1)]
    Field {
        /// Which entry, counted from 0.
        entry: usize,
        /// Its name, as far as it has one.
        name: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Tenants {
    /// These tenants.
    ///
    /// # Errors
    /// [`TenantError`].
    pub fn new(tenants: Vec<Tenant>) -> Result<Self, TenantError> {
        let all = Self::default();
        all.replace(tenants)?;
        Ok(all)
    }

    /// Takes these instead from now on; what runs goes on, and who keeps the name keeps what is used of its
    /// quotas. Nothing changes where there is an error.
    ///
    /// # Errors
    /// [`TenantError`].
    pub fn replace(&self, tenants: Vec<Tenant>) -> Result<(), TenantError> {
        check(&tenants)?;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let holders = tenants.into_iter().map(|tenant| {
            let before = current.iter().find(|holder| holder.tenant.name == tenant.name);
            let account = before.map(|holder| holder.account.clone()).unwrap_or_default();
            Arc::new(Holder { tenant, account })
        });
        *current = holders.collect();
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.holders().len()
    }

    /// Whether there are none: such a server asks for no key but those without an entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(in crate::http) fn holders(&self) -> Arc<[Arc<Holder>]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn check(tenants: &[Tenant]) -> Result<(), TenantError> {
    if tenants.is_empty() {
        return Err(TenantError::Empty);
    }
    for (entry, tenant) in tenants.iter().enumerate() {
        let before = &tenants[..entry];
        let fault = tenant.fault().or_else(|| {
            let named = before.iter().any(|other| other.name == tenant.name);
            let same = before.iter().find(|other| other.key == tenant.key);
            match (named, same) {
                (true, _) => Some(("name", "another entry has it".into())),
                (_, Some(same)) => Some(("sha256", format!("`{}` has the same key", same.name))),
                _ => None,
            }
        });
        if let Some((field, reason)) = fault {
            let name = tenant.name.clone();
            return Err(TenantError::Field { entry, name, field, reason });
        }
    }
    Ok(())
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holders = self.holders();
        f.debug_list().entries(holders.iter().map(|holder| &holder.tenant.name)).finish()
    }
}

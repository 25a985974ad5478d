//! `Account`: the tokens that a tenant has used, and when it may go on.

use std::sync::{Mutex, PoisonError};

use super::tenant::Tenant;

/// Seconds of the spans that quotas are about.
const SPANS: [u64; 2] = [60, 24 * 60 * 60];

/// What the spans are called.
const NAMES: [&str; 2] = ["minute", "day"];

/// The tokens that a tenant has used.
///
/// Minutes and days are the clock's (UTC). What is used beyond a quota, by requests that were under way, is
/// taken from the next minute or day, so that in the long run nobody has more than the quota.
#[derive(Debug, Default)]
pub(in crate::http) struct Account([Mutex<Used>; 2]);

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// Which minute or day it is, counted from 1970.
    span: u64,
    tokens: u64,
}

/// A quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Overdrawn {
    pub(in crate::http) tokens: u64,
    /// `minute` or `day`.
    pub(in crate::http) per: &'static str,
    /// Seconds.
    pub(in crate::http) retry_after: u64,
}

/// What is left of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Left {
    pub(in crate::http) limit: u64,
    pub(in crate::http) remaining: u64,
    /// Seconds until there is more.
    pub(in crate::http) reset: u64,
}

fn quotas(tenant: &Tenant) -> [Option<u64>; 2] {
    [tenant.tokens_per_minute, tenant.tokens_per_day]
}

impl Account {
    /// Takes `tokens` from the quotas of `tenant`; `now` is in seconds since 1970, here and below.
    pub(in crate::http) fn take(&self, tenant: &Tenant, tokens: u64, now: u64) {
        for (index, quota) in quotas(tenant).into_iter().enumerate() {
            // What was used before there was a quota is nobody's debt.
            let Some(quota) = quota else { continue };
            self.settled(index, Some(quota), now, |used| {
                used.tokens = used.tokens.saturating_add(tokens)
            });
        }
    }

    /// # Errors
    /// Where a quota is used up: the one that takes longer to come back.
    pub(in crate::http) fn check(&self, tenant: &Tenant, now: u64) -> Result<(), Overdrawn> {
        let quotas = quotas(tenant).into_iter().enumerate().rev();
        let mut over = quotas.filter_map(|(index, quota)| {
            let limit = quota?;
            let used = self.settled(index, quota, now, |used| used.tokens);
            (used >= limit).then(|| {
                // Whole spans until less than the quota is owed, of which this one has begun.
                let spans = used / limit.max(1);
                let retry_after = spans.saturating_mul(SPANS[index]) - now % SPANS[index];
                Overdrawn { tokens: limit, per: NAMES[index], retry_after }
            })
        });
        over.next().map_or(Ok(()), Err)
    }

    /// What is left of the quota a minute, or of that a day where there is no other.
    pub(in crate::http) fn left(&self, tenant: &Tenant, now: u64) -> Option<Left> {
        let (index, limit) =
            quotas(tenant).into_iter().enumerate().find_map(|(at, quota)| Some((at, quota?)))?;
        let used = self.settled(index, Some(limit), now, |used| used.tokens);
        let reset = SPANS[index] - now % SPANS[index];
        Some(Left { limit, remaining: limit.saturating_sub(used), reset })
    }

    /// Looks at what is used by now.
    fn settled<T>(
        &self,
        index: usize,
        quota: Option<u64>,
        now: u64,
        look: impl FnOnce(&mut Used) -> T,
    ) -> T {
        let mut used = self.0[index].lock().unwrap_or_else(PoisonError::into_inner);
        let span = now / SPANS[index];
        // A clock that is set back takes nothing away, and what comes counts from there.
        let gone = span.saturating_sub(used.span);
        let paid = quota.unwrap_or(u64::MAX).saturating_mul(gone);
        *used = Used { span, tokens: used.tokens.saturating_sub(paid) };
        look(&mut used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::keys::tenant::KeyDigest;

    /// Noon of some day.
    const NOON: u64 = 20_000 * 86_400 + 43_200;

    fn tenant(minute: Option<u64>, day: Option<u64>) -> Tenant {
        let mut tenant = Tenant::new("t", KeyDigest::of("k"));
        (tenant.tokens_per_minute, tenant.tokens_per_day) = (minute, day);
        tenant
    }

    #[test]
    fn a_minute_ends_and_debts_are_paid() {
        let (account, tenant) = (Account::default(), tenant(Some(100), None));
        assert_eq!(account.check(&tenant, NOON + 10), Ok(()));
        account.take(&tenant, 99, NOON + 10);
        assert_eq!(account.check(&tenant, NOON + 10), Ok(()));
        let left = Left { limit: 100, remaining: 1, reset: 50 };
        assert_eq!(account.left(&tenant, NOON + 10), Some(left));
        account.take(&tenant, 1, NOON + 11);
        let over = |retry_after| Err(Overdrawn { tokens: 100, per: "minute", retry_after });
        assert_eq!(account.check(&tenant, NOON + 11), over(49));
        assert_eq!(account.check(&tenant, NOON + 59), over(1));
        assert_eq!(account.check(&tenant, NOON + 60), Ok(()));
        // 350: three minutes are spoken for, of which this is one.
        account.take(&tenant, 350, NOON + 60);
        assert_eq!(account.check(&tenant, NOON + 61), over(179));
        assert_eq!(account.check(&tenant, NOON + 239), over(1));
        assert_eq!(account.check(&tenant, NOON + 240), Ok(()));
        assert_eq!(account.left(&tenant, NOON + 240).unwrap().remaining, 50);
        assert_eq!(account.left(&tenant, NOON + 3600).unwrap().remaining, 100);
        // The clock is set back.
        account.take(&tenant, 100, NOON + 3600);
        assert!(account.check(&tenant, NOON).is_err());
        assert_eq!(account.check(&tenant, NOON + 60), Ok(()));
    }

    #[test]
    fn a_day_outlasts_a_minute() {
        let (account, tenant) = (Account::default(), tenant(Some(10), Some(1000)));
        account.take(&tenant, 1000, NOON);
        let over = account.check(&tenant, NOON).unwrap_err();
        assert_eq!((over.per, over.retry_after), ("day", 43_200));
        assert_eq!(account.check(&tenant, NOON + 43_199).unwrap_err().retry_after, 1);
        assert_eq!(account.check(&tenant, NOON + 43_200), Ok(()));
    }

    #[test]
    fn without_a_quota_nothing_is_owed() {
        let (account, free) = (Account::default(), tenant(None, None));
        account.take(&free, u64::MAX, NOON);
        account.take(&free, u64::MAX, NOON);
        assert_eq!((account.check(&free, NOON), account.left(&free, NOON)), (Ok(()), None));
    }
}

//! `VirtualTokens`: who has had how much.

use std::collections::HashMap;

use super::config::FairnessConfig;

/// A counter of charged tokens per key; who has the least goes first.
///
/// A key that comes (back) into the queue starts at the least of those that are there: it has no
/// credit for the time that it asked for nothing.
///
/// Source: Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024), algorithm 2.
#[derive(Clone, Debug)]
pub(crate) struct VirtualTokens {
    config: FairnessConfig,
    accounts: HashMap<String, Account>,
    /// The counter of the key that left last, to compare with where nobody is left.
    last: f64,
}

/// Accounts kept before idle ones are dropped.
const MAX_ACCOUNTS: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    charged: f64,
    /// Requests in queue or running.
    open: usize,
}

impl VirtualTokens {
    pub(crate) fn new(config: FairnessConfig) -> Self {
        Self { config, accounts: HashMap::new(), last: 0.0 }
    }

    /// A request of `key` has come.
    pub(crate) fn enter(&mut self, key: &str) {
        let floor = self.floor();
        if self.accounts.len() >= MAX_ACCOUNTS {
            self.forget_idle(floor);
        }
        let account = self.accounts.entry(key.to_owned()).or_default();
        if account.open == 0 {
            account.charged = account.charged.max(floor);
        }
        account.open += 1;
    }

    /// A request of `key` has ended.
    pub(crate) fn leave(&mut self, key: &str) {
        let Some(account) = self.accounts.get_mut(key) else { return };
        account.open = account.open.saturating_sub(1);
        if account.open == 0 {
            self.last = account.charged;
        }
    }

    /// Where a key without an account begins.
    fn floor(&self) -> f64 {
        let present = self.accounts.values().filter(|account| account.open > 0);
        present.map(|account| account.charged).min_by(f64::total_cmp).unwrap_or(self.last)
    }

    /// Drops accounts of keys that are not here: first those that would begin at the floor anyway.
    fn forget_idle(&mut self, floor: f64) {
        self.accounts.retain(|_, account| account.open > 0 || account.charged > floor);
        if self.accounts.len() >= MAX_ACCOUNTS {
            self.accounts.retain(|_, account| account.open > 0);
        }
    }

    pub(crate) fn charge_prompt(&mut self, key: &str, tokens: usize) {
        self.charge(key, self.config.prompt_weight * tokens as f64);
    }

    pub(crate) fn charge_reply(&mut self, key: &str, tokens: usize) {
        self.charge(key, self.config.reply_weight * tokens as f64);
    }

    fn charge(&mut self, key: &str, amount: f64) {
        if let Some(account) = self.accounts.get_mut(key) {
            account.charged += amount;
        }
    }

    /// What `key` has been charged.
    pub(crate) fn charged(&self, key: &str) -> f64 {
        self.accounts.get(key).map_or(0.0, |account| account.charged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_has_no_credit() {
        let mut tokens = VirtualTokens::new(FairnessConfig::default());
        tokens.enter("a");
        tokens.charge_prompt("a", 10);
        tokens.charge_reply("a", 20);
        assert_eq!(tokens.charged("a"), 50.0);
        tokens.enter("b");
        assert_eq!(tokens.charged("b"), 50.0);
        tokens.charge_reply("b", 1);
        tokens.leave("a");
        tokens.charge_reply("b", 10);
        tokens.enter("a");
        assert_eq!(tokens.charged("a"), 72.0, "nor has who pauses");
        tokens.charge_reply("a", 10);
        tokens.leave("a");
        tokens.enter("a");
        assert_eq!(tokens.charged("a"), 92.0, "who pauses keeps its debt");
        tokens.leave("b");
        tokens.leave("a");
        tokens.enter("c");
        assert_eq!(tokens.charged("c"), 92.0);
    }

    #[test]
    fn strangers_take_bounded_memory() {
        let mut tokens = VirtualTokens::new(FairnessConfig::default());
        for i in 0..3 * MAX_ACCOUNTS {
            let key = i.to_string();
            tokens.enter(&key);
            tokens.charge_reply(&key, 1);
            tokens.leave(&key);
        }
        assert!(tokens.accounts.len() <= MAX_ACCOUNTS);
    }
}

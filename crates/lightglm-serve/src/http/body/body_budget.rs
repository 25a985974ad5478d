//! `BodyBudget`: the memory that bodies take while they arrive.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::error::ApiError;

/// A body's first bytes, which are not counted: who sends little is never refused because others send much, and
/// how many of them there can be is what connections there can be.
pub(in crate::http) const FREE: usize = 64 << 10;

/// Memory is taken so much at a time.
const PIECE: usize = 64 << 10;

/// The bytes of the bodies that are being read; clones are the same.
#[derive(Clone)]
pub(in crate::http) struct BodyBudget {
    pieces: Arc<Semaphore>,
    bytes: usize,
}

/// A body that grows within the budget; dropped, its share is free.
pub(in crate::http) struct GrowingBody {
    budget: BodyBudget,
    bytes: Vec<u8>,
    held: Option<OwnedSemaphorePermit>,
    /// The longest that is paid for.
    paid: usize,
}

impl BodyBudget {
    /// `bytes` for all bodies together.
    pub(in crate::http) fn new(bytes: usize) -> Self {
        let pieces = (bytes / PIECE).clamp(1, Semaphore::MAX_PERMITS);
        Self { pieces: Arc::new(Semaphore::new(pieces)), bytes }
    }

    /// A body that is empty yet.
    pub(in crate::http) fn body(&self) -> GrowingBody {
        GrowingBody { budget: self.clone(), bytes: Vec::new(), held: None, paid: FREE }
    }
}

impl GrowingBody {
    pub(in crate::http) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a piece of the body.
    ///
    /// # Errors
    /// [`ApiError::Bodies`] where the bodies of others leave no room for it.
    pub(in crate::http) fn extend(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        let length = self.bytes.len() + piece.len();
        if length > self.paid {
            let pieces = (length - self.paid).div_ceil(PIECE);
            let full = || ApiError::Bodies { limit: self.budget.bytes };
            let wanted = u32::try_from(pieces).map_err(|_| full())?;
            let held = self.budget.pieces.clone().try_acquire_many_owned(wanted);
            let held = held.map_err(|_| full())?;
            match &mut self.held {
                Some(all) => all.merge(held),
                None => self.held = Some(held),
            }
            self.paid += pieces * PIECE;
            // Not twice as much, which nobody paid for.
            self.bytes.reserve_exact(self.paid - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The bytes, and what is held for them.
    pub(in crate::http) fn into_parts(self) -> (Vec<u8>, Option<OwnedSemaphorePermit>) {
        (self.bytes, self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let budget = BodyBudget::new(2 * PIECE);
        let mut large = budget.body();
        large.extend(&[0; FREE]).unwrap();
        large.extend(&[0; 2 * PIECE]).unwrap();
        assert!(large.extend(&[0]).is_err());
        let mut small = budget.body();
        small.extend(&[0; FREE]).unwrap();
        assert!(small.extend(&[0]).is_err());
        drop(large);
        small.extend(&[0]).unwrap();
        let (bytes, held) = small.into_parts();
        assert_eq!(bytes.len(), FREE + 1);
        drop(held);
        assert_eq!(budget.pieces.available_permits(), 2);
    }
}

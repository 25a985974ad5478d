//! Connections: how many there are, whose, how long each may wait, and which one goes when another comes.
//!
//! A connection has a [`Line`](line::Line), which says what it is doing, and a [`Place`](places::Place) among those
//! that there may be. Where all places are taken, the one that is least missed is closed: an idle one before one
//! that sends its head slowly, that one before a slow body, and that one before a client that does not read. Who
//! is being answered is never closed for another. What comes when nobody can go gets a place of the
//! reserve, where `/health` and `/ready` are answered and everything else is a 503.

mod body;
mod connection;
mod descriptors;
mod gate;
mod host;
mod line;
mod listeners;
mod places;
mod stream;
#[cfg(feature = "tls")]
mod tls;

pub(super) use connection::{Served, connection};
pub use descriptors::raise_descriptor_limit;
pub(super) use descriptors::room_for_connections;
pub(super) use gate::{Gate, refuse};
pub(super) use host::{AllowedHost, HostRule};
pub use listeners::Listeners;
pub(super) use places::Places;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};

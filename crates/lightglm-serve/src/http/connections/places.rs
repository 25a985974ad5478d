//! `Places`: the connections that there may be, and which one is closed when another comes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::line::{Line, Phase};

/// Connections that are closed but still there: while there are more, none is accepted, for each has a
/// descriptor.
const CLOSING: usize = 16;

/// The connections of a listener.
pub(in crate::http) struct Places {
    most: usize,
    per_address: usize,
    reserve: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    connections: HashMap<u64, Connection>,
    /// Of `connections`, those that have no place of the reserve and are not closing.
    regular: usize,
    reserved: usize,
    closing: usize,
    /// Of `regular`, how many an address has.
    addresses: HashMap<IpAddr, usize>,
}

struct Connection {
    address: IpAddr,
    reserved: bool,
    line: Arc<Line>,
    close: Option<oneshot::Sender<()>>,
}

/// A connection's place; dropped, it is free.
pub(in crate::http) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) line: Arc<Line>,
    /// Only probes are answered.
    pub(super) reserved: bool,
    /// Ready when the place is another's.
    pub(super) closed: oneshot::Receiver<()>,
}

impl Places {
    /// `most` connections, of which one address has `per_address` at most, and `reserve` for probes.
    pub(in crate::http) fn new(most: usize, per_address: usize, reserve: usize) -> Arc<Self> {
        let (most, reserve) = (most.max(1), reserve.max(1));
        let per_address = per_address.clamp(1, most);
        Arc::new(Self { most, per_address, reserve, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another connection may be accepted.
    pub(in crate::http) fn may_accept(&self) -> bool {
        self.taken().closing < CLOSING
    }

    /// Makes room where descriptors ran out.
    pub(in crate::http) fn make_room(&self) {
        let taken = &mut *self.taken();
        taken.close_one(None);
    }

    /// A place for a connection from `address`, which starts in `phase`; another is closed for it where it
    /// has to be.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, phase: Phase) -> Place {
        let address = network(address);
        let taken = &mut *self.taken();
        let own = taken.addresses.get(&address).copied().unwrap_or(0);
        let fits = match (own >= self.per_address, taken.regular >= self.most) {
            (false, false) => true,
            // Its own share is used up: one of its own goes.
            (true, _) => taken.close_one(Some(address)),
            (false, true) => taken.close_one(None),
        };
        if !fits && taken.reserved >= self.reserve {
            taken.close_reserved();
        }
        let (close, closed) = oneshot::channel();
        let line = Arc::new(Line::new(phase));
        let number = taken.next;
        taken.next += 1;
        let reserved = !fits;
        let connection = Connection { address, reserved, line: line.clone(), close: Some(close) };
        taken.connections.insert(number, connection);
        match reserved {
            true => taken.reserved += 1,
            false => {
                taken.regular += 1;
                *taken.addresses.entry(address).or_default() += 1;
            }
        }
        Place { places: self.clone(), number, line, reserved, closed }
    }
}

impl Taken {
    /// Closes the connection that is least missed, of `address` if there is one; false where none can go.
    ///
    /// Among idle ones it is the oldest of the address that has most.
    fn close_one(&mut self, address: Option<IpAddr>) -> bool {
        // A connection may begin something else between the look and the closing.
        for _ in 0..3 {
            let candidates = self.connections.iter().filter(|(_, connection)| {
                !connection.reserved && address.is_none_or(|address| connection.address == address)
            });
            let candidates = candidates.filter_map(|(number, connection)| {
                let (phase, missed) = connection.line.missed()?;
                let share = self.addresses.get(&connection.address).copied().unwrap_or(0);
                Some(((missed.kind, Reverse(share), missed.measure, *number), phase))
            });
            let Some(((_, _, _, number), phase)) = candidates.min_by_key(|(order, _)| *order)
            else {
                return false;
            };
            if self.connections.get(&number).is_some_and(|connection| connection.line.close(phase))
            {
                self.close(number);
                return true;
            }
        }
        false
    }

    /// Closes the oldest of the reserve.
    fn close_reserved(&mut self) {
        let open = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.reserved && connection.close.is_some());
        let Some(number) = open.map(|(number, _)| *number).min() else { return };
        if self.connections.get(&number).is_some_and(|connection| connection.line.close_anyway()) {
            self.close(number);
        }
    }

    /// Tells a connection that is marked as closed, and counts it as closing.
    fn close(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let Some(close) = connection.close.take() else { return };
        let _ = close.send(());
        let (address, reserved) = (connection.address, connection.reserved);
        self.closing += 1;
        self.free(address, reserved);
    }

    fn free(&mut self, address: IpAddr, reserved: bool) {
        if reserved {
            self.reserved -= 1;
            return;
        }
        self.regular -= 1;
        if let Some(own) = self.addresses.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = &mut *self.places.taken();
        let Some(connection) = taken.connections.remove(&self.number) else { return };
        match connection.close {
            Some(_) => taken.free(connection.address, connection.reserved),
            None => taken.closing -= 1,
        }
    }
}

/// What counts as one peer: an address, but of IPv6 the 64 bits that a subscriber gets.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_closed(place: &Place) -> bool {
        place.line.phase() == Phase::Closed
    }

    #[test]
    fn the_oldest_idle_one_goes() {
        let places = Places::new(3, 3, 1);
        let [busy, idle, later] = [1, 2, 3].map(|last| places.take(address(last), Phase::Idle));
        busy.line.begin(false);
        let newest = places.take(address(4), Phase::Idle);
        assert!(is_closed(&idle) && !newest.reserved);
        assert!(![&busy, &later, &newest].into_iter().any(is_closed));
        drop(idle);
        assert!(places.may_accept());
    }

    #[test]
    fn an_address_makes_room_for_itself() {
        let places = Places::new(4, 2, 1);
        let other = places.take(address(9), Phase::Idle);
        let [first, second, third] = [1, 1, 1].map(|last| places.take(address(last), Phase::Idle));
        assert!(is_closed(&first) && ![&other, &second, &third].into_iter().any(is_closed));
        for place in [&second, &third] {
            place.line.begin(false);
        }
        // Nothing of its own can go: the reserve answers.
        assert!(places.take(address(1), Phase::Idle).reserved);
        assert!(!places.take(address(2), Phase::Idle).reserved);
        assert!(!is_closed(&other));
    }

    #[test]
    fn the_reserve_goes_round() {
        let places = Places::new(1, 1, 2);
        let busy = places.take(address(1), Phase::Idle);
        busy.line.begin(false);
        let reserved = [2, 3, 4].map(|last| places.take(address(last), Phase::Idle));
        assert!(reserved.iter().all(|place| place.reserved) && !is_closed(&busy));
        assert_eq!(reserved.each_ref().map(is_closed), [true, false, false]);
        drop(reserved);
        drop(busy);
        let taken = places.taken();
        assert_eq!((taken.regular, taken.reserved, taken.closing), (0, 0, 0));
        assert!(taken.addresses.is_empty() && taken.connections.is_empty());
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_peer() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::4"), of("2001:db8:1:3::4"));
        assert_eq!(of("::ffff:10.0.0.1"), address(1));
    }
}

//! Ports for the servers that tests start: nobody listens there, and nobody comes to by accident.
//!
//! A port that the system chose (port 0) is given to somebody's outgoing connection as soon as it is let
//! go, and a client that tries again and again to reach a server there, which has yet to start, may even
//! meet itself. So these lie below the ports of outgoing connections, and none is given twice.

use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that Linux gives to outgoing connections.
const PORTS: std::ops::Range<u32> = 12_000..32_000;

/// Processes side by side begin at different places.
const STRIDE: u32 = 41;

/// A port nobody listens at. No two calls of one process get the same.
pub fn free() -> u16 {
    free_in_a_row(1)
}

/// The first of `n` ports in a row nobody listens at. All of them are the caller's.
pub fn free_in_a_row(n: u16) -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let (n_ports, n) = (PORTS.end - PORTS.start, u32::from(n));
    for _ in 0..n_ports {
        let given = GIVEN.fetch_add(n, Ordering::Relaxed);
        let first = PORTS.start + process::id().wrapping_mul(STRIDE).wrapping_add(given) % n_ports;
        let row = first..first + n;
        if row.end <= PORTS.end && row.clone().all(is_free) {
            return u16::try_from(first).expect("a range of ports");
        }
    }
    panic!("all ports are taken");
}

fn is_free(port: u32) -> bool {
    let port = u16::try_from(port).expect("a range of ports");
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_only_if_nobody_listens_there() {
        let mut given = BTreeSet::new();
        for _ in 0..20 {
            let alone = free();
            assert!(given.insert(alone));
            // It would be the next.
            let taken = TcpListener::bind(("127.0.0.1", alone + 1));
            let first = free_in_a_row(5);
            assert!(taken.is_err() || first > alone + 1 || first + 5 <= alone, "{first} is taken");
            assert!((first..first + 5).all(|port| given.insert(port)), "{first} in {given:?}");
        }
    }
}

//! systemd's journal: a datagram of named fields on a local socket.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use super::Level;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Longest line that is sent: a larger datagram would not get through.
const LINE_SIZE_MAX: usize = 128 << 10;

pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Self { socket })
    }

    pub(super) fn write(&self, level: Level, line: &[u8]) -> io::Result<()> {
        self.socket.send(&datagram(level, line)).map(drop)
    }
}

/// A value with its length in front may hold anything; a line might hold a line's end.
fn datagram(level: Level, line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = &line[..line.len().min(LINE_SIZE_MAX)];
    let mut out = Vec::with_capacity(line.len() + 64);
    let _ = write!(out, "PRIORITY={}\nSYSLOG_IDENTIFIER=etcd\nMESSAGE\n", priority(level));
    out.extend_from_slice(&(line.len() as u64).to_le_bytes());
    out.extend_from_slice(line);
    out.push(b'\n');
    out
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Fatal => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_names_its_fields_and_counts_the_message() {
        assert_eq!(
            datagram(Level::Warn, b"a\nb\n"),
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=etcd\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"
        );
    }
}

//! A client that makes its frames by hand, so that it can leave out, repeat and delay what it likes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GO_AWAY: u8 = 7;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes before a frame's payload.
const HEADER_SIZE: usize = 9;

/// A frame the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    /// A number of the payload.
    pub(super) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    pub(super) fn says(&self, text: &str) -> bool {
        self.payload.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    socket: TcpStream,
    pending: Vec<u8>,
}

impl Peer {
    /// Connects and says nothing.
    pub(super) fn silent(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        socket.set_nodelay(true).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a connection");
        Self { socket, pending: Vec::new() }
    }

    /// Connects and says hello.
    pub(super) fn greet(port: u16) -> Self {
        let mut peer = Self::silent(port);
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        peer.frame(SETTINGS, 0, 0, &[]);
        peer.frame(SETTINGS, ACK, 0, &[]);
        peer
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("a connection");
    }

    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.send(&bytes);
    }

    /// Opens a call, with more fields than each has.
    pub(super) fn open(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) {
        let mut block = Vec::new();
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "a"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        for (name, value) in fields.iter().chain(more) {
            block.push(0); // Spelled out, and not to be remembered.
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("a short text"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.frame(HEADERS, END_HEADERS, stream, &block);
    }

    /// Sends a message.
    pub(super) fn message(&mut self, stream: u32, flags: u8, body: &[u8]) {
        let length = u32::try_from(body.len()).expect("a short message").to_be_bytes();
        self.frame(DATA, flags, stream, &[&[0][..], &length, body].concat());
    }

    /// The next frame; `None` if the connection ends.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.whole() {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    assert!(Instant::now() < deadline, "the server says nothing");
                }
                Err(_) => return None,
            }
        }
    }

    fn whole(&mut self) -> Option<Frame> {
        let head = self.pending.first_chunk::<HEADER_SIZE>()?;
        let end = HEADER_SIZE
            + usize::from(head[0]) * 65_536
            + usize::from(head[1]) * 256
            + usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
        let payload = self.pending.get(HEADER_SIZE..end)?.to_vec();
        self.pending.drain(..end);
        Some(Frame { kind, flags, stream, payload })
    }

    /// The next frame that is like that; those before it are passed over.
    pub(super) fn find(&mut self, like: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if like(&frame) {
                return Some(frame);
            }
        }
    }

    /// Whether the server ends the connection before it says anything like that.
    pub(super) fn ends_without(&mut self, like: impl Fn(&Frame) -> bool) -> bool {
        self.find(like).is_none()
    }
}

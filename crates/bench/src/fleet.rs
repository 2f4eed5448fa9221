//! Connections in one thread: their sockets, and the loop that serves them.
//!
//! A turn waits for sockets, then reads once from each that has something, lets the load see the
//! events and ask more, and writes once. Nothing is allocated in a turn.
//!
//! ```text
//! turn ─► epoll ─► read ─► Session ─► Load::on_event …     ─► write
//!                            ▲        Load::on_settled ──────┘
//!                            └── what was cut off of a frame waits for the next read
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::failure::{Failure, system};
use crate::http2::{Event, Session};
use crate::machine::{Clock, timespec};

/// What is read of a socket at once.
const READ_SIZE: usize = 256 << 10;

/// The longest that connecting and saying hello may take.
const HELLO_MAX: Duration = Duration::from_secs(30);

/// Sockets served before the kernel is asked again.
const EVENTS_PER_TURN_MAX: usize = 256;

/// What goes over the connections of a fleet.
pub(crate) trait Load {
    /// Something was answered on the connection at that place.
    fn on_event(&mut self, at: usize, event: Event<'_>, now: u64) -> Result<(), Failure>;

    /// All that came has been seen: the time to ask more.
    fn on_settled(&mut self, at: usize, session: &mut Session, now: u64);
}

struct Link {
    socket: TcpStream,
    session: Session,
    /// The beginning of a frame whose rest has not come.
    kept: Vec<u8>,
    waits_to_write: bool,
}

pub(crate) struct Fleet {
    epoll: OwnedFd,
    links: Vec<Link>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    pub(crate) clock: Clock,
}

impl Fleet {
    /// So many connections to the server, all of which have been greeted.
    pub(crate) fn connect(address: SocketAddr, n: usize) -> Result<Self, Failure> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("making an epoll"))?;
        let mut fleet = Self {
            epoll,
            links: Vec::with_capacity(n),
            events: Vec::with_capacity(EVENTS_PER_TURN_MAX),
            buffer: vec![0; READ_SIZE],
            clock: Clock::start(),
        };
        let authority = address.to_string();
        for at in 0..n {
            let link = fleet.open(address, &authority, at).map_err(system("connecting"))?;
            fleet.links.push(link);
            fleet.write(at)?;
        }
        let deadline = HELLO_MAX.as_nanos() as u64;
        while fleet.links.iter().any(|link| !link.session.is_ready()) {
            if fleet.clock.now() > deadline {
                return Err(Failure::TooLate { doing: "connecting" });
            }
            fleet.turn(HELLO_MAX, &mut Silence)?;
        }
        Ok(fleet)
    }

    fn open(&self, address: SocketAddr, authority: &str, at: usize) -> io::Result<Link> {
        let socket = TcpStream::connect_timeout(&address, HELLO_MAX)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        epoll::add(&self.epoll, &socket, EventData::new_u64(at as u64), EventFlags::IN)?;
        let session = Session::new(authority);
        Ok(Link { socket, session, kept: Vec::new(), waits_to_write: false })
    }

    pub(crate) fn n_links(&self) -> usize {
        self.links.len()
    }

    /// Lets the load ask on every connection, whatever came.
    pub(crate) fn prompt_all(&mut self, load: &mut impl Load) -> Result<(), Failure> {
        (0..self.links.len()).try_for_each(|at| self.prompt(at, load))
    }

    /// Lets the load ask on the connection at that place.
    pub(crate) fn prompt(&mut self, at: usize, load: &mut impl Load) -> Result<(), Failure> {
        load.on_settled(at, &mut self.links[at].session, self.clock.now());
        self.write(at)
    }

    /// Waits for answers, no longer than told, and deals with them.
    pub(crate) fn turn(&mut self, wait: Duration, load: &mut impl Load) -> Result<(), Failure> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, Some(&timespec(wait))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(system("waiting for sockets")(error)),
        }
        for event in &events {
            let (at, flags) = (event.data.u64() as usize, event.flags);
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.read(at, load)?;
            }
            self.write(at)?;
        }
        self.events = events;
        Ok(())
    }

    fn read(&mut self, at: usize, load: &mut impl Load) -> Result<(), Failure> {
        let Link { socket, session, kept, .. } = &mut self.links[at];
        self.buffer[..kept.len()].copy_from_slice(kept);
        let n = match socket.read(&mut self.buffer[kept.len()..]) {
            Ok(0) => return Err(Failure::Wrong("the server closed a connection")),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(system("reading a socket")(error)),
        };
        let now = self.clock.now();
        let mut input = &self.buffer[..kept.len() + n];
        while let Some(event) = session.receive(&mut input)? {
            load.on_event(at, event, now)?;
        }
        kept.clear();
        kept.extend_from_slice(input);
        load.on_settled(at, session, now);
        Ok(())
    }

    fn write(&mut self, at: usize) -> Result<(), Failure> {
        let Link { socket, session, waits_to_write, .. } = &mut self.links[at];
        while !session.output.is_empty() {
            match socket.write(&session.output) {
                Ok(n) if n == session.output.len() => session.output.clear(),
                Ok(n) => drop(session.output.drain(..n)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(system("writing to a socket")(error)),
            }
        }
        let waits = !session.output.is_empty();
        if waits != *waits_to_write {
            *waits_to_write = waits;
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &*socket, EventData::new_u64(at as u64), flags)
                .map_err(system("watching a socket"))?;
        }
        Ok(())
    }
}

/// Nothing asked, nothing expected.
pub(crate) struct Silence;

impl Load for Silence {
    fn on_event(&mut self, _: usize, _: Event<'_>, _: u64) -> Result<(), Failure> {
        Err(Failure::Wrong("an answer to no question"))
    }

    fn on_settled(&mut self, _: usize, _: &mut Session, _: u64) {}
}

//! One request and its answer, on a connection of its own: what happens between measurements.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use proto::Method;
use proto::prost::Message;

use crate::failure::{Failure, system};
use crate::http2::{Event, MESSAGE_HEAD_SIZE, Outcome, Session};

const READ_SIZE: usize = 64 << 10;

/// The largest answer that is waited for.
const ANSWER_MAX: usize = 16 << 20;

pub(crate) fn call<Answer: Message + Default>(
    address: SocketAddr,
    method: Method,
    request: &impl Message,
    patience: Duration,
) -> Result<Answer, Failure> {
    let deadline = Instant::now() + patience;
    let doing = method.path();
    let mut socket = TcpStream::connect_timeout(&address, patience).map_err(system(doing))?;
    let mut session = Session::new(&address.to_string());
    let (mut buffer, mut kept) = (vec![0; READ_SIZE], Vec::new());
    let (mut answer, mut asked) = (Vec::new(), false);
    loop {
        if session.is_ready() && !asked {
            session.request(method, &request.encode_to_vec());
            asked = true;
        }
        socket.write_all(&session.output).map_err(system(doing))?;
        session.output.clear();

        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > ANSWER_MAX {
            return Err(Failure::TooLate { doing });
        }
        socket.set_read_timeout(Some(left)).map_err(system(doing))?;
        let n = match socket.read(&mut buffer).map_err(system(doing))? {
            0 => return Err(Failure::Wrong("the server closed the connection")),
            n => n,
        };
        kept.extend_from_slice(&buffer[..n]);
        let mut input = &kept[..];
        while let Some(event) = session.receive(&mut input)? {
            match event {
                Event::Data { bytes, .. } => answer.extend_from_slice(bytes),
                Event::Ended { outcome: Outcome::Done, .. } => return decode(&answer),
                Event::Ended { outcome, .. } => return Err(Failure::Refused { doing, outcome }),
            }
        }
        kept.drain(..kept.len() - input.len());
    }
}

fn decode<Answer: Message + Default>(bytes: &[u8]) -> Result<Answer, Failure> {
    let message = bytes.get(MESSAGE_HEAD_SIZE..).ok_or(Failure::Wrong("an empty answer"))?;
    Answer::decode(message).map_err(|_| Failure::Wrong("an answer that is not of its type"))
}

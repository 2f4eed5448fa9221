//! Posts of etcd's members, byte for byte: our door answers them as etcd's did, and what we post in their
//! place looks the same.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

const FILE: &[u8] = b"the file";

/// What one member posted to another, and was answered.
struct Exchange {
    from: u64,
    to: u64,
    /// The lines of both heads; the answer's without its date.
    asked: Vec<&'static str>,
    body: Vec<u8>,
    answered: Vec<&'static str>,
}

fn exchange(name: &str) -> Exchange {
    let text = include_str!("../../../testdata/recorded/etcd_3.7.1_posts.txt");
    let is_it = |block: &&str| block.lines().next() == Some(&format!("exchange {name}"));
    let block = text.split("\n\n").find(is_it).expect("a recorded exchange");
    let lines = |mark: &str| block.lines().filter_map(|line| line.strip_prefix(mark)).collect();
    let line = |mark: &str| block.lines().find_map(|line| line.strip_prefix(mark)).expect("a line");
    let id = |mark: &str| u64::from_str_radix(line(mark), 16).expect("an id");
    let digits = line("body ").as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).expect("digits"), 16);
    let body = digits.map(|pair| byte(pair).expect("digits")).collect();
    Exchange { from: id("from "), to: id("to "), asked: lines("> "), body, answered: lines("< ") }
}

impl Exchange {
    fn header(&self, name: &str) -> &'static str {
        let prefix = format!("{name}: ");
        self.asked.iter().find_map(|line| line.strip_prefix(&*prefix)).expect("a header")
    }

    /// A seat in the place of one of the two.
    fn seat(&self, id: u64) -> Seat {
        let cluster = u64::from_str_radix(self.header("X-Etcd-Cluster-Id"), 16).expect("an id");
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let url = (id == self.from).then(|| self.header("X-Peerurls").to_owned());
        Seat::take_in(cluster, id, at, url)
    }

    /// The message, and the length before it if it comes before a file.
    fn message(&self) -> Message {
        let length = if self.asked[0].contains("snapshot") { 8 } else { 0 };
        let bytes = Bytes::from(self.body[length..].to_vec());
        member::message::decode(bytes).expect("what etcd sent")
    }
}

/// Asks our door with these very bytes; the lines of the head of the answer, without date.
fn answer(seat: &Seat, head: &[&str], body: &[u8]) -> Vec<String> {
    let mut socket = TcpStream::connect(seat.at).expect("a door");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let head = head.join("\r\n") + "\r\n\r\n";
    socket.write_all(&[head.as_bytes(), body].concat()).expect("a door");
    let (head, _) = read_head(&mut socket);
    head.into_iter().filter(|line| !line.to_ascii_lowercase().starts_with("date:")).collect()
}

/// The lines of a head, and what came with it.
fn read_head(socket: &mut impl Read) -> (Vec<String>, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|at| at == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let head = str::from_utf8(&bytes[..end]).expect("a head");
            return (head.split("\r\n").map(str::to_owned).collect(), rest);
        }
        let mut buffer = [0; 4096];
        let n = socket.read(&mut buffer).expect("a head");
        assert!(n > 0, "hung up: {bytes:?}");
        bytes.extend_from_slice(&buffer[..n]);
    }
}

fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces.iter().chain([&&b""[..]]) {
        write!(bytes, "{:x}\r\n", piece.len()).expect("a buffer that grows");
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[test]
fn what_an_etcd_member_posts_is_taken_and_answered_as_etcd_answers() {
    for name in ["heartbeat", "heartbeat_reply", "proposal"] {
        let exchange = exchange(name);
        let seat = exchange.seat(exchange.to);
        assert_eq!(answer(&seat, &exchange.asked, &exchange.body), exchange.answered, "{name}");
        let said = exchange.message();
        let bodies = |told: &Told| told.messages.iter().map(|m| m.body.clone()).collect::<Vec<_>>();
        assert_eq!(bodies(&seat.host.told()), [said.body], "{name}");
    }
    let beat = Body::Heartbeat { commit: Index(8), context: Bytes::new() };
    assert_eq!(exchange("heartbeat").message().body, beat);
}

#[test]
fn the_snapshot_of_an_etcd_member_is_taken_and_answered_as_etcd_answers() {
    let exchange = exchange("snapshot");
    let seat = exchange.seat(exchange.to);
    // As etcd cuts it: the message and the beginning of the file in one.
    let (begin, end) = FILE.split_at(6);
    let body = chunked(&[&exchange.body, begin, end]);
    assert_eq!(answer(&seat, &exchange.asked, &body), exchange.answered);
    let told = seat.host.told();
    let [Message { body: Body::Snapshot(snapshot), term: Term(2), .. }] = &told.messages[..] else {
        panic!("a snapshot: {:?}", told.messages)
    };
    let name = path_of(snapshot.index.0);
    let file = seat.disk.open(Path::new(&name)).expect("the file");
    let mut content = Vec::new();
    file.copy_to(0, FILE.len(), &mut content).expect("all of it");
    assert_eq!(file.len().expect("a length"), content.len() as u64);
    assert_eq!(content, FILE);
    assert_eq!(snapshot.conf_state.voters.len(), 3);
    assert!(snapshot.data.starts_with(b"{\"Root\":"), "etcd's old store goes along");
}

fn path_of(index: u64) -> String {
    format!("/snap/{index:016x}.snap.db")
}

/// Lets `post` reach us instead of the other member; the head and the body of what is posted to `page`.
fn posted(exchange: &Exchange, post: impl FnOnce(&Seat)) -> (Vec<String>, Vec<u8>) {
    let seat = exchange.seat(exchange.from);
    let listener = SilentListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    seat.peers.set_members(&[(exchange.to, vec![url])]);
    post(&seat);
    loop {
        // Streams are dialled, too, and probes come.
        let (mut socket, _) = listener.accept().expect("a connection");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let (head, mut body) = read_head(&mut socket);
        if head[0] != exchange.asked[0] {
            continue;
        }
        let length = head.iter().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
        let begun = body.len();
        body.resize(length, 0);
        socket.read_exact(&mut body[begun..]).expect("the rest");
        return (head, body);
    }
}

/// The headers that tell, in some order: not where it goes, how long it is, and which program says it.
fn telling<'a>(head: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    const OTHERS: [&str; 5] =
        ["Host:", "User-Agent:", "Accept-Encoding:", "Content-Length:", "Transfer-Encoding:"];
    let is_other = |line: &&str| OTHERS.iter().any(|other| line.starts_with(other));
    let mut telling: Vec<&str> = head.into_iter().filter(|line| !is_other(line)).collect();
    telling.sort_unstable();
    telling
}

#[test]
fn what_we_post_has_the_bytes_and_headers_of_what_etcd_posts() {
    for name in ["heartbeat", "heartbeat_reply", "proposal"] {
        let exchange = exchange(name);
        let message = exchange.message();
        let (head, body) = posted(&exchange, |seat| seat.peers.send(&mut vec![message]));
        let head = head.iter().map(String::as_str);
        assert_eq!(telling(head), telling(exchange.asked.iter().copied()), "{name}");
        assert_eq!(body, exchange.body, "{name}");
    }
}

#[test]
fn the_snapshot_we_send_has_the_bytes_and_headers_of_what_etcd_sends() {
    let exchange = exchange("snapshot");
    let message = exchange.message();
    let (head, body) = posted(&exchange, |seat| {
        let (sender, file) = mpsc::channel(1);
        sender.try_send(Bytes::from_static(FILE)).expect("room");
        seat.peers.send_snapshot(message, 8, file);
    });
    let head = head.iter().map(String::as_str);
    assert_eq!(telling(head), telling(exchange.asked.iter().copied()));
    assert_eq!(body, [&exchange.body[..], FILE].concat());
}

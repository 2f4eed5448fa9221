//! What the loads ask: messages encoded once, with numbers left open.
//!
//! Encoding a request anew each time would cost the client more than sending it. So a message is
//! encoded with marks where numbers belong, and sending the next one stamps digits over them.
//!
//! ```text
//! … 0a 3c  bench/put/…/#0000000  12 80 02  vvvvvvvv…      encoded once
//!                      ╰──┬───╯
//!                      00031415                           stamped for request 31415
//! ```
//!
//! A mark is `#` and seven digits; the digits are added to the number stamped, so that one message
//! may hold a hundred keys in a row.

use proto::Method;
use proto::bytes::Bytes;
use proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use proto::prost::Message;
use stdx::Generator;

pub(crate) const KEY_SIZE: usize = 60;
const DIGITS: usize = 8;
const MARK: u8 = b'#';

/// The largest set of keys digits can tell apart.
const NUMBERS_MAX: u64 = 100_000_000;

/// A key of `KEY_SIZE` in the named family, with a mark for its number.
pub(crate) fn key(family: &str, plus: u64) -> Bytes {
    let start = format!("bench/{family}/");
    let name = format!("{start:-<width$}", width = KEY_SIZE - DIGITS);
    Bytes::from(format!("{name}{}", mark(plus)))
}

/// A key that is the same in every request.
pub(crate) fn fixed_key(name: &str) -> Bytes {
    Bytes::from(format!("bench/{name:-<width$}", width = KEY_SIZE - "bench/".len()))
}

fn mark(plus: u64) -> String {
    format!("#{plus:07}")
}

pub(crate) fn value(size: usize) -> Bytes {
    Bytes::from(vec![b'v'; size])
}

/// A value that ends with the number of the request.
pub(crate) fn numbered_value(size: usize) -> Bytes {
    let mut value = vec![b'v'; size - DIGITS];
    value.extend_from_slice(mark(0).as_bytes());
    Bytes::from(value)
}

/// The number such a value ends with.
pub(crate) fn number_of(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value.last_chunk::<DIGITS>()?).ok()?.parse().ok()
}

pub(crate) fn put(family: &str, value: Bytes) -> PutRequest {
    PutRequest { key: key(family, 0), value, ..Default::default() }
}

/// So many puts of consecutive keys at once.
pub(crate) fn puts(family: &str, value: &Bytes, n: u64) -> TxnRequest {
    let put =
        |plus| PutRequest { key: key(family, plus), value: value.clone(), ..Default::default() };
    let success = (0..n).map(|plus| RequestOp { request: Some(Request::RequestPut(put(plus))) });
    TxnRequest { success: success.collect(), ..Default::default() }
}

/// A put under the condition that the key was written before, or else a get.
pub(crate) fn compare_and_put(family: &str, value: Bytes) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Greater as i32,
        target: CompareTarget::Mod as i32,
        key: key(family, 0),
        target_union: Some(TargetUnion::ModRevision(0)),
        ..Default::default()
    };
    let otherwise = RangeRequest { key: key(family, 0), ..Default::default() };
    TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp { request: Some(Request::RequestPut(put(family, value))) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(otherwise)) }],
    }
}

pub(crate) fn get(family: &str, serializable: bool) -> RangeRequest {
    RangeRequest { key: key(family, 0), serializable, ..Default::default() }
}

/// All of so many keys in a row.
pub(crate) fn range(family: &str, n: u64) -> RangeRequest {
    RangeRequest { key: key(family, 0), range_end: key(family, n), ..Default::default() }
}

/// A message with numbers left open.
pub(crate) struct Numbered {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
}

struct Mark {
    at: usize,
    plus: u64,
}

impl Numbered {
    pub(crate) fn new(message: &impl Message) -> Self {
        let bytes = message.encode_to_vec();
        let plus = |window: &[u8]| {
            let digits = window.strip_prefix(&[MARK])?;
            digits.iter().all(u8::is_ascii_digit).then_some(())?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        };
        let windows = bytes.windows(DIGITS).enumerate();
        let marks = windows.filter_map(|(at, w)| Some(Mark { at, plus: plus(w)? })).collect();
        Self { bytes, marks }
    }

    /// The message for that number.
    pub(crate) fn stamp(&mut self, number: u64) -> &[u8] {
        for mark in &self.marks {
            let mut rest = number + mark.plus;
            assert!(rest < NUMBERS_MAX, "a number has eight digits");
            for digit in self.bytes[mark.at..mark.at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        &self.bytes
    }
}

/// Which numbers come after one another.
pub(crate) enum Order {
    Random {
        below: u64,
        generator: Generator,
    },
    /// 0, step, 2 × step … and again from 0 where `below` is reached.
    Rising {
        next: u64,
        step: u64,
        below: u64,
    },
}

impl Order {
    /// The same sequence each time, so that both servers meet the same requests.
    pub(crate) fn random(below: u64) -> Self {
        Self::Random { below, generator: Generator::new(1) }
    }

    pub(crate) fn rising(step: u64, below: u64) -> Self {
        Self::Rising { next: 0, step, below }
    }

    fn next(&mut self) -> u64 {
        match self {
            Self::Random { below, generator } => generator.below(*below),
            Self::Rising { next, step, below } => {
                let number = *next;
                *next = if number + *step < *below { number + *step } else { 0 };
                number
            }
        }
    }
}

/// An endless supply of requests of one kind.
pub(crate) struct Requests {
    pub(crate) method: Method,
    message: Numbered,
    order: Order,
}

impl Requests {
    pub(crate) fn new(method: Method, message: &impl Message, order: Order) -> Self {
        Self { method, message: Numbered::new(message), order }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.message.stamp(self.order.next())
    }

    /// One of them, for asking whether it may be sent: all are of one size.
    pub(crate) fn any(&self) -> &[u8] {
        &self.message.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_sixty_bytes_and_keys_sort_by_number() {
        let mut message = Numbered::new(&put("put", value(256)));
        let mut key_of = |n| PutRequest::decode(message.stamp(n)).expect("a put").key;
        let (a, b) = (key_of(9), key_of(10));
        assert_eq!((a.len(), b.len()), (KEY_SIZE, KEY_SIZE));
        assert!(a < b && a.ends_with(b"-00000009"));
    }

    #[test]
    fn a_transaction_of_many_puts_has_consecutive_keys() {
        let mut message = Numbered::new(&puts("big", &value(35), 100));
        let txn = TxnRequest::decode(message.stamp(4200)).expect("a transaction");
        assert_eq!(txn.success.len(), 100);
        for (n, op) in txn.success.iter().enumerate() {
            let Some(Request::RequestPut(put)) = &op.request else { panic!("not a put") };
            assert_eq!(number_of(&put.key), Some(4200 + n as u64));
        }
    }

    #[test]
    fn a_range_spans_as_many_numbers_as_asked() {
        let mut message = Numbered::new(&range("range", 1000));
        let range = RangeRequest::decode(message.stamp(7)).expect("a range");
        assert_eq!((number_of(&range.key), number_of(&range.range_end)), (Some(7), Some(1007)));
    }

    #[test]
    fn a_numbered_value_says_its_number() {
        let mut message = Numbered::new(&put("watch", numbered_value(256)));
        let value = PutRequest::decode(message.stamp(31_415)).expect("a put").value;
        assert_eq!((value.len(), number_of(&value)), (256, Some(31_415)));
    }

    #[test]
    fn a_rising_order_begins_again() {
        let mut order = Order::rising(2, 5);
        assert_eq!([0; 4].map(|_| order.next()), [0, 2, 4, 0]);
    }
}

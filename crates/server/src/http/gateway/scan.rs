//! Where a JSON value ends, found as its bytes come in.
//!
//! A body may hold several values, one behind the other. Go's decoder finds the end of each before
//! it looks at what it means, and so do we: what is no JSON at all is refused in Go's words.
//!
//! # Invariants
//!
//! - Each byte is looked at once, however it is cut into pieces.   (a test)
//! - Values nest [`DEPTH_MAX`] deep at most.

/// How deep values may nest, as in Go.
const DEPTH_MAX: usize = 10_000;

/// What the scanner has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A whole value: this many bytes, white space before it included.
    Value(usize),
    Unfinished,
    /// This can't become a value.
    Invalid(String),
}

/// What a byte is expected to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Value,
    ValueOrEndOfArray,
    KeyOrEndOfObject,
    Key,
    Colon,
    /// Behind a value within an object or array.
    Comma,
    Text,
    Escape,
    /// Hexadecimal digits to come.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    E,
    Exponent,
    ExponentDigits,
    /// Within `true`, `false` or `null`, at this byte.
    Word(&'static str, usize),
    /// Behind the value.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nest {
    Array,
    Key,
    Member,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: State,
    nests: Vec<Nest>,
    /// Bytes looked at.
    at: usize,
}

impl Scanner {
    /// Goes on behind the bytes it has seen; `bytes` begins where the value may.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scan {
        while let Some(&byte) = bytes.get(self.at) {
            let ends_number = self.is_whole() && !self.continues_number(byte);
            if ends_number && self.nests.is_empty() {
                return Scan::Value(self.at);
            }
            if let Err(why) = self.step(byte) {
                return Scan::Invalid(format!("invalid character {} {why}", quoted(byte)));
            }
            self.at += 1;
            if self.state == State::Done {
                return Scan::Value(self.at);
            }
            if self.nests.len() > DEPTH_MAX {
                return Scan::Invalid("exceeded max depth".to_owned());
            }
        }
        Scan::Unfinished
    }

    pub(super) fn is_before_value(&self) -> bool {
        self.state == State::Value && self.nests.is_empty()
    }

    /// Whether what was seen is a value if nothing follows: a number at the top.
    pub(super) fn is_whole(&self) -> bool {
        let number = [State::Zero, State::Digits, State::Fraction, State::ExponentDigits];
        self.nests.is_empty() && number.contains(&self.state)
    }

    fn continues_number(&self, byte: u8) -> bool {
        match byte {
            b'0'..=b'9' => self.state != State::Zero,
            b'.' => matches!(self.state, State::Zero | State::Digits),
            b'e' | b'E' => self.state != State::ExponentDigits,
            _ => false,
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), String> {
        let is_space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match self.state {
            State::Value
            | State::ValueOrEndOfArray
            | State::KeyOrEndOfObject
            | State::Key
            | State::Colon
            | State::Comma
                if is_space => {}
            State::ValueOrEndOfArray if byte == b']' => self.close(),
            State::Value | State::ValueOrEndOfArray => self.begin_value(byte)?,
            State::KeyOrEndOfObject if byte == b'}' => self.close(),
            State::KeyOrEndOfObject | State::Key => self.begin_key(byte)?,
            State::Colon => self.colon(byte)?,
            State::Comma => self.comma(byte)?,
            State::Text => self.text(byte)?,
            State::Escape => self.escape(byte)?,
            State::Hex(left) => self.hex(left, byte)?,
            State::Word(word, at) => self.word(word, at, byte)?,
            State::Minus
            | State::Zero
            | State::Digits
            | State::Point
            | State::Fraction
            | State::E
            | State::Exponent
            | State::ExponentDigits => self.number(byte)?,
            State::Done => unreachable!("the scan has stopped"),
        }
        Ok(())
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), String> {
        self.state = match byte {
            b'{' => {
                self.nests.push(Nest::Key);
                State::KeyOrEndOfObject
            }
            b'[' => {
                self.nests.push(Nest::Array);
                State::ValueOrEndOfArray
            }
            b'"' => State::Text,
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Digits,
            b't' => State::Word("true", 1),
            b'f' => State::Word("false", 1),
            b'n' => State::Word("null", 1),
            _ => return Err("looking for beginning of value".to_owned()),
        };
        Ok(())
    }

    fn begin_key(&mut self, byte: u8) -> Result<(), String> {
        if byte != b'"' {
            return Err("looking for beginning of object key string".to_owned());
        }
        self.state = State::Text;
        Ok(())
    }

    fn colon(&mut self, byte: u8) -> Result<(), String> {
        if byte != b':' {
            return Err("after object key".to_owned());
        }
        *self.nests.last_mut().expect("a key is in an object") = Nest::Member;
        self.state = State::Value;
        Ok(())
    }

    fn comma(&mut self, byte: u8) -> Result<(), String> {
        let nest = self.nests.last_mut().expect("commas are within something");
        match (*nest, byte) {
            (Nest::Array, b',') => self.state = State::Value,
            (Nest::Member, b',') => {
                *nest = Nest::Key;
                self.state = State::Key;
            }
            (Nest::Array, b']') | (Nest::Member, b'}') => self.close(),
            (Nest::Array, _) => return Err("after array element".to_owned()),
            (Nest::Key | Nest::Member, _) => return Err("after object key:value pair".to_owned()),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.nests.pop();
        self.end_value();
    }

    fn end_value(&mut self) {
        self.state = match self.nests.last() {
            None => State::Done,
            Some(Nest::Key) => State::Colon,
            Some(Nest::Array | Nest::Member) => State::Comma,
        };
    }

    fn text(&mut self, byte: u8) -> Result<(), String> {
        match byte {
            b'"' => self.end_value(),
            b'\\' => self.state = State::Escape,
            0..0x20 => return Err("in string literal".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn escape(&mut self, byte: u8) -> Result<(), String> {
        self.state = match byte {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => State::Text,
            b'u' => State::Hex(4),
            _ => return Err("in string escape code".to_owned()),
        };
        Ok(())
    }

    fn hex(&mut self, left: u8, byte: u8) -> Result<(), String> {
        if !byte.is_ascii_hexdigit() {
            return Err("in \\u hexadecimal character escape".to_owned());
        }
        self.state = if left == 1 { State::Text } else { State::Hex(left - 1) };
        Ok(())
    }

    fn word(&mut self, word: &'static str, at: usize, byte: u8) -> Result<(), String> {
        let expected = word.as_bytes()[at];
        if byte != expected {
            return Err(format!("in literal {word} (expecting {})", quoted(expected)));
        }
        self.state = State::Word(word, at + 1);
        if at + 1 == word.len() {
            self.end_value();
        }
        Ok(())
    }

    fn number(&mut self, byte: u8) -> Result<(), String> {
        let is_digit = byte.is_ascii_digit();
        self.state = match (self.state, byte) {
            (State::Minus, b'0') => State::Zero,
            (State::Minus | State::Digits, b'0'..=b'9') => State::Digits,
            (State::Minus, _) => return Err("in numeric literal".to_owned()),
            (State::Zero | State::Digits, b'.') => State::Point,
            (State::Zero | State::Digits | State::Fraction, b'e' | b'E') => State::E,
            (State::Point | State::Fraction, _) if is_digit => State::Fraction,
            (State::Point, _) => return Err("after decimal point in numeric literal".to_owned()),
            (State::E, b'+' | b'-') => State::Exponent,
            (State::E | State::Exponent | State::ExponentDigits, _) if is_digit => {
                State::ExponentDigits
            }
            (State::E | State::Exponent, _) => {
                return Err("in exponent of numeric literal".to_owned());
            }
            _ => {
                self.end_value(); // The number ended before this byte.
                return self.step(byte);
            }
        };
        Ok(())
    }
}

/// A byte as Go shows it between quotes.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        0x20..0x7f | 0xa0.. => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn scan(bytes: &[u8]) -> Scan {
        Scanner::default().scan(bytes)
    }

    #[test]
    fn what_is_no_json_is_refused_in_gos_words() {
        let cases: [(&[u8], &str); 14] = [
            (b"x", "invalid character 'x' looking for beginning of value"),
            (b"{a", "invalid character 'a' looking for beginning of object key string"),
            (b"{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            (b"{\"key\" 1}", "invalid character '1' after object key"),
            (b"{\"a\":1 2", "invalid character '2' after object key:value pair"),
            (b"{\"a\":12\"", "invalid character '\"' after object key:value pair"),
            (b"[1 2", "invalid character '2' after array element"),
            (b"[1,]", "invalid character ']' looking for beginning of value"),
            (b"\"\x01", "invalid character '\\x01' in string literal"),
            (b"{\"key\":nul}", "invalid character '}' in literal null (expecting 'l')"),
            (b"[1.x", "invalid character 'x' after decimal point in numeric literal"),
            (b"[-x", "invalid character 'x' in numeric literal"),
            (b"\"\\x", "invalid character 'x' in string escape code"),
            (b"\"\\u12g", "invalid character 'g' in \\u hexadecimal character escape"),
        ];
        for (bytes, why) in cases {
            assert_eq!(scan(bytes), Scan::Invalid(why.to_owned()));
        }
        assert_eq!(scan(&[b'['; DEPTH_MAX + 1]), Scan::Invalid("exceeded max depth".to_owned()));
    }

    #[test]
    fn a_value_ends_where_the_next_may_begin() {
        let cases: [(&[u8], Scan); 8] = [
            (b"{}{", Scan::Value(2)),
            (b" \n{\"a\":[1,{}]} x", Scan::Value(14)),
            (b"\"}\\\"\"", Scan::Value(5)),
            (b"12 ", Scan::Value(2)),
            (b"12", Scan::Unfinished),
            (b"0{", Scan::Value(1)),
            (b"nullnull", Scan::Value(4)),
            (b"  ", Scan::Unfinished),
        ];
        for (bytes, expected) in cases {
            assert_eq!(scan(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn it_finds_what_serde_finds_however_the_bytes_are_cut() {
        let alphabet = b"{}[]\",:0-1.e tn\\u";
        stdx::each_seed(|g| {
            let bytes = g.vec(1..14, |g| *g.pick(alphabet));
            let whole = scan(&bytes);
            let mut pieces = Scanner::default();
            let cut = g.int(0..=bytes.len());
            let mut found = pieces.scan(&bytes[..cut]);
            if found == Scan::Unfinished {
                found = pieces.scan(&bytes);
            }
            assert_eq!(found, whole);
            let mut values = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
            if let Some(Ok(_)) = values.next()
                && let Scan::Value(len) = whole
            {
                assert_eq!(values.byte_offset(), len);
            }
            if let Scan::Value(len) = whole {
                let depth_is_fine = serde_json::from_slice::<Value>(&bytes[..len]);
                assert!(depth_is_fine.is_ok() || bytes.contains(&b'e') || bytes.contains(&b'u'));
            }
        });
    }
}

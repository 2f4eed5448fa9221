//! What a field can hold.

use std::fmt;
use std::time::Duration;

/// A field's value. What has a length, a form or a meaning of its own comes as [`Value::show`].
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(&'a str),
    Texts(&'a [String]),
    /// As Go shows it: `1.315108ms`.
    Took(Duration),
    /// An id of a member or a cluster: 16 digits at most, without zeros in front.
    Id(u64),
    /// Bytes that are mostly text, such as a key.
    Bytes(&'a [u8]),
    Shown(&'a dyn fmt::Display),
}

impl<'a> Value<'a> {
    /// A value that can show itself: an error, an address, a list of them.
    pub fn show(value: &'a dyn fmt::Display) -> Self {
        Self::Shown(value)
    }
}

macro_rules! from {
    ($($type:ty, $value:ident => $variant:expr;)*) => {
        $(impl<'a> From<$type> for Value<'a> {
            fn from($value: $type) -> Self {
                $variant
            }
        })*
    };
}

from! {
    bool, v => Self::Bool(v);
    i32, v => Self::Int(i64::from(v));
    i64, v => Self::Int(v);
    u16, v => Self::Uint(u64::from(v));
    u32, v => Self::Uint(u64::from(v));
    u64, v => Self::Uint(v);
    usize, v => Self::Uint(v as u64);
    f64, v => Self::Float(v);
    Duration, v => Self::Took(v);
    &'a str, v => Self::Text(v);
    &'a String, v => Self::Text(v);
    &'a [String], v => Self::Texts(v);
    &'a Vec<String>, v => Self::Texts(v);
    &'a [u8], v => Self::Bytes(v);
}

//! What JSON may say where a message has a number, bytes or a name.
//!
//! The generated code asks these types. They take what etcd's gateway takes (Go's protojson with
//! unknown fields discarded), which is more than pbjson's own would:
//!
//! ```text
//! int64   12  "12"  12.0  "1.2e1"              out: "12"
//! bytes   standard or URL alphabet, padded or not          out: standard, padded
//! enum    "PUT"  0; a number nobody named is kept, a name nobody knows is dropped     out: "PUT"
//! ```
//!
//! # Invariants
//!
//! - `null` leaves a field as it was, whatever its type.   (codegen asks for an `Option` everywhere)
//! - Nothing panics, and a number out of range is an error.   (`testdata/json/`)

use std::fmt;
use std::marker::PhantomData;

use pbjson::private::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use pbjson::private::base64::{Engine, alphabet};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number, or a string that holds one.
pub(crate) struct Number<T>(pub(crate) T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wide = deserializer.deserialize_any(Integer)?;
        let narrow = T::try_from(wide).map_err(|_| de::Error::custom("number out of range"))?;
        Ok(Self(narrow))
    }
}

struct Integer;

impl Visitor<'_> for Integer {
    type Value = i128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, or a string that holds one")
    }

    fn visit_i64<E>(self, number: i64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<i128, E> {
        if number.fract() == 0.0 && number.abs() < 2f64.powi(64) {
            return Ok(number as i128);
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i128, E> {
        integer(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// More digits than any 64-bit number has.
const DIGITS_MAX: usize = 20;

/// Reads a number as JSON writes them. It may have a fraction or an exponent, but must be whole.
fn integer(text: &str) -> Option<i128> {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
        None => (rest, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let numeric = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let padded = whole.len() > 1 && whole.starts_with('0');
    if padded || !numeric(whole) || !fraction.is_none_or(numeric) {
        return None;
    }
    let digits = format!("{whole}{}", fraction.unwrap_or_default());
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    // How far the point lies behind the first significant digit.
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let length = i64::try_from(whole.len()).ok()? + exponent - i64::try_from(leading).ok()?;
    let length = usize::try_from(length).ok()?;
    if length < significant.len() || length > DIGITS_MAX {
        return None;
    }
    format!("{significant:0<length$}").parse::<i128>().ok().map(|number| sign * number)
}

fn exponent_of(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse::<i32>().ok().map(i64::from)
}

/// Bytes in base64, of either alphabet, with or without padding.
pub(crate) struct Base64<T>(pub(crate) T);

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

impl<'de, T: From<Vec<u8>>> Deserialize<'de> for Base64<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64Text).map(|bytes| Self(bytes.into()))
    }
}

struct Base64Text;

impl Visitor<'_> for Base64Text {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a base64 string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
        let decoded = if text.contains(['\r', '\n']) {
            engine.decode(text.replace(['\r', '\n'], "")) // Some tools wrap their lines.
        } else {
            engine.decode(text)
        };
        decoded.map_err(E::custom)
    }
}

/// The number of an enum; none if its name is unknown.
pub(crate) struct Enum<T>(pub(crate) Option<i32>, PhantomData<T>);

impl<'de, T: Deserialize<'de> + Into<i32>> Deserialize<'de> for Enum<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnumName(PhantomData::<T>)).map(|n| Self(n, PhantomData))
    }
}

struct EnumName<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Into<i32>> Visitor<'de> for EnumName<T> {
    type Value = Option<i32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name or the number of an enum")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<i32>, E> {
        let number = i32::try_from(number);
        number.map(Some).map_err(|_| E::custom("enum number out of range"))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Option<i32>, E> {
        let number = i32::try_from(number);
        number.map(Some).map_err(|_| E::custom("enum number out of range"))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Option<i32>, E> {
        let known: Result<T, de::value::Error> = T::deserialize(name.into_deserializer());
        Ok(known.ok().map(Into::into))
    }
}

/// An enum on its way out: by its name if it has one, else by its number.
pub(crate) struct Named<T>(pub(crate) Result<T, i32>);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Ok(named) => named.serialize(serializer),
            Err(number) => serializer.serialize_i32(*number),
        }
    }
}

#[cfg(test)]
mod tests;

//! Messages as JSON, in two forms.
//!
//! ```text
//!             bytes field     64-bit number     where
//! Script      "a\x00b"        5                 requests, as scripts write them
//! Gateway     "YQBi"          "5"               HTTP bodies, as etcd's JSON gateway writes them
//! ```
//!
//! In a script `\xHH` is a raw byte. JSON has no such thing, so between text and bytes it travels
//! as a character of its own from Unicode's private range.

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};
use serde_json::{Map, Value as Json};

/// How JSON stands for bytes and for 64-bit numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Script,
    Gateway,
}

/// The byte 0 as it travels; 255 more follow it.
const RAW_BYTE: u32 = 0xf700;

/// Reads a script's JSON: like any other, and `\xHH` is one raw byte.
pub(crate) fn parse(text: &str) -> anyhow::Result<Json> {
    let text = raw_bytes_marked(text)?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

/// Reads any number of JSON values, one after the other.
pub(crate) fn parse_several(text: &str) -> anyhow::Result<Vec<Json>> {
    let text = raw_bytes_marked(text)?;
    let values = serde_json::Deserializer::from_str(&text).into_iter();
    values.collect::<Result<_, _>>().with_context(|| format!("not JSON: {text}"))
}

fn raw_bytes_marked(text: &str) -> anyhow::Result<String> {
    let mut marked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        marked.push_str(before);
        if let Some(hex) = escape.strip_prefix("\\x") {
            let digits = hex.get(..2).context("\\x wants two digits")?;
            let byte = u32::from_str_radix(digits, 16)?;
            marked.push(char::from_u32(RAW_BYTE + byte).expect("the private range holds no gap"));
            rest = &hex[2..];
        } else {
            let length = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
            marked.push_str(&escape[..length]);
            rest = &escape[length..];
        }
    }
    marked.push_str(rest);
    Ok(marked)
}

/// The bytes a script's text stands for.
pub(crate) fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c).checked_sub(RAW_BYTE).and_then(|n| u8::try_from(n).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Builds a message. Fields go by their name in the .proto file; an unknown one is a mistake.
pub(crate) fn to_message(
    shape: &MessageDescriptor,
    json: &Json,
    form: Form,
) -> anyhow::Result<DynamicMessage> {
    let fields = json.as_object().with_context(|| format!("{} wants an object", shape.name()))?;
    let mut message = DynamicMessage::new(shape.clone());
    for (name, json) in fields {
        let field = shape
            .get_field_by_name(name)
            .with_context(|| format!("{} has no field {name}", shape.name()))?;
        let value = if field.is_list() {
            let items = json.as_array().with_context(|| format!("{name} wants a list"))?;
            let items = items.iter().map(|item| to_value(&field, item, form));
            Value::List(items.collect::<anyhow::Result<_>>()?)
        } else {
            to_value(&field, json, form)?
        };
        message.set_field(&field, value);
    }
    Ok(message)
}

fn to_value(field: &FieldDescriptor, json: &Json, form: Form) -> anyhow::Result<Value> {
    let wrong = || format!("{} cannot be {json}", field.full_name());
    let integer = || integer(json, form).with_context(wrong);
    Ok(match field.kind() {
        Kind::Bool => Value::Bool(json.as_bool().with_context(wrong)?),
        Kind::String => Value::String(json.as_str().with_context(wrong)?.to_owned()),
        Kind::Bytes => {
            let text = json.as_str().with_context(wrong)?;
            Value::Bytes(Bytes::from(match form {
                Form::Script => bytes_of(text),
                Form::Gateway => BASE64.decode(text)?,
            }))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(integer()?.try_into()?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(integer()?.try_into()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            Value::I32(json.as_i64().with_context(wrong)?.try_into()?)
        }
        Kind::Uint32 | Kind::Fixed32 => Value::U32(json.as_i64().with_context(wrong)?.try_into()?),
        Kind::Enum(names) => Value::EnumNumber(match json.as_str() {
            Some(name) => names.get_value_by_name(name).with_context(wrong)?.number(),
            None => json.as_i64().with_context(wrong)?.try_into()?,
        }),
        Kind::Message(shape) => Value::Message(to_message(&shape, json, form)?),
        Kind::Double | Kind::Float => bail!("etcd has no fractions: {}", field.full_name()),
    })
}

/// A 64-bit number. The gateway writes it as a string; scripts may do either.
fn integer(json: &Json, form: Form) -> Option<i128> {
    match (json.as_str(), form) {
        (Some(digits), Form::Script | Form::Gateway) => digits.parse().ok(),
        (None, Form::Script) => json.as_i64().map(i128::from).or(json.as_u64().map(i128::from)),
        (None, Form::Gateway) => None,
    }
}

/// A message as the gateway must write it: names of the .proto file, nothing that is zero.
pub(crate) fn to_gateway(message: &DynamicMessage) -> Json {
    let mut object = Map::new();
    for (field, value) in message.fields() {
        let json = match value.as_list() {
            Some(items) => items.iter().map(|item| value_to_gateway(&field, item)).collect(),
            None => value_to_gateway(&field, value),
        };
        object.insert(field.name().to_owned(), json);
    }
    Json::Object(object)
}

fn value_to_gateway(field: &FieldDescriptor, value: &Value) -> Json {
    if let Some(message) = value.as_message() {
        to_gateway(message)
    } else if let Some(bytes) = value.as_bytes() {
        Json::String(BASE64.encode(bytes))
    } else if let Some(text) = value.as_str() {
        Json::String(text.to_owned())
    } else if let Some(truth) = value.as_bool() {
        Json::Bool(truth)
    } else if let Some(number) = value.as_i64() {
        Json::String(number.to_string())
    } else if let Some(number) = value.as_u64() {
        Json::String(number.to_string())
    } else if let Some(number) = value.as_enum_number() {
        enum_name(field, number).map_or_else(|| number.into(), Json::String)
    } else {
        value.as_i32().map(Json::from).or(value.as_u32().map(Json::from)).unwrap_or(Json::Null)
    }
}

/// What the .proto file calls this value; nothing if it does not know it.
pub(crate) fn enum_name(field: &FieldDescriptor, number: i32) -> Option<String> {
    let kind = field.kind();
    let names = kind.as_enum()?;
    names.get_value(number).map(|value| value.name().to_owned())
}

/// Reads an answer of the gateway, and insists on the form etcd's has.
pub(crate) fn from_gateway(
    shape: &MessageDescriptor,
    json: &Json,
) -> anyhow::Result<DynamicMessage> {
    let message = to_message(shape, json, Form::Gateway)?;
    let canonical = to_gateway(&message);
    ensure!(&canonical == json, "etcd's gateway would say {canonical}");
    debug_assert_eq!(message.descriptor(), *shape);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_byte_is_written_with_its_number() {
        let json = parse(r#"{"key":"a\x00\xffü\\x41\n"}"#).unwrap();
        assert_eq!(bytes_of(json["key"].as_str().unwrap()), b"a\0\xff\xc3\xbc\\x41\n");
    }
}

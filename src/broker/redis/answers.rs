//! Answers: values of Redis → messages and strings. It tells messages from answers, and does not know what an answer is
//! for.

use redis::Value;

use super::pipeline::Strings;
use crate::broker::{Message, Unanswered};

/// The message, or the value itself if it is none.
pub(super) fn message_of(value: Value) -> Result<Message, Value> {
    let Value::Array(mut items) = value else {
        return Err(value);
    };
    let (pattern, channel, payload) = match &mut items[..] {
        [
            Value::BulkString(kind),
            Value::BulkString(channel),
            Value::BulkString(payload),
        ] if kind == b"message" => (None, channel, payload),
        [
            Value::BulkString(kind),
            Value::BulkString(pattern),
            Value::BulkString(channel),
            Value::BulkString(payload),
        ] if kind == b"pmessage" => (Some(std::mem::take(pattern)), channel, payload),
        _ => return Err(Value::Array(items)),
    };
    Ok(Message {
        pattern,
        channel: std::mem::take(channel),
        payload: std::mem::take(payload),
        is_too_large: false,
    })
}

/// The strings of an array, or the one string that is the answer.
pub(super) fn strings_of(value: Value) -> Strings {
    let items = match value {
        Value::Array(items) => items,
        Value::Nil => Vec::new(),
        Value::Int(number) => vec![Value::BulkString(number.to_string().into())],
        one => vec![one],
    };
    let text = |item| match item {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(Unanswered::Refused("the answer is not a string".to_owned())),
    };
    items.into_iter().map(text).collect()
}

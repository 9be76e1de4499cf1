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
    let is = |item: &Value, kind: &[u8]| matches!(item, Value::BulkString(bytes) if bytes == kind);
    let is_message = match items.as_slice() {
        [kind, _, _] => is(kind, b"message"),
        [kind, _, _, _] => is(kind, b"pmessage"),
        _ => false,
    };
    if is_message
        && let Some(Value::BulkString(payload)) =
            items.pop_if(|item| matches!(item, Value::BulkString(_)))
        && let Some(Value::BulkString(channel)) = items.pop()
    {
        let is_patterned = is(&items[0], b"pmessage");
        let pattern = items.pop().filter(|_| is_patterned);
        let pattern = pattern.map(|value| match value {
            Value::BulkString(pattern) => pattern,
            _ => Vec::new(),
        });
        return Ok(Message {
            pattern,
            channel,
            payload,
        });
    }
    Err(Value::Array(items))
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

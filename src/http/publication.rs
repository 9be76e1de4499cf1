//! Publications: the body of a request that publishes, as a form or as JSON, into a [`Publication`]. It owns both formats;
//! it must not know which channels exist, or who may publish to them.

use std::fmt;

use serde_core::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::reply::Reply;
use super::target::percent_decode;
use crate::limits::NAMESPACES_MAX;

/// A message that a client publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// 1 to [`NAMESPACES_MAX`] different names in the order given; they may be invalid.
    pub channels: Vec<String>,
    /// The message; it may be empty.
    pub message: String,
}

/// Why a body is not a publication. Each is the client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicationError {
    /// `Content-Type` is neither a form nor JSON.
    Unsupported,
    /// The body is not what `Content-Type` says, or a field has the wrong type; what to do instead.
    Malformed(&'static str),
    /// The text is not UTF-8.
    NotUtf8,
    /// This field is missing.
    Missing(&'static str),
    /// There are more than [`NAMESPACES_MAX`] channels.
    TooManyChannels,
}

impl PublicationError {
    /// The reply.
    pub fn reply(&self) -> Reply {
        let text = match self {
            PublicationError::Unsupported => {
                let text = "send application/x-www-form-urlencoded or application/json, and say so \
                            in Content-Type";
                return Reply::error(415, text);
            }
            PublicationError::Malformed(advice) => format!("the body cannot be parsed: {advice}"),
            PublicationError::NotUtf8 => "the body is not UTF-8".to_owned(),
            PublicationError::Missing(field) => format!("the field {field} is missing"),
            PublicationError::TooManyChannels => {
                format!("a publication may have {NAMESPACES_MAX} channels; send several of them")
            }
        };
        Reply::error(400, &text)
    }
}

/// Parses a body: the publication, and the key that came with it. Text is UTF-8, whatever charset `Content-Type` names.
///
/// # Errors
/// Any [`PublicationError`].
pub fn parse(
    content_type: &[u8],
    body: &[u8],
) -> Result<(Publication, Option<String>), PublicationError> {
    let kind = content_type.split(|&byte| byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let mut fields = Fields::default();
    match kind.as_slice() {
        b"application/x-www-form-urlencoded" => fields.add_form(body)?,
        b"application/json" => fields.add_json(body)?,
        _ => return Err(PublicationError::Unsupported),
    }
    if fields.channels.is_empty() {
        return Err(PublicationError::Missing("channel"));
    }
    let message = fields.message.ok_or(PublicationError::Missing("message"))?;
    let publication = Publication {
        channels: fields.channels,
        message,
    };
    Ok((publication, fields.key))
}

/// The fields that were parsed so far.
#[derive(Default)]
struct Fields {
    channels: Vec<String>,
    message: Option<String>,
    key: Option<String>,
}

impl Fields {
    fn add_channel(&mut self, name: String) -> Result<(), PublicationError> {
        if self.channels.contains(&name) {
            return Ok(());
        }
        if self.channels.len() == NAMESPACES_MAX {
            return Err(PublicationError::TooManyChannels);
        }
        self.channels.push(name);
        Ok(())
    }

    fn add_form(&mut self, body: &[u8]) -> Result<(), PublicationError> {
        for pair in body.split(|&byte| byte == b'&') {
            let end = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = pair.split_at(end.unwrap_or(pair.len()));
            let value = || decode(value.strip_prefix(b"=").unwrap_or(value));
            let field = match decode(name).as_deref() {
                Ok("message") => &mut self.message,
                Ok("key") => &mut self.key,
                Ok(name) if is_channel(name) => {
                    self.add_channel(value()?)?;
                    continue;
                }
                // Other fields are ignored, and need not be valid.
                _ => continue,
            };
            if field.replace(value()?).is_some() {
                return Err(PublicationError::Malformed("give message and key once"));
            }
        }
        Ok(())
    }

    fn add_json(&mut self, body: &[u8]) -> Result<(), PublicationError> {
        let text = std::str::from_utf8(body).map_err(|_| PublicationError::NotUtf8)?;
        let document: Document = serde_json::from_str(text)
            .map_err(|_| PublicationError::Malformed("send one JSON object"))?;
        let list = "give channel as a string or a list of strings";
        for name in document.channels {
            self.add_channel(name.text(list)?.ok_or(PublicationError::Malformed(list))?)?;
        }
        self.message = document.message.text("give message as a string")?;
        self.key = document.key.text("give key as a string")?;
        Ok(())
    }
}

/// Whether a form's field is a channel: `channel`, or `channel[]` and `channel[0]`, as jQuery and PHP write lists.
fn is_channel(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("channel") else {
        return false;
    };
    let index = rest.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    rest.is_empty() || index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Decodes a name or a value of a form.
fn decode(raw: &[u8]) -> Result<String, PublicationError> {
    let escapes = "put two hexadecimal digits behind each %, and write % itself as %25";
    let bytes = percent_decode(raw, b' ').map_err(|_| PublicationError::Malformed(escapes))?;
    String::from_utf8(bytes).map_err(|_| PublicationError::NotUtf8)
}

/// What matters of a JSON object. Everything else is passed over and takes no memory, because the document is parsed before
/// its key is checked. Of two fields with one name, the last counts.
#[derive(Default)]
struct Document {
    channels: Vec<Field>,
    message: Field,
    key: Field,
}

/// The value of a field that should be a string.
#[derive(Default, PartialEq)]
enum Field {
    /// It is null, or the field is missing.
    #[default]
    Missing,
    Text(String),
    Other,
}

impl Field {
    fn text(self, advice: &'static str) -> Result<Option<String>, PublicationError> {
        match self {
            Field::Missing => Ok(None),
            Field::Text(text) => Ok(Some(text)),
            Field::Other => Err(PublicationError::Malformed(advice)),
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_map(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut document = Document::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "channel" => document.channels = map.next_value::<Names>()?.0,
                "message" => document.message = map.next_value()?,
                "key" => document.key = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(document)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        let names = deserializer.deserialize_any(NamesVisitor { takes_list: false })?;
        Ok(names.0.into_iter().next().unwrap_or_default())
    }
}

/// One name or a list of them; empty where there is none.
struct Names(Vec<Field>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Names, D::Error> {
        deserializer.deserialize_any(NamesVisitor { takes_list: true })
    }
}

struct NamesVisitor {
    takes_list: bool,
}

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("anything")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Names, E> {
        Ok(Names(vec![Field::Text(text.to_owned())]))
    }

    fn visit_unit<E: Error>(self) -> Result<Names, E> {
        Ok(Names(Vec::new()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Names, E> {
        Ok(Names(vec![Field::Other]))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Names, E> {
        Ok(Names(vec![Field::Other]))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Names, E> {
        Ok(Names(vec![Field::Other]))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Names, E> {
        Ok(Names(vec![Field::Other]))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Names(vec![Field::Other]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        if !self.takes_list {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Names(vec![Field::Other]));
        }
        let mut names = Vec::new();
        while let Some(name) = list.next_element::<Field>()? {
            let name = match name {
                Field::Missing => Field::Other,
                name => name,
            };
            // One more than there may be is kept, to be refused.
            if names.len() <= NAMESPACES_MAX && !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Names(names))
    }
}

#[cfg(test)]
mod tests {
    use super::PublicationError::*;
    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";

    /// Channels, divided by commas, the message and the key.
    type Shown<'a> = (&'a str, &'a str, Option<&'a str>);

    fn check(content_type: &str, table: &[(&[u8], Result<Shown<'_>, PublicationError>)]) {
        for (body, expected) in table {
            let got = parse(content_type.as_bytes(), body);
            let expected = expected.clone().map(|(channels, message, key)| {
                let publication = Publication {
                    channels: channels.split(',').map(str::to_owned).collect(),
                    message: message.to_owned(),
                };
                (publication, key.map(str::to_owned))
            });
            let shown = String::from_utf8_lossy(body);
            assert_eq!(got, expected, "{content_type}: {shown}");
        }
    }

    #[test]
    fn forms() {
        let escapes = "put two hexadecimal digits behind each %, and write % itself as %25";
        let twice = "give message and key once";
        #[rustfmt::skip]
        check(FORM, &[
            (b"channel=a&message=b", Ok(("a", "b", None))),
            (b"message=b&key=k&channel=a", Ok(("a", "b", Some("k")))),
            (b"channel=a&channel=b&message=c", Ok(("a,b", "c", None))),
            (b"channel=b&channel=a&channel=b&message=", Ok(("b,a", "", None))),
            (b"channel[]=a&channel%5B%5d=b&channel[12]=c&message", Ok(("a,b,c", "", None))),
            (b"channel=a+b&message=x+%2B%3d=%26%0A%e2%9d%a4&", Ok(("a b", "x +==&\n\u{2764}", None))),
            (b"&&channel=a&%ff=%zz&other=%&message=b&=x", Ok(("a", "b", None))),
            (b"channel=&message=b", Ok(("", "b", None))),
            (b"", Err(Missing("channel"))),
            (b"message=b", Err(Missing("channel"))),
            (b"channel[x]=a&channels=a&channel[=a&Channel=a&message=b", Err(Missing("channel"))),
            (b"channel=a&key=message", Err(Missing("message"))),
            (b"channel=a&message=%4", Err(Malformed(escapes))),
            (b"channel=%zz&message=b", Err(Malformed(escapes))),
            (b"channel=a&message=b&message=b", Err(Malformed(twice))),
            (b"channel=a&message=b&key=&key=b", Err(Malformed(twice))),
            (b"channel=a&message=%ff", Err(NotUtf8)),
            (b"channel=\xff&message=b", Err(NotUtf8)),
            (b"{\"channel\":\"a\",\"message\":\"b\"}", Err(Missing("channel"))),
        ]);
    }

    #[test]
    fn documents() {
        let object = || Err(Malformed("send one JSON object"));
        let channel = || Err(Malformed("give channel as a string or a list of strings"));
        let message = || Err(Malformed("give message as a string"));
        #[rustfmt::skip]
        check(JSON, &[
            (br#"{"channel":"a","message":"b"}"#, Ok(("a", "b", None))),
            (br#" {"key":"k","message":"b\n\u2764","channel":["b","a","b"],"x":{}} "#,
                Ok(("b,a", "b\n\u{2764}", Some("k")))),
            (br#"{"channel":["a"],"message":"","key":null}"#, Ok(("a", "", None))),
            (br#"{"channel":[],"message":"b"}"#, Err(Missing("channel"))),
            (br#"{"channel":null,"message":"b"}"#, Err(Missing("channel"))),
            (br#"{"message":"b"}"#, Err(Missing("channel"))),
            (br#"{"channel":"a","message":null}"#, Err(Missing("message"))),
            (br#"{"channel":"a"}"#, Err(Missing("message"))),
            (br#"{"channel":1,"message":"b"}"#, channel()),
            (br#"{"channel":["a",null],"message":"b"}"#, channel()),
            (br#"{"channel":"a","message":{"b":1}}"#, message()),
            (br#"{"channel":"a","message":["b"]}"#, message()),
            (br#"{"channel":"a","message":"b","key":1}"#, Err(Malformed("give key as a string"))),
            (br#"{"channel":"a","message":"\ud800"}"#, object()),
            (br#"{"channel":"a","message":"b"}x"#, object()),
            (br#"[{"channel":"a","message":"b"}]"#, object()),
            (b"", object()),
            (b"channel=a&message=b", object()),
            (b"{\"channel\":\"a\",\"message\":\"\xff\"}", Err(NotUtf8)),
        ]);
    }

    #[test]
    fn content_types() {
        let form = "channel=a&message=b";
        let json = r#"{"channel":"a","message":"b"}"#;
        let table = [
            (FORM, form, true),
            (
                "application/x-www-form-urlencoded; charset=UTF-8",
                form,
                true,
            ),
            (" Application/JSON ;charset=utf-8", json, true),
            ("", form, false),
            ("text/plain", form, false),
            ("multipart/form-data; boundary=x", form, false),
            ("application/jsonp", json, false),
            ("text/plain;application/json", json, false),
        ];
        for (content_type, body, is_known) in table {
            let got = parse(content_type.as_bytes(), body.as_bytes());
            assert_eq!(got.is_ok(), is_known, "{content_type}");
            assert_eq!(got == Err(Unsupported), !is_known, "{content_type}");
        }
    }

    #[test]
    fn channels_are_bounded_and_count_once() {
        let form = |count: usize| -> String {
            let fields = (0..count).map(|index| format!("channel=c{index}&channel=c0&"));
            fields.chain(["message=b".to_owned()]).collect()
        };
        let json = |count: usize| {
            let names: Vec<String> = (0..count).map(|index| format!("c{index}")).collect();
            serde_json::json!({ "channel": names, "message": "b" }).to_string()
        };
        for count in [NAMESPACES_MAX, NAMESPACES_MAX + 1] {
            for (content_type, body) in [(FORM, form(count)), (JSON, json(count))] {
                let got = parse(content_type.as_bytes(), body.as_bytes());
                let channels = got.map(|(publication, _)| publication.channels.len());
                let expected = match count {
                    NAMESPACES_MAX => Ok(count),
                    _ => Err(TooManyChannels),
                };
                assert_eq!(channels, expected, "{body}");
            }
        }
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let texts = [
            (Unsupported, 415, "say so in Content-Type"),
            (Missing("channel"), 400, "the field channel is missing"),
            (TooManyChannels, 400, "a publication may have 32 channels"),
            (
                Malformed("send one JSON object"),
                400,
                "send one JSON object",
            ),
        ];
        for (error, status, expected) in texts {
            let reply = error.reply();
            let body = String::from_utf8_lossy(&reply.body);
            assert_eq!(reply.status, status);
            assert!(body.contains(expected), "{body}");
        }
    }
}

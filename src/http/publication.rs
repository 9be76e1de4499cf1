//! Publications: the body of a request that publishes, as a form or as JSON, into a [`Publication`]. It owns both
//! forms; it must not know which channels there are, nor who may publish to them.

use std::fmt;

use serde_json::Value;

use super::target::percent_decode;
use crate::limits::NAMESPACES_MAX;

/// What somebody wants to be published. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where to: 1 to [`NAMESPACES_MAX`] different names in the order given, any of which may be no channel.
    pub channels: Vec<String>,
    /// What; it may be empty.
    pub message: String,
    /// The secret that came with it.
    pub key: Option<String>,
}

/// Why a body is no publication. Each is the client's fault; `Display` says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicationError {
    /// Neither a form nor JSON, by its `Content-Type` (415).
    Unsupported,
    /// Not what its `Content-Type` says, or a field is not of its kind (400).
    Malformed(&'static str),
    /// Text in another encoding, or none (400).
    NotUtf8,
    /// Without this field (400).
    Missing(&'static str),
    /// Over [`NAMESPACES_MAX`] different channels (400).
    TooManyChannels,
}

impl Publication {
    /// Reads a body whose `Content-Type` is this. What parameters that has is not looked at: text is UTF-8.
    ///
    /// # Errors
    /// Any [`PublicationError`].
    pub fn parse(content_type: &[u8], body: &[u8]) -> Result<Publication, PublicationError> {
        let kind = content_type.split(|&byte| byte == b';').next();
        let kind = kind.unwrap_or_default().trim_ascii().to_ascii_lowercase();
        match kind.as_slice() {
            b"application/x-www-form-urlencoded" => of_form(body)?.finish(),
            b"application/json" => of_json(body)?.finish(),
            _ => Err(PublicationError::Unsupported),
        }
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Publication")
            .field("channels", &self.channels)
            .field("message", &self.message)
            .field("key", &self.key.as_ref().map(|_| "***"))
            .finish()
    }
}

impl fmt::Display for PublicationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublicationError::Unsupported => formatter.write_str(
                "the body's type is not known here: send application/x-www-form-urlencoded or \
                 application/json, and say so in Content-Type",
            ),
            PublicationError::Malformed(advice) => {
                write!(formatter, "the body cannot be read: {advice}")
            }
            PublicationError::NotUtf8 => {
                formatter.write_str("the body is not UTF-8: send its text in UTF-8")
            }
            PublicationError::Missing(field) => {
                write!(formatter, "the field {field} is missing: add it")
            }
            PublicationError::TooManyChannels => write!(
                formatter,
                "a publication may have {NAMESPACES_MAX} channels: send several publications"
            ),
        }
    }
}

impl std::error::Error for PublicationError {}

/// The fields as far as they were read.
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

    fn finish(self) -> Result<Publication, PublicationError> {
        if self.channels.is_empty() {
            return Err(PublicationError::Missing("channel"));
        }
        Ok(Publication {
            channels: self.channels,
            message: self.message.ok_or(PublicationError::Missing("message"))?,
            key: self.key,
        })
    }
}

fn of_form(body: &[u8]) -> Result<Fields, PublicationError> {
    let mut fields = Fields::default();
    for pair in body.split(|&byte| byte == b'&') {
        let end = pair.iter().position(|&byte| byte == b'=');
        let (name, value) = pair.split_at(end.unwrap_or(pair.len()));
        let value = || decode(value.strip_prefix(b"=").unwrap_or(value));
        // What has another name is somebody else's, and need not be text.
        match decode(name).as_deref() {
            Ok("message") => set(&mut fields.message, value()?)?,
            Ok("key") => set(&mut fields.key, value()?)?,
            Ok(name) if is_channel(name) => fields.add_channel(value()?)?,
            _ => {}
        }
    }
    Ok(fields)
}

/// Whether a field of a form gives a channel: `channel`, or `channel[]` and `channel[0]`, as jQuery and PHP write
/// lists.
fn is_channel(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("channel") else {
        return false;
    };
    let index = rest
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    rest.is_empty() || index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Sets a field that a form gives once. Of two, whichever was taken might be the one that was not meant.
fn set(field: &mut Option<String>, value: String) -> Result<(), PublicationError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(PublicationError::Malformed("give message and key once")),
    }
}

/// Decodes a name or a value of a form: a plus sign is a space, and the rest is as in a target.
fn decode(raw: &[u8]) -> Result<String, PublicationError> {
    let spaced: Vec<u8> = raw
        .iter()
        .map(|&byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    let escapes = "put two hexadecimal digits behind each %, and write % itself as %25";
    let bytes = percent_decode(&spaced).map_err(|_| PublicationError::Malformed(escapes))?;
    String::from_utf8(bytes).map_err(|_| PublicationError::NotUtf8)
}

fn of_json(body: &[u8]) -> Result<Fields, PublicationError> {
    let text = std::str::from_utf8(body).map_err(|_| PublicationError::NotUtf8)?;
    let Ok(Value::Object(mut document)) = serde_json::from_str(text) else {
        return Err(PublicationError::Malformed("send one JSON object"));
    };
    let mut fields = Fields::default();
    // A field that is null is not there.
    let mut take = |name| document.remove(name).filter(|value| !value.is_null());
    let names = match take("channel") {
        Some(Value::Array(names)) => names,
        other => other.into_iter().collect(),
    };
    for name in names {
        fields.add_channel(string(
            name,
            "give channel as a string or a list of strings",
        )?)?;
    }
    let message = take("message").map(|message| string(message, "give message as a string"));
    fields.message = message.transpose()?;
    let key = take("key").map(|key| string(key, "give key as a string"));
    fields.key = key.transpose()?;
    Ok(fields)
}

fn string(value: Value, advice: &'static str) -> Result<String, PublicationError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(PublicationError::Malformed(advice)),
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
            let got = Publication::parse(content_type.as_bytes(), body);
            let expected = expected
                .clone()
                .map(|(channels, message, key)| Publication {
                    channels: channels.split(',').map(str::to_owned).collect(),
                    message: message.to_owned(),
                    key: key.map(str::to_owned),
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
            let got = Publication::parse(content_type.as_bytes(), body.as_bytes());
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
                let got = Publication::parse(content_type.as_bytes(), body.as_bytes());
                let channels = got.map(|publication| publication.channels.len());
                let expected = match count {
                    NAMESPACES_MAX => Ok(count),
                    _ => Err(TooManyChannels),
                };
                assert_eq!(channels, expected, "{body}");
            }
        }
    }

    #[test]
    fn an_error_says_what_to_do_and_the_key_is_not_shown() {
        let texts = [
            (Missing("channel"), "the field channel is missing: add it"),
            (
                TooManyChannels,
                "a publication may have 32 channels: send several publications",
            ),
            (
                Malformed("send one JSON object"),
                "the body cannot be read: send one JSON object",
            ),
        ];
        for (error, expected) in texts {
            assert_eq!(error.to_string(), expected);
        }
        let publication = Publication::parse(FORM.as_bytes(), b"channel=a&message=b&key=secret");
        let shown = format!("{publication:?}");
        assert!(
            shown.contains("***") && !shown.contains("secret"),
            "{shown}"
        );
    }
}

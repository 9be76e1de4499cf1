//! Routes: which request gets what. It owns the table of paths and methods; it must not touch a
//! connection, so that every row can be tested as a value.

use super::hub::Stream;
use super::settings::Settings;
use crate::proto::http::{Method, Request};
use crate::proto::reply::Reply;
use crate::proto::target::{self, TargetError};

/// What is done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A stream begins.
    Subscribe {
        /// Of which family.
        stream: Stream,
        /// The child's segment; `None` for all of the stream.
        child: Option<String>,
    },
    /// Only the head of a stream (`HEAD`).
    ShowStream(Stream),
    /// A document that is made when it is asked for.
    Show(Document),
    /// An answer that needs nothing but the request.
    Reply(Reply),
}

/// What reports make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// The state of this node.
    Status,
    /// The live page.
    Page,
}

/// Decides about a request.
pub fn route(request: &Request<'_>, settings: &Settings) -> Action {
    let path = match target::split(request.target) {
        Ok(target) if target.path == "*" && request.method == Method::Options => {
            return Action::Reply(options("GET, HEAD, POST, OPTIONS"));
        }
        Ok(target) if target.path == "*" => return bad_target(TargetError::Form),
        Ok(target) => target.path,
        Err(error) => return bad_target(error),
    };
    let segments = match target::segments(path) {
        Ok(segments) => segments,
        Err(error) => return bad_target(error),
    };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let Some(resource) = find(&segments, settings) else {
        return Action::Reply(Reply::error(404, "there is nothing at this path"));
    };
    match (request.method, resource) {
        (Method::Options, _) => Action::Reply(options("GET, HEAD, OPTIONS")),
        (Method::Head, Resource::Stream(stream, _)) => Action::ShowStream(stream),
        (Method::Get, Resource::Stream(stream, child)) => Action::Subscribe {
            stream,
            child: child.map(str::to_owned),
        },
        (Method::Get | Method::Head, Resource::Document(document)) => Action::Show(document),
        (Method::Post | Method::Other, _) => Action::Reply(Reply {
            extra: "Allow: GET, HEAD, OPTIONS\r\n".into(),
            ..Reply::error(405, "use GET, HEAD or OPTIONS here")
        }),
    }
}

enum Resource<'a> {
    Stream(Stream, Option<&'a str>),
    Document(Document),
}

fn find<'a>(segments: &[&'a str], settings: &Settings) -> Option<Resource<'a>> {
    match *segments {
        [] if settings.page_enabled => Some(Resource::Document(Document::Page)),
        ["admin", "status.json"] => Some(Resource::Document(Document::Status)),
        ["subscribe", "details", id] if !id.is_empty() => {
            Some(Resource::Stream(Stream::Details, Some(id)))
        }
        ["subscribe", name] => {
            let stream = Stream::ALL
                .into_iter()
                .find(|stream| stream.segment() == name)?;
            is_enabled(stream, settings).then_some(Resource::Stream(stream, None))
        }
        _ => None,
    }
}

fn is_enabled(stream: Stream, settings: &Settings) -> bool {
    match stream {
        Stream::Raw => settings.raw_enabled,
        Stream::Kiosk => settings.kiosk_enabled,
        Stream::Eps | Stream::Details => true,
    }
}

fn options(methods: &str) -> Reply {
    let extra = format!(
        "Allow: {methods}\r\n\
         Access-Control-Allow-Methods: {methods}\r\n\
         Access-Control-Allow-Headers: Cache-Control, Last-Event-ID, Content-Type\r\n\
         Access-Control-Max-Age: 86400\r\n"
    );
    Reply {
        status: 204,
        content_type: None,
        extra: extra.into(),
        body: Vec::new(),
    }
}

fn bad_target(error: TargetError) -> Action {
    let message = match error {
        TargetError::Form => "the request target must be a path or an http URI",
        TargetError::Escape => "a % in the path must be followed by two hexadecimal digits",
        TargetError::Forbidden => {
            "a path segment must not contain an encoded slash or control byte"
        }
        TargetError::Encoding => "a path segment must be UTF-8",
        TargetError::TooLong => "a path segment must have at most 200 bytes",
    };
    Action::Reply(Reply::error(400, message))
}

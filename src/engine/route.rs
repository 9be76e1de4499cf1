//! Routes: which request gets what. It owns the table of paths and methods; it must not touch a
//! connection, so that every row can be tested as a value.

use super::cleanup::Cleanup;
use super::hub::Stream;
use super::settings::Settings;
use crate::limits::TOKEN_BYTES_MAX;
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
    /// A client's own streams end.
    CleanUp(Cleanup),
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
    /// Whether the process is alive.
    Health,
    /// Whether clients should be sent here.
    Readiness,
    /// The state of all nodes, as they have reported it.
    Cluster,
    /// The page for whoever looks after the server.
    Admin,
    /// The figures for Prometheus.
    Metrics,
}

/// Decides about a request.
pub fn route(request: &Request<'_>, settings: &Settings) -> Action {
    let (path, query) = match target::split(request.target) {
        Ok(target) if target.path == "*" && request.method == Method::Options => {
            return Action::Reply(options("GET, HEAD, POST, OPTIONS"));
        }
        Ok(target) if target.path == "*" => return bad_target(TargetError::Form),
        Ok(target) => (target.path, target.query),
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
    let methods = resource.methods();
    match (request.method, resource) {
        (Method::Options, _) => Action::Reply(options(methods)),
        (Method::Post, Resource::Cleanup(detail)) => match token_of(query) {
            // To go by the address instead would close what was not meant.
            Some(token) if !is_token(&token) => {
                let message = format!("a token has 1 to {TOKEN_BYTES_MAX} bytes");
                Action::Reply(Reply::error(400, &message))
            }
            token => Action::CleanUp(Cleanup {
                detail: detail.map(str::to_owned),
                token,
            }),
        },
        (Method::Head, Resource::Stream(stream, _)) => Action::ShowStream(stream),
        (Method::Get, Resource::Stream(stream, child)) => Action::Subscribe {
            stream,
            child: child.map(str::to_owned),
        },
        (Method::Get | Method::Head, Resource::Document(document)) => Action::Show(document),
        (_, _) => Action::Reply(Reply {
            extra: format!("Allow: {methods}\r\n").into(),
            ..Reply::error(405, &format!("the methods here are {methods}"))
        }),
    }
}

/// What a page chose to know its own streams by, usable or not.
pub fn token_of(query: &str) -> Option<String> {
    target::query_values(query, "token").next()
}

/// Whether a token is usable.
pub fn is_token(token: &str) -> bool {
    (1..=TOKEN_BYTES_MAX).contains(&token.len())
}

enum Resource<'a> {
    Stream(Stream, Option<&'a str>),
    Document(Document),
    /// The closing of streams: of one ID, or of the scores.
    Cleanup(Option<&'a str>),
}

impl Resource<'_> {
    fn methods(&self) -> &'static str {
        match self {
            Resource::Cleanup(_) => "POST, OPTIONS",
            Resource::Stream(..) | Resource::Document(_) => "GET, HEAD, OPTIONS",
        }
    }
}

fn find<'a>(segments: &[&'a str], settings: &Settings) -> Option<Resource<'a>> {
    match *segments {
        [] if settings.page_enabled => Some(Resource::Document(Document::Page)),
        ["admin", "status.json"] => Some(Resource::Document(Document::Status)),
        ["healthz"] => Some(Resource::Document(Document::Health)),
        ["readyz"] => Some(Resource::Document(Document::Readiness)),
        ["subscribe", "cleanup", "scores"] => Some(Resource::Cleanup(None)),
        ["subscribe", "cleanup", "details", id] if !id.is_empty() => {
            Some(Resource::Cleanup(Some(id)))
        }
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
        body: Vec::new().into(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::http::parse_head;

    fn settings() -> Settings {
        Settings {
            node: String::new(),
            epoch: 0,
            score_lifetime: None,
            detail_lifetime: None,
            trusted_proxies: 0,
            sockets_max: 1,
            connections_max: 1,
            connections_per_ip_max: 1,
            drain: Duration::ZERO,
            status_rows_max: 1,
            raw_enabled: true,
            kiosk_enabled: false,
            page_enabled: false,
            keepalive: Duration::from_secs(15),
            log_bytes_max: 0,
            force_refresh: false,
            score_retry_ms: None,
            detail_retry_ms: None,
            reads_per_turn: 1,
            writes_per_turn: 1,
            verbose: false,
        }
    }

    fn routed(line: &str, settings: &Settings) -> String {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (request, _) = parse_head(head.as_bytes()).unwrap().unwrap();
        match route(&request, settings) {
            Action::Subscribe { stream, child } => format!("{stream:?} {child:?}"),
            Action::ShowStream(stream) => format!("head of {stream:?}"),
            Action::Show(document) => format!("{document:?}"),
            Action::CleanUp(cleanup) => format!("{:?} {:?}", cleanup.detail, cleanup.token),
            Action::Reply(reply) => reply.status.to_string(),
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let table = [
            ("GET /subscribe/raw", "Raw None"),
            ("GET /subscribe/eps?token=a", "Eps None"),
            ("GET /subscribe/details", "Details None"),
            ("GET /subscribe/details/1F4C2", "Details Some(\"1F4C2\")"),
            ("GET /subscribe/details/%31F4C2", "Details Some(\"1F4C2\")"),
            ("GET http://host/subscribe/eps", "Eps None"),
            ("HEAD /subscribe/details/1F4C2", "head of Details"),
            ("GET /subscribe/kiosk_interaction", "404"),
            ("GET /", "404"),
            ("GET /subscribe", "404"),
            ("GET /subscribe/", "404"),
            ("GET /subscribe/other", "404"),
            ("GET /subscribe/eps/", "404"),
            ("GET /subscribe/eps/x", "404"),
            ("GET /subscribe/details/", "404"),
            ("GET /subscribe/details/a/b", "404"),
            ("GET /Subscribe/eps", "404"),
            ("GET /subscribe/details/a%2fb", "400"),
            ("GET /subscribe/details/%00", "400"),
            ("GET /subscribe/details/%", "400"),
            ("GET *", "400"),
            ("GET host:80", "400"),
            ("OPTIONS *", "204"),
            ("OPTIONS /subscribe/eps", "204"),
            ("POST /subscribe/eps", "405"),
            ("DELETE /admin/status.json", "405"),
            ("POST /nothing", "404"),
            ("GET /admin/status.json", "Status"),
            ("HEAD /admin/status.json", "Status"),
            ("POST /subscribe/cleanup/scores", "None None"),
            (
                "POST /subscribe/cleanup/scores?token=a%20b",
                "None Some(\"a b\")",
            ),
            (
                "POST /subscribe/cleanup/details/1F4C2",
                "Some(\"1F4C2\") None",
            ),
            ("POST /subscribe/cleanup/scores?token=", "400"),
            ("GET /subscribe/cleanup/scores", "405"),
            ("OPTIONS /subscribe/cleanup/scores", "204"),
            ("POST /subscribe/cleanup/details/", "404"),
            ("POST /subscribe/cleanup", "404"),
            ("GET /healthz", "Health"),
            ("GET /readyz", "Readiness"),
        ];
        for (line, expected) in table {
            assert_eq!(routed(line, &settings()), expected, "for {line}");
        }
    }

    #[test]
    fn what_is_disabled_is_not_there() {
        let all = Settings {
            kiosk_enabled: true,
            page_enabled: true,
            ..settings()
        };
        assert_eq!(
            routed("GET /subscribe/kiosk_interaction", &all),
            "Kiosk None"
        );
        assert_eq!(routed("GET /", &all), "Page");
        let few = Settings {
            raw_enabled: false,
            ..settings()
        };
        assert_eq!(routed("GET /subscribe/raw", &few), "404");
        assert_eq!(routed("HEAD /subscribe/raw", &few), "404");
    }
}

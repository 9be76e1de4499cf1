//! Routes: what to do about a request. It owns the table of paths and methods; it must not touch a connection, so that
//! every row can be tested as a value.

use super::about::{Client, is_token, token_of};
use super::access;
use super::cleanup::Cleanup;
use super::settings::Settings;
use super::submissions;
use super::topics::{self, CHANNEL_FIELDS, Topic};
use crate::bus::Stream;
use crate::http::head::Method;
use crate::http::reply::Reply;
use crate::http::target::{self, TargetError};
use crate::http::{BodyUse, Request};
use crate::limits::{self, TOKEN_BYTES_MAX};

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a stream of these topics: 1 to [`limits::NAMESPACES_MAX`].
    Subscribe(Vec<Topic>),
    /// Send only the head of a stream (`HEAD`).
    ShowStream,
    /// Close the client's own streams.
    CleanUp(Cleanup),
    /// Publish the body.
    Publish {
        /// Whether the head has the key.
        is_authorized: bool,
    },
    /// Render a document.
    Show(Document),
    /// Send this reply.
    Reply(Reply),
}

impl Action {
    /// Whether it refuses a secret, for which the request's body is not read.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Action::Reply(reply) if matches!(reply.status, 401 | 429))
    }

    /// How many bytes the request's body may have, and what to do with them.
    pub fn body(&self) -> (u64, BodyUse) {
        let publication_max = limits::PUBLISH_BODY_BYTES_MAX;
        match self {
            Action::Publish {
                is_authorized: true,
            } => (publication_max, BodyUse::Keep),
            Action::Publish { .. } => (publication_max, BodyUse::KeepUnauthenticated),
            _ => (limits::BODY_BYTES_MAX, BodyUse::Discard),
        }
    }
}

/// A document that reports render.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// The status of this node.
    Status,
    /// The status of all nodes.
    Cluster,
    /// The admin page.
    Admin,
    /// Metrics for Prometheus.
    Metrics,
    /// Channels and their subscribers.
    Channels,
    /// The live page.
    Page,
    /// Whether the process is alive.
    Health,
    /// Whether clients should be sent here.
    Readiness,
}

impl Document {
    /// Whether it is about the server and its clients: see `access`.
    pub fn is_private(self) -> bool {
        !matches!(
            self,
            Document::Page | Document::Health | Document::Readiness
        )
    }
}

/// Decides about a client's request.
pub fn route(request: &Request, settings: &Settings, client: Client) -> Action {
    let target = target::split(&request.target);
    if let Ok(target) = &target
        && target.path == "*"
        && request.method == Method::Options
    {
        return Action::Reply(options("GET, HEAD, POST, OPTIONS", ""));
    }
    let target = target.and_then(|it| match it.path {
        "*" => Err(TargetError::Form),
        path => Ok((target::segments(path)?, it.query)),
    });
    let (segments, query) = match target {
        Ok(target) => target,
        Err(error) => return bad_target(error),
    };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    // Probes are behind both doors, so that a monitor need not know which ports there are.
    let is_probe = matches!(segments[..], ["healthz"] | ["readyz"]);
    let is_private = matches!(segments[..], ["admin", ..] | ["metrics"] | ["stats"]);
    if settings.access.admin_is_apart && !is_probe && is_private != client.origin.is_admin {
        return nothing_here();
    }
    if !is_private {
        return answer(request, query, &segments, settings, client, false);
    }
    // Also for paths that do not exist, because which ones exist is private as well.
    let refusal = match request.method {
        Method::Options => None,
        _ => access::refuse(request, client, &settings.access).map(Action::Reply),
    };
    match refusal.unwrap_or_else(|| answer(request, query, &segments, settings, client, true)) {
        // A browser can reach places that others cannot, such as a port on loopback.
        Action::Reply(reply) => Action::Reply(reply.for_own_origin()),
        action => action,
    }
}

/// Decides about a request of a client who may see the path.
fn answer(
    request: &Request,
    query: &str,
    segments: &[&str],
    settings: &Settings,
    client: Client,
    is_private: bool,
) -> Action {
    let Some(resource) = find(segments, query, settings) else {
        return nothing_here();
    };
    let (methods, header_names) = (resource.methods(), resource.header_names());
    match (request.method, resource) {
        (Method::Options, _) if is_private => {
            Action::Reply(Reply::bare(204, format!("Allow: {methods}\r\n")))
        }
        (Method::Options, _) => Action::Reply(options(methods, header_names)),
        (Method::Post, Resource::Cleanup(detail)) => match token_of(query) {
            // Ignoring it would close streams by address instead.
            Some(token) if !is_token(&token) => {
                let message = format!("a token has 1 to {TOKEN_BYTES_MAX} bytes");
                Action::Reply(Reply::error(400, &message))
            }
            token => Action::CleanUp(Cleanup {
                detail: detail.map(str::to_owned),
                token,
            }),
        },
        (Method::Post, Resource::Publish) => {
            if let Some(refusal) = access::refuse_guess(client) {
                return Action::Reply(refusal);
            }
            let key = settings.channels.publish_key.as_ref();
            let is_authorized = key.is_some_and(|key| key.is_in(&request.authorization));
            match is_authorized || request.authorization.is_empty() {
                true => Action::Publish { is_authorized },
                false => Action::Reply(submissions::wrong_key()),
            }
        }
        (Method::Get | Method::Head, Resource::Stream(stream, child)) => {
            subscribe(request, Ok(vec![Topic::new(stream, child)]))
        }
        (Method::Get | Method::Head, Resource::Several) => {
            subscribe(request, topics::of_namespaces(query, settings))
        }
        (Method::Get | Method::Head, Resource::Channels(None)) => {
            subscribe(request, topics::of_lists(query, settings))
        }
        (Method::Get | Method::Head, Resource::Channels(Some(name))) => {
            let is_named = topics::names_channels(query);
            subscribe(request, topics::of_channels([name], is_named, settings))
        }
        (Method::Get | Method::Head, Resource::Document(document)) => Action::Show(document),
        (Method::Get | Method::Head, Resource::Moved(location)) => {
            Action::Reply(Reply::bare(301, format!("Location: {location}\r\n")))
        }
        (_, _) => {
            let refusal = Reply::error(405, &format!("allowed methods: {methods}"));
            Action::Reply(refusal.with_extra(format!("Allow: {methods}\r\n")))
        }
    }
}

fn subscribe(request: &Request, topics: Result<Vec<Topic>, Reply>) -> Action {
    match topics {
        Err(refusal) => Action::Reply(refusal),
        Ok(_) if request.method == Method::Head => Action::ShowStream,
        Ok(topics) => Action::Subscribe(topics),
    }
}

pub(super) enum Resource<'a> {
    Stream(Stream, Option<&'a str>),
    /// Several streams, which the query lists.
    Several,
    /// The channel in the path, or those that the query lists.
    Channels(Option<&'a str>),
    /// Where messages are published.
    Publish,
    Document(Document),
    /// A redirect to another path.
    Moved(&'static str),
    /// Closes the client's detail streams of one ID, or its `eps` streams, which the path calls `scores`.
    Cleanup(Option<&'a str>),
}

impl Resource<'_> {
    fn methods(&self) -> &'static str {
        match self {
            Resource::Cleanup(_) | Resource::Publish => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Additional header fields that pages of other origins may send.
    fn header_names(&self) -> &'static str {
        match self {
            Resource::Channels(_) | Resource::Several => ", X-Requested-With",
            Resource::Publish => ", Authorization",
            _ => "",
        }
    }
}

pub(super) fn find<'a>(
    segments: &[&'a str],
    query: &str,
    settings: &Settings,
) -> Option<Resource<'a>> {
    let has_channels = !settings.channels.patterns.is_empty();
    match *segments {
        [] if CHANNEL_FIELDS
            .iter()
            .any(|field| target::has_query_field(query, field)) =>
        {
            has_channels.then_some(Resource::Channels(None))
        }
        [] if has_channels && !settings.reports.page_enabled => Some(Resource::Channels(None)),
        [] if settings.reports.page_enabled => Some(Resource::Document(Document::Page)),
        ["admin"] => Some(Resource::Moved("/admin/")),
        ["admin", ""] => Some(Resource::Document(Document::Admin)),
        ["admin", "cluster.json"] => Some(Resource::Document(Document::Cluster)),
        ["metrics"] => Some(Resource::Document(Document::Metrics)),
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
        ["subscribe"] if target::query_values(query, "ns").next().is_some() => {
            Some(Resource::Several)
        }
        ["subscribe", "channels"] if has_channels => Some(Resource::Channels(None)),
        ["subscribe", "channels", name] if has_channels => Some(Resource::Channels(Some(name))),
        ["stats"] if has_channels => Some(Resource::Document(Document::Channels)),
        ["publish"] if settings.channels.publish_key.is_some() => Some(Resource::Publish),
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
        Stream::Raw => settings.streams.raw_enabled,
        Stream::Kiosk => settings.streams.kiosk_enabled,
        Stream::Eps | Stream::Details => true,
        // These have paths and queries of their own.
        Stream::Channels | Stream::Several => false,
    }
}

fn options(methods: &str, header_names: &str) -> Reply {
    let extra = format!(
        "Allow: {methods}\r\n\
         Access-Control-Allow-Methods: {methods}\r\n\
         Access-Control-Allow-Headers: Cache-Control, Last-Event-ID, Content-Type{header_names}\r\n\
         Access-Control-Max-Age: 86400\r\n"
    );
    Reply::bare(204, extra)
}

fn nothing_here() -> Action {
    Action::Reply(Reply::error(404, "there is nothing at this path"))
}

fn bad_target(error: TargetError) -> Action {
    let message = match error {
        TargetError::Form => "the request target must be a path or an http URI",
        TargetError::Escape => "a % in the path must be followed by two hexadecimal digits",
        TargetError::Forbidden => {
            "a path segment must not contain an encoded slash or control byte"
        }
        TargetError::Encoding => "a path segment must be UTF-8",
        TargetError::TooLong => "a path segment must not be longer than 200 bytes",
    };
    Action::Reply(Reply::error(400, message))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::http::Origin;
    use crate::http::authorization::Secret;
    use crate::http::head::parse_head;
    use crate::limits::NAMESPACES_MAX;
    use crate::server::settings::tests::settings;

    fn routed(line: &str, settings: &Settings) -> String {
        routed_with("", line, settings, false)
    }

    fn client(is_admin: bool) -> Client {
        Client {
            ip: IpAddr::from([127, 0, 0, 1]),
            is_hidden: false,
            is_local: true,
            origin: Origin::new([127, 0, 0, 1], is_admin),
            must_wait: None,
        }
    }

    fn routed_with(fields: &str, line: &str, settings: &Settings, is_admin: bool) -> String {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let (request, _) = parse_head(head.as_bytes()).unwrap().unwrap();
        match route(&request, settings, client(is_admin)) {
            Action::Subscribe(topics) => topics
                .iter()
                .map(|topic| format!("{:?} {:?}", topic.stream, topic.child))
                .collect::<Vec<_>>()
                .join(", "),
            Action::ShowStream => "head".to_owned(),
            Action::Show(document) => format!("{document:?}"),
            Action::CleanUp(cleanup) => format!("{:?} {:?}", cleanup.detail, cleanup.token),
            Action::Publish { .. } => "publication".to_owned(),
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
            ("HEAD /subscribe/details/1F4C2", "head"),
            ("GET /subscribe/kiosk_interaction", "404"),
            ("GET /", "404"),
            ("GET /subscribe", "404"),
            ("GET /subscribe?ns=/eps", "Eps None"),
            (
                "GET /subscribe?ns=/eps&ns=/details/2665&ns=/eps&x=y",
                "Eps None, Details Some(\"2665\")",
            ),
            (
                "GET /subscribe?ns=%2Fdetails%2Fa+b",
                "Details Some(\"a b\")",
            ),
            ("HEAD /subscribe?ns=/raw&ns=/eps", "head"),
            ("GET /subscribe?ns=eps", "404"),
            ("GET /subscribe?ns=/eps&ns=/other", "404"),
            ("GET /subscribe?ns=/eps&ns=/kiosk_interaction", "404"),
            ("GET /subscribe?ns=/several", "404"),
            ("GET /subscribe/several", "404"),
            ("GET /subscribe?ns=", "404"),
            ("GET /subscribe?ns=/details/%0A", "400"),
            ("POST /subscribe?ns=/eps", "405"),
            ("POST /subscribe", "404"),
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
            ("GET /admin", "301"),
            ("HEAD /admin?x", "301"),
            ("OPTIONS /admin", "204"),
            ("POST /admin", "405"),
            ("GET /admin/", "Admin"),
            ("GET /%61dmin/", "Admin"),
            ("GET /admin//", "404"),
            ("GET /admin/other", "404"),
            ("GET /admin/cluster.json", "Cluster"),
            ("HEAD /metrics", "Metrics"),
            ("GET /metrics/", "404"),
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
    fn so_many_streams_go_over_one_connection() {
        let names = |count: usize| -> String {
            let names = (0..count).map(|number| format!("ns=/details/{number}"));
            names.collect::<Vec<_>>().join("&")
        };
        let ask = |count| routed(&format!("GET /subscribe?{}", names(count)), &settings());
        assert_eq!(
            ask(NAMESPACES_MAX).matches("Details").count(),
            NAMESPACES_MAX
        );
        assert_eq!(ask(NAMESPACES_MAX + 1), "400");
    }

    #[test]
    fn what_is_disabled_is_not_there() {
        let mut all = settings();
        all.streams.kiosk_enabled = true;
        all.reports.page_enabled = true;
        assert_eq!(
            routed("GET /subscribe/kiosk_interaction", &all),
            "Kiosk None"
        );
        assert_eq!(routed("GET /", &all), "Page");
        let mut few = settings();
        few.streams.raw_enabled = false;
        assert_eq!(routed("GET /subscribe/raw", &few), "404");
        assert_eq!(routed("HEAD /subscribe/raw", &few), "404");
    }

    #[test]
    fn the_admin_page_is_a_folder() {
        let head = "GET /admin HTTP/1.0\r\n\r\n";
        let (request, _) = parse_head(head.as_bytes()).unwrap().unwrap();
        let Action::Reply(reply) = route(&request, &settings(), client(false)) else {
            panic!("not a reply");
        };
        assert_eq!(reply.extra, "Location: /admin/\r\n");
    }

    #[test]
    fn what_is_private_is_shown_for_the_token() {
        let mut settings = settings();
        settings.access.admin_token = Secret::new("sesame");
        let table = [
            ("GET /admin", "301"),
            ("GET /admin/", "Admin"),
            ("HEAD /admin/status.json", "Status"),
            ("GET /%61dmin/status.json", "Status"),
            ("GET http://a/admin/cluster.json", "Cluster"),
            ("GET /metrics", "Metrics"),
            ("GET /admin/other", "404"),
            ("GET /admin/a/b", "404"),
            ("POST /admin/status.json", "405"),
            ("DELETE /metrics", "405"),
        ];
        for (line, expected) in table {
            let with = |fields| routed_with(fields, line, &settings, false);
            for fields in [
                "",
                "Authorization: Bearer sesam\r\n",
                "Authorization: sesame\r\n",
            ] {
                assert_eq!(with(fields), "401", "for {line} with {fields:?}");
            }
            assert_eq!(with("Authorization: Bearer sesame\r\n"), expected, "{line}");
            // x:sesame
            assert_eq!(with("Authorization: Basic eDpzZXNhbWU=\r\n"), expected);
        }
        let open = [
            ("OPTIONS /admin/", "204"),
            ("OPTIONS /metrics", "204"),
            ("GET /healthz", "Health"),
            ("GET /readyz", "Readiness"),
            ("GET /subscribe/eps", "Eps None"),
            ("GET /metrics/", "404"),
            ("GET //admin/", "404"),
            ("GET /administration", "404"),
        ];
        for (line, expected) in open {
            assert_eq!(routed(line, &settings), expected, "for {line}");
        }
    }

    #[test]
    fn without_a_token_what_is_private_is_for_this_machine() {
        let default = settings();
        let (mut open, mut apart, mut named) = (settings(), settings(), settings());
        open.access.admin_is_open = true;
        apart.access.admin_is_apart = true;
        named.access.admin_hosts = vec!["streamer.example".to_owned()];
        // The connection's address, `Host` and other fields, and the status for each of the settings.
        #[rustfmt::skip]
        let table = [
            ("127.0.0.1", "Host: localhost:8001", [200, 200, 200, 200]),
            ("127.8.8.8", "Host: 127.0.0.1", [200, 200, 200, 200]),
            ("::1", "Host: [::1]:8001", [200, 200, 200, 200]),
            ("::ffff:127.0.0.1", "Host: 10.0.0.1", [200, 200, 200, 200]),
            ("10.0.0.1", "Host: 10.0.0.2", [403, 200, 200, 403]),
            ("::ffff:10.0.0.1", "Host: localhost", [403, 200, 200, 403]),
            ("127.0.0.1", "Host: localhost\r\nX-Forwarded-For: 127.0.0.1", [403, 200, 200, 403]),
            ("127.0.0.1", "Host: localhost\r\nX-Forwarded-For:", [403, 200, 200, 403]),
            ("127.0.0.1", "Host: localhost\r\nForwarded: for=127.0.0.1", [403, 200, 200, 403]),
            ("::1", "Host: localhost\r\nvia: 1.1 proxy", [403, 200, 200, 403]),
            ("127.0.0.1", "Host: evil.example", [403, 403, 403, 403]),
            ("10.0.0.1", "Host: evil.example", [403, 403, 403, 403]),
            ("127.0.0.1", "Host: Streamer.example:8001", [403, 403, 403, 200]),
        ];
        for (peer, fields, expected) in table {
            let head = format!("GET /metrics HTTP/1.1\r\n{fields}\r\n\r\n");
            let (request, _) = parse_head(head.as_bytes()).unwrap().unwrap();
            let all = [&default, &open, &apart, &named];
            let statuses = all.map(|settings| {
                let peer_ip: IpAddr = peer.parse().unwrap();
                let origin = Origin::new(peer_ip, settings.access.admin_is_apart);
                let client = Client::new(&request, origin, 0);
                match route(&request, settings, client) {
                    Action::Reply(reply) => reply.status,
                    action => {
                        assert_eq!(action, Action::Show(Document::Metrics));
                        200
                    }
                }
            });
            assert_eq!(statuses, expected, "{fields} from {peer}");
        }
        // Nothing else is concerned, nor is a client that cannot send `Host`.
        let (request, _) = parse_head(b"GET /metrics HTTP/1.0\r\n\r\n")
            .unwrap()
            .unwrap();
        let shown = Action::Show(Document::Metrics);
        assert_eq!(route(&request, &default, client(false)), shown);
        let stranger = "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nVia: 1.1 proxy\r\n\r\n";
        let (request, _) = parse_head(stranger.as_bytes()).unwrap().unwrap();
        let probe = Client::new(&request, Origin::new([10, 0, 0, 1], false), 0);
        assert_eq!(
            route(&request, &default, probe),
            Action::Show(Document::Health)
        );
    }

    #[test]
    fn what_is_private_is_not_for_other_origins() {
        let mut open = settings();
        open.reports.page_enabled = true;
        let mut with_token = open.clone();
        with_token.access.admin_token = Secret::new("sesame");
        let mut apart = open.clone();
        apart.access.admin_is_apart = true;
        let origins = |line: &str, settings: &Settings, is_admin| {
            let fields = "Authorization: Bearer sesame\r\n";
            let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            let (request, _) = parse_head(head.as_bytes()).unwrap().unwrap();
            match route(&request, settings, client(is_admin)) {
                Action::Show(document) => !document.is_private(),
                Action::Reply(reply) => {
                    let is_told = reply.extra.contains("Access-Control-");
                    assert!(reply.is_for_all_origins || !is_told, "{line}");
                    reply.is_for_all_origins
                }
                other => panic!("{line}: {other:?}"),
            }
        };
        let paths = ["", "/", "/status.json", "/cluster.json", "/other"];
        let mut paths: Vec<String> = paths.map(|path| format!("/admin{path}")).into();
        paths.push("/metrics".to_owned());
        for path in paths {
            for method in ["GET", "HEAD", "OPTIONS", "POST"] {
                let line = format!("{method} {path}");
                assert!(!origins(&line, &with_token, false), "{line}");
                assert!(!origins(&line, &apart, true), "{line}");
                assert!(!origins(&line, &open, false), "{line}");
            }
        }
        for line in [
            "GET /",
            "GET /healthz",
            "GET /readyz",
            "GET /nothing",
            "OPTIONS /healthz",
        ] {
            assert!(origins(line, &with_token, false), "{line}");
            assert!(origins(line, &apart, false), "{line}");
        }
    }

    #[test]
    fn each_door_leads_to_its_own_paths_and_both_to_the_probes() {
        let mut settings = settings();
        settings.access.admin_is_apart = true;
        settings.reports.page_enabled = true;
        // The path, and what it is behind the public door and the admin's.
        let table = [
            ("GET /", "Page", "404"),
            ("GET /subscribe/eps", "Eps None", "404"),
            ("POST /subscribe/cleanup/scores", "None None", "404"),
            ("OPTIONS /subscribe/eps", "204", "404"),
            ("GET /admin", "404", "301"),
            ("GET /admin/", "404", "Admin"),
            ("GET /admin/status.json", "404", "Status"),
            ("OPTIONS /admin/status.json", "404", "204"),
            ("POST /admin/status.json", "404", "405"),
            ("GET /metrics", "404", "Metrics"),
            ("GET /healthz", "Health", "Health"),
            ("GET /readyz", "Readiness", "Readiness"),
            ("GET /nothing", "404", "404"),
            ("OPTIONS *", "204", "204"),
        ];
        for (line, public, admin) in table {
            assert_eq!(routed_with("", line, &settings, false), public, "{line}");
            assert_eq!(routed_with("", line, &settings, true), admin, "{line}");
        }
        settings.access.admin_token = Secret::new("sesame");
        let ask = |is_admin| routed_with("", "GET /metrics", &settings, is_admin);
        assert_eq!((ask(false).as_str(), ask(true).as_str()), ("404", "401"));
    }
}

//! Reports: the state as others want to read it. It owns formats; it reads `engine::stats` and nothing
//! else of the engine.

pub mod page;
pub mod status;

use crate::engine::stats::Snapshot;
use crate::proto::reply::Reply;

/// The status of this node.
pub fn status_reply(snapshot: &Snapshot<'_>) -> Reply {
    Reply::json(200, status::encode(snapshot))
}

/// The live page, as [`page::render`] made it.
pub fn page_reply(page: &[u8]) -> Reply {
    Reply {
        content_type: Some("text/html; charset=utf-8"),
        extra: format!(
            "Content-Security-Policy: {}\r\n",
            page::CONTENT_SECURITY_POLICY
        )
        .into(),
        ..Reply::json(200, page.to_vec())
    }
}

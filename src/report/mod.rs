//! Reports: the state as others want to read it. It owns formats; it reads `engine::stats` and nothing
//! else of the engine.

pub mod names;
pub mod page;
pub mod recent;
pub mod row;
pub mod status;

use std::sync::Arc;

use crate::proto::reply::Reply;

/// The answer to a probe: 200, or 503 and why.
pub fn probe_reply(state: Result<(), &str>) -> Reply {
    let (status, word) = match state {
        Ok(()) => (200, "ok"),
        Err(reason) => (503, reason),
    };
    let body = format!("{word}\n").into_bytes();
    Reply {
        content_type: Some("text/plain; charset=utf-8"),
        ..Reply::json(status, body)
    }
}

/// The live page, as [`page::render`] made it.
pub fn page_reply(page: &Arc<[u8]>) -> Reply {
    Reply {
        content_type: Some("text/html; charset=utf-8"),
        extra: format!(
            "Content-Security-Policy: {}\r\n",
            page::CONTENT_SECURITY_POLICY
        )
        .into(),
        ..Reply::json(200, Arc::clone(page))
    }
}

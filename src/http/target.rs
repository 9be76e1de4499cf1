//! Request targets: the path of a request as decoded segments, and its query. It owns percent-decoding; it must not know
//! which paths exist.

use crate::limits::SEGMENT_BYTES_MAX;

/// Why a target is invalid. Each is the client's fault (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// Neither a path, nor an `http://` or `https://` URI, nor `*`.
    Form,
    /// A `%` without two hexadecimal digits behind it.
    Escape,
    /// A decoded segment with a slash or a control byte in it.
    Forbidden,
    /// A decoded segment that is not UTF-8.
    Encoding,
    /// A decoded segment over [`SEGMENT_BYTES_MAX`].
    TooLong,
}

/// A target in origin form, not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path, starting with `/`, or `*`.
    pub path: &'a str,
    /// The query without its `?`; empty if there is none.
    pub query: &'a str,
}

/// Splits a target of origin form, absolute form or asterisk form (RFC 9112 §3.2).
///
/// # Errors
/// [`TargetError::Form`] for anything else, such as `CONNECT`'s authority form.
pub fn split(target: &str) -> Result<Target<'_>, TargetError> {
    let origin = match strip_scheme(target) {
        Some(rest) => {
            let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
            if authority_len == 0 {
                return Err(TargetError::Form);
            }
            &rest[authority_len..]
        }
        None => target,
    };
    let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
    let absolute = origin.len() != target.len();
    match path {
        "" if absolute => Ok(Target { path: "/", query }),
        "*" if query.is_empty() => Ok(Target { path, query }),
        _ if path.starts_with('/') => Ok(Target { path, query }),
        _ => Err(TargetError::Form),
    }
}

/// The segments of a path, percent-decoded once. `/` has none; a trailing slash leaves an empty last one.
///
/// # Errors
/// Any [`TargetError`] but `Form`.
pub fn segments(path: &str) -> Result<Vec<String>, TargetError> {
    debug_assert!(path.starts_with('/'));
    if path == "/" {
        return Ok(Vec::new());
    }
    path.split('/').skip(1).map(decode_segment).collect()
}

/// The decoded values of the fields with this name, in order. Values that cannot be decoded are skipped.
pub fn query_values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    raw_values(query, name).filter_map(decode_value)
}

/// Like [`query_values`], but `None` if a value cannot be decoded.
pub fn decoded_query_values(query: &str, name: &str) -> Option<Vec<String>> {
    raw_values(query, name).map(decode_value).collect()
}

/// Whether a query has a field with this name.
pub fn has_query_field(query: &str, name: &str) -> bool {
    raw_values(query, name).next().is_some()
}

fn raw_values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    let pairs = query.split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter_map(move |(key, value)| (key == name).then_some(value))
}

fn decode_value(value: &str) -> Option<String> {
    let bytes = percent_decode(value.as_bytes(), b' ').ok()?;
    String::from_utf8(bytes).ok()
}

/// An `http://` or `https://` URI without its scheme, which is not case-sensitive.
fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let head = target.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme)
            .then(|| &target[scheme.len()..])
    })
}

fn decode_segment(raw: &str) -> Result<String, TargetError> {
    let bytes = percent_decode(raw.as_bytes(), b'+')?;
    let is_forbidden = |byte: &u8| *byte == b'/' || byte.is_ascii_control();
    if bytes.iter().any(is_forbidden) {
        return Err(TargetError::Forbidden);
    }
    if bytes.len() > SEGMENT_BYTES_MAX {
        return Err(TargetError::TooLong);
    }
    String::from_utf8(bytes).map_err(|_| TargetError::Encoding)
}

/// Decodes text in which `%` and two hexadecimal digits stand for a byte, and `+` for `plus`, which is a space in forms and
/// queries.
///
/// # Errors
/// [`TargetError::Escape`].
pub fn percent_decode(raw: &[u8], plus: u8) -> Result<Vec<u8>, TargetError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(if byte == b'+' { plus } else { byte });
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(TargetError::Escape);
        };
        decoded.push((high * 16 + low) as u8);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_each_form() {
        let table: &[(&str, Result<(&str, &str), TargetError>)] = &[
            ("/", Ok(("/", ""))),
            ("/a?b=c?d", Ok(("/a", "b=c?d"))),
            ("/a?", Ok(("/a", ""))),
            ("http://host/a/b?c", Ok(("/a/b", "c"))),
            ("HTTPS://host:80", Ok(("/", ""))),
            ("http://host?x", Ok(("/", "x"))),
            ("*", Ok(("*", ""))),
            ("http:///a", Err(TargetError::Form)),
            ("host:443", Err(TargetError::Form)),
            ("a", Err(TargetError::Form)),
            ("", Err(TargetError::Form)),
            ("ftp://host/a", Err(TargetError::Form)),
        ];
        for (target, expected) in table {
            let got = split(target).map(|target| (target.path, target.query));
            assert_eq!(got, *expected, "for {target:?}");
        }
    }

    #[test]
    fn segments_are_decoded_once() {
        let long = format!("/{}", "a".repeat(SEGMENT_BYTES_MAX + 1));
        let table: &[(&str, Result<&[&str], TargetError>)] = &[
            ("/", Ok(&[])),
            ("/a/b", Ok(&["a", "b"])),
            ("/a/", Ok(&["a", ""])),
            ("//a", Ok(&["", "a"])),
            ("/%31F4C2", Ok(&["1F4C2"])),
            ("/%25311", Ok(&["%311"])),
            ("/%e2%9d%a4", Ok(&["❤"])),
            ("/a+b", Ok(&["a+b"])),
            ("/%2f", Err(TargetError::Forbidden)),
            ("/%2F", Err(TargetError::Forbidden)),
            ("/%00", Err(TargetError::Forbidden)),
            ("/%0a", Err(TargetError::Forbidden)),
            ("/%7f", Err(TargetError::Forbidden)),
            ("/%", Err(TargetError::Escape)),
            ("/%4", Err(TargetError::Escape)),
            ("/%zz", Err(TargetError::Escape)),
            ("/%+4", Err(TargetError::Escape)),
            ("/%ff", Err(TargetError::Encoding)),
            (&long, Err(TargetError::TooLong)),
        ];
        for (path, expected) in table {
            let got = segments(path);
            let expected = expected.map(|list| list.iter().map(ToString::to_string).collect());
            assert_eq!(got, expected, "for {path:?}");
        }
    }

    #[test]
    fn query_values_are_found_by_name() {
        let query = "a=1&b=x%20y&a=2+3&c&a=%zz&aa=4";
        assert_eq!(query_values(query, "a").collect::<Vec<_>>(), ["1", "2 3"]);
        assert_eq!(query_values(query, "b").collect::<Vec<_>>(), ["x y"]);
        assert_eq!(query_values(query, "c").collect::<Vec<_>>(), [""]);
        assert_eq!(query_values(query, "d").count(), 0);
        assert_eq!(decoded_query_values(query, "a"), None);
        let decoded = decoded_query_values(query, "b");
        assert_eq!(decoded.as_deref(), Some(&["x y".to_owned()][..]));
        assert!(has_query_field(query, "c") && !has_query_field(query, "d"));
    }
}

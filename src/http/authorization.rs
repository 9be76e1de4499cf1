//! Authorization: whether a request carries a secret (RFC 9110 §11.6.2, RFC 7617, RFC 6750). It owns the supported schemes
//! and the comparison of secrets; it must never show one.

use std::fmt;
use std::hint::black_box;

use crate::limits::{SECRET_BYTES_ADVISED, SECRET_BYTES_MAX};

/// The header line of a reply to a request without the secret. It makes browsers ask for a name and a password.
pub const CHALLENGE: &str =
    "WWW-Authenticate: Basic realm=\"emojitrack-streamer\", charset=\"UTF-8\"\r\n";

/// A password or token. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret of 1 to [`SECRET_BYTES_MAX`] visible ASCII characters, which fit into a header field unchanged. `None` for
    /// any other text.
    pub fn new(text: &str) -> Option<Secret> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = (1..=SECRET_BYTES_MAX).contains(&text.len()) && is_visible;
        fits.then(|| Secret(text.as_bytes().into()))
    }

    /// Whether it may be guessed in time.
    pub fn is_short(&self) -> bool {
        self.0.len() < SECRET_BYTES_ADVISED
    }

    /// Whether the value of an `Authorization` field contains the secret: as a bearer token, or as any user's password.
    pub fn is_in(&self, authorization: &[u8]) -> bool {
        let value = authorization.trim_ascii();
        let Some(end) = value.iter().position(|&byte| byte == b' ') else {
            return false;
        };
        let (scheme, credentials) = (&value[..end], value[end..].trim_ascii_start());
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return self.equals(credentials);
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return false;
        }
        let login = decode_base64(credentials).unwrap_or_default();
        // A name has no colon, but a password may.
        let colon = login.iter().position(|&byte| byte == b':');
        colon.is_some_and(|colon| self.equals(&login[colon + 1..]))
    }

    /// Compares all bytes, so that the time depends only on the secret's length and does not tell how many were right.
    pub fn equals(&self, given: &[u8]) -> bool {
        let bytes = self.0.iter().enumerate();
        let difference = bytes.fold(self.0.len() ^ given.len(), |difference, (index, byte)| {
            let other = given.get(index).copied().unwrap_or_default();
            black_box(difference | usize::from(byte ^ other))
        });
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

/// Decodes base64 (RFC 4648 §4) with padding and without white space. Unused bits must be zero, so that there is only one
/// way to encode a text.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let digits = &text[..text.len() - padding];
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            bits = bits << 6 | value_of(digit)?;
        }
        let missing = 4 - group.len();
        let [_, bytes @ ..] = (bits << (6 * missing)).to_be_bytes();
        let (whole, unused) = bytes.split_at_checked(3 - missing)?;
        if unused.iter().any(|&byte| byte != 0) {
            return None;
        }
        decoded.extend_from_slice(whole);
    }
    // With three signs of padding, there would be one digit, which is less than a byte.
    (padding <= 2).then_some(decoded)
}

fn value_of(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_rfc_4648_has_it_and_nothing_else() {
        let table: &[(&str, Option<&[u8]>)] = &[
            ("", Some(b"")),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYg==", Some(b"foob")),
            ("Zm9vYmE=", Some(b"fooba")),
            ("Zm9vYmFy", Some(b"foobar")),
            ("+/+/", Some(&[0xFB, 0xFF, 0xBF])),
            ("AAD/", Some(&[0, 0, 0xFF])),
            ("Z", None),
            ("Zg", None),
            ("Zg=", None),
            ("Zh==", None),
            ("Zm9=", None),
            ("Z===", None),
            ("====", None),
            ("=Zg=", None),
            ("Zg==Zg==", None),
            ("Zm 9", None),
            ("Zm9\n", None),
            ("-_-_", None),
            ("Zm9v\u{e9}", None),
        ];
        for (text, expected) in table {
            assert_eq!(
                decode_base64(text.as_bytes()).as_deref(),
                *expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_secret_is_found_in_both_schemes() {
        let secret = Secret::new("open:sesame").unwrap();
        let table = [
            ("Bearer open:sesame", true),
            ("bEARER   open:sesame ", true),
            // admin:open:sesame, :open:sesame and open:sesame.
            ("Basic YWRtaW46b3BlbjpzZXNhbWU=", true),
            ("basic  Om9wZW46c2VzYW1l", true),
            ("Basic b3BlbjpzZXNhbWU=", false),
            ("Bearer open:sesam", false),
            ("Bearer open:sesame!", false),
            ("Bearer Open:sesame", false),
            ("Bearer pen:sesame", false),
            ("Bearer open: sesame", false),
            ("Bearer open:sesame\0", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("Beareropen:sesame", false),
            ("open:sesame", false),
            ("Digest open:sesame", false),
            ("Basic", false),
            ("Basic ", false),
            // admin: and admin.
            ("Basic YWRtaW46", false),
            ("Basic YWRtaW4=", false),
            ("Basic open:sesame", false),
            ("", false),
        ];
        for (value, expected) in table {
            assert_eq!(secret.is_in(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn a_secret_is_visible_ascii_and_never_shown() {
        let longest = "x".repeat(SECRET_BYTES_MAX);
        for text in ["x", "!~", "a=b&c\"d", longest.as_str()] {
            let secret = Secret::new(text).unwrap();
            assert!(secret.is_in(format!("Bearer {text}").as_bytes()));
            assert_eq!(format!("{secret:?}"), "Secret(***)");
        }
        let too_long = "x".repeat(SECRET_BYTES_MAX + 1);
        for text in ["", " ", "a b", "a\n", "\u{e9}", "\u{7f}", too_long.as_str()] {
            assert!(Secret::new(text).is_none(), "{text:?}");
        }
    }
}

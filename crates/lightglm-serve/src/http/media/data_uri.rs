//! Data URIs: `data:image/png;base64,...`, and nothing else that a URL may be.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Why a URL is not taken, by a code and in words.
pub(super) type UrlFault = (&'static str, &'static str);

const NOT_ALLOWED: UrlFault = (
    "url_not_allowed",
    "this server fetches nothing: send the bytes, as `data:image/png;base64,...`",
);

/// The bytes of a `data:` URI whose type begins with `kind`, or that has none.
pub(super) fn bytes_of(url: &str, kind: &str) -> Result<Vec<u8>, UrlFault> {
    let Some(rest) = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")) else {
        return Err(NOT_ALLOWED);
    };
    let Some((head, data)) = url[rest.len()..].split_once(',') else {
        return Err(("invalid_data_uri", "a data URI has a comma before its data"));
    };
    let mut parameters = head.split(';');
    let media_type = parameters.next().unwrap_or_default().trim();
    let is_kind = media_type.get(..kind.len()).is_some_and(|it| it.eq_ignore_ascii_case(kind));
    if !media_type.is_empty() && !is_kind {
        return Err(("invalid_data_uri", "the data URI is of another type than this part"));
    }
    if !parameters.any(|parameter| parameter.trim().eq_ignore_ascii_case("base64")) {
        return Err(("invalid_data_uri", "the data URI must be in base64"));
    }
    decoded(data)
}

/// The bytes of base64 with its padding.
pub(super) fn decoded(data: &str) -> Result<Vec<u8>, UrlFault> {
    STANDARD
        .decode(data)
        .map_err(|_| ("invalid_base64", "the data are not base64 with its padding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_are_taken() {
        let of = |url: &str| bytes_of(url, "image/");
        assert_eq!(of("data:image/png;base64,aGk="), Ok(b"hi".to_vec()));
        assert_eq!(of("DATA:IMAGE/PNG;charset=x;BASE64,aGk="), Ok(b"hi".to_vec()));
        assert_eq!(of("data:;base64,aGk="), Ok(b"hi".to_vec()));
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "https://example.com/a.png",
            "file:///etc/passwd",
            "/etc/passwd",
            "\\\\host\\share\\a.png",
            "//host/a.png",
            "ftp://host/a.png",
            "data",
            "",
            "dätä:x",
        ] {
            assert_eq!(of(url), Err(NOT_ALLOWED), "{url}");
        }
        for url in [
            "data:image/png,aGk=",
            "data:image/png;base64",
            "data:text/plain;base64,aGk=",
            "data:audio/wav;base64,aGk=",
        ] {
            assert_eq!(of(url).map_err(|fault| fault.0), Err("invalid_data_uri"), "{url}");
        }
        for data in ["aGk", "aGk==", "aG k=", "aGk=,aGk=", "a\u{0}k=", "_-8="] {
            let url = format!("data:image/png;base64,{data}");
            assert_eq!(of(&url).map_err(|fault| fault.0), Err("invalid_base64"), "{data}");
        }
    }
}

//! What pages are dressed with: embedded in the binary, named by what is in it, so that a browser may keep it for ever and
//! still has the new one after an upgrade.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use xxhash_rust::xxh3::xxh3_64;

use super::super::problem::Problem;

/// A file.
struct Asset {
    /// Its name without the hash, in two parts that the hash stands between.
    name: (&'static str, &'static str),
    kind: &'static str,
    text: &'static str,
}

const STYLE: Asset =
    Asset { name: ("style", "css"), kind: "text/css; charset=utf-8", text: include_str!("assets/style.css") };
const THEME: Asset =
    Asset { name: ("theme", "js"), kind: "text/javascript; charset=utf-8", text: include_str!("assets/theme.js") };
const SCRIPT: Asset =
    Asset { name: ("script", "js"), kind: "text/javascript; charset=utf-8", text: include_str!("assets/script.js") };
const CHARTS: Asset = Asset {
    name: ("uplot", "js"),
    kind: "text/javascript; charset=utf-8",
    text: include_str!("assets/uplot.iife.min.js"),
};
const CHARTS_STYLE: Asset =
    Asset { name: ("uplot", "css"), kind: "text/css; charset=utf-8", text: include_str!("assets/uplot.min.css") };
const CHARTS_LICENCE: Asset = Asset {
    name: ("uplot", "LICENSE.txt"),
    kind: "text/plain; charset=utf-8",
    text: include_str!("assets/uplot.LICENSE"),
};
const ICON: Asset =
    Asset { name: ("icon", "svg"), kind: "image/svg+xml; charset=utf-8", text: include_str!("assets/icon.svg") };

const ALL: [&Asset; 7] = [&STYLE, &THEME, &SCRIPT, &CHARTS, &CHARTS_STYLE, &CHARTS_LICENCE, &ICON];

impl Asset {
    fn file(&self) -> String {
        format!("{}.{:016x}.{}", self.name.0, xxh3_64(self.text.as_bytes()), self.name.1)
    }
}

/// Where each asset is, worked out once.
#[derive(Debug, Clone)]
pub(super) struct Links {
    pub(super) style: String,
    pub(super) theme: String,
    pub(super) script: String,
    pub(super) charts: String,
    pub(super) charts_style: String,
    pub(super) charts_licence: String,
    pub(super) icon: String,
}

/// The addresses of all assets.
pub(super) fn links() -> Links {
    let link = |asset: &Asset| format!("/assets/{}", asset.file());
    Links {
        style: link(&STYLE),
        theme: link(&THEME),
        script: link(&SCRIPT),
        charts: link(&CHARTS),
        charts_style: link(&CHARTS_STYLE),
        charts_licence: link(&CHARTS_LICENCE),
        icon: link(&ICON),
    }
}

/// `/assets/{file}`: open to anybody, for the page to log in at wears them too; there is nothing in them but looks.
pub(super) async fn asset(Path(file): Path<String>) -> Response {
    let Some(asset) = ALL.into_iter().find(|asset| asset.file() == file) else {
        return Problem::new(StatusCode::NOT_FOUND, "no such file; load the page again").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, asset.text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_with_what_is_in_them() {
        let other = Asset { text: "body{}", ..STYLE };
        assert_ne!(STYLE.file(), other.file());
        assert!(STYLE.file().starts_with("style.") && STYLE.file().ends_with(".css"));
    }
}

//! `GET /konnectors/:slug/download`: the program of the installed version.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use konnector_platform::Platform;
use konnector_platform::konnector::Download;

use super::find_visible;
use crate::error::ApiError;
use crate::extract::Caller;

/// Returns the program of the installed version.
pub async fn download_installed(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
) -> Result<Response, ApiError> {
    download(&platform, &caller, &slug, None).await
}

/// Returns the program of the installed version, if this is the requested one.
pub async fn download_version(
    State(platform): State<Platform>,
    caller: Caller,
    Path((slug, version)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    download(&platform, &caller, &slug, Some(&version)).await
}

async fn download(
    platform: &Platform,
    caller: &Caller,
    slug: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let (konnector, _) = find_visible(platform, caller, slug)?;
    if let Some(version) = version.filter(|version| *version != konnector.version) {
        let message = format!("version {version} is not installed; the installed version is {}", konnector.version);
        return Err(ApiError::precondition("version", message));
    }
    Ok(match platform.konnectors().bundle(&konnector).await? {
        Download::Redirect(url) => Redirect::to(url.as_str()).into_response(),
        Download::Archive(bytes) => {
            let name = format!("attachment; filename=\"{}-{}.tar.gz\"", konnector.slug, konnector.version);
            ([(CONTENT_TYPE, "application/gzip".to_owned()), (CONTENT_DISPOSITION, name)], bytes).into_response()
        }
    })
}

//! `GET /konnectors/:slug/download`: the program as it is installed.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use konnector_platform::Platform;
use konnector_platform::konnector::Download;

use super::visible;
use crate::error::Failure;
use crate::extract::Caller;

/// The installed version.
pub async fn newest(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
) -> Result<Response, Failure> {
    answer(&platform, &caller, &slug, None).await
}

/// The installed version, if it is this one.
pub async fn of_version(
    State(platform): State<Platform>,
    caller: Caller,
    Path((slug, version)): Path<(String, String)>,
) -> Result<Response, Failure> {
    answer(&platform, &caller, &slug, Some(&version)).await
}

async fn answer(platform: &Platform, caller: &Caller, slug: &str, version: Option<&str>) -> Result<Response, Failure> {
    let (konnector, _) = visible(platform, caller, slug)?;
    if let Some(version) = version.filter(|version| *version != konnector.version) {
        let message = format!("the version {version} is not installed, but {}", konnector.version);
        return Err(Failure::precondition("version", message));
    }
    Ok(match platform.konnector_download(&konnector).await? {
        Download::At(url) => Redirect::to(url.as_str()).into_response(),
        Download::Archive(bytes) => {
            let name = format!("attachment; filename=\"{}-{}.tar.gz\"", konnector.slug, konnector.version);
            ([(CONTENT_TYPE, "application/gzip".to_owned()), (CONTENT_DISPOSITION, name)], bytes).into_response()
        }
    })
}

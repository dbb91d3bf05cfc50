//! `/konnectors`: installs, updates, lists, returns, uninstalls and schedules konnectors (Cozy API: konnectors).

mod download;
mod logs;
mod response_cache;

use std::future::ready;
use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with};
use aide::transform::TransformOperation;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use konnector_manifest::{Slug, Verb};
use konnector_platform::Platform;
use konnector_platform::UninstallOutcome;
use konnector_platform::doctype::{KONNECTORS, TRIGGERS};
use konnector_platform::instance::Instance;
use konnector_platform::job::KONNECTOR_WORKER;
use konnector_platform::konnector::{
    CLAMPED_LIMITS_FIELD, ClampedLimit, InstallEvent, InstallProgress, InstallRequest, Konnector, KonnectorState,
    UpdateRequest,
};
use konnector_platform::principal::Audience;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;

use self::response_cache::KonnectorResponseCache;
use crate::error::ApiError;
use crate::extract::{Caller, Params};
use crate::jsonapi::{Document, Resource, SerializedDocument};
use crate::openapi::{BinaryContent, Describe as _, SchemaKind, ServerSentEvents};
use crate::{sse, triggers};

/// Number of konnectors on a page if the client does not set `limit`.
const DEFAULT_PAGE_SIZE: usize = 100;
/// Slug of Cozy's app from which people install konnectors.
const STORE_APP: &str = "store";

/// Returns the routes that respond immediately.
pub fn routes() -> ApiRouter<Platform> {
    let all = get_with(list, |op| {
        op.summary("Lists the installed konnectors")
            .query("limit", SchemaKind::Number, "Maximum number of konnectors on a page; default: 100")
            .query(
                "start_key",
                SchemaKind::String,
                "Id of the first konnector of the page, from links.next of the previous page",
            )
    });
    let one = delete_with(uninstall, |op| {
        op.summary("Uninstalls a konnector")
            .description(
                "Clients that accept exactly text/event-stream get a stream of events instead, with the status 200: \
                 cleaning while the konnector cleans up its accounts, then deleted, or error if it remains installed.",
            )
            .query(
                "Force",
                SchemaKind::Boolean,
                "Whether to uninstall it even if it fails to clean up after its accounts",
            )
            .success::<204, ()>("The konnector is uninstalled")
            .success::<202, ()>("The konnector will be uninstalled once it has cleaned up its accounts")
            .success::<200, ServerSentEvents>("A stream of events")
    });
    let trigger = post_with(create_trigger, |op| {
        op.summary("Creates the trigger that runs a konnector at the frequency in its manifest")
            .query("AccountID", SchemaKind::String, "Account for which the konnector runs")
            .query("ExecNow", SchemaKind::Boolean, "Whether the konnector also runs immediately")
            .success::<201, Document>("The created trigger")
            .error(409, "Such a trigger already exists")
            .error(422, "The konnector cannot run for this account")
    });
    let log = post_with(logs::write, |op| {
        op.summary("Adds log lines of a konnector that runs in a client to the server's log")
            .query("job_id", SchemaKind::String, "Job of the konnector")
            .query("version", SchemaKind::String, "Version of the konnector")
            .success::<204, ()>("The lines are logged")
            .error(422, "A level is invalid")
    });
    let icon_description = "The icon, in the format that the manifest names";
    ApiRouter::new()
        .api_route("/konnectors", all.clone())
        .api_route("/konnectors/", all)
        .api_route("/konnectors/{slug}", one)
        .api_route(
            "/konnectors/{slug}/icon",
            get_with(icon, |op| {
                op.summary("Returns the icon of a konnector").success::<200, BinaryContent>(icon_description)
            }),
        )
        .api_route(
            "/konnectors/{slug}/icon/{version}",
            get_with(icon_of_version, |op| {
                op.summary("Returns the icon of a version of a konnector, which clients may cache")
                    .success::<200, BinaryContent>(icon_description)
            }),
        )
        .api_route("/konnectors/{slug}/trigger", trigger)
        .api_route("/konnectors/{slug}/logs", log)
}

/// Returns the routes that may wait for another server before they respond.
pub fn upstream_routes() -> ApiRouter<Platform> {
    let install_route = || {
        post_with(install, |op| {
            install_operation(op.summary("Installs a konnector"))
                .query(
                    "Source",
                    SchemaKind::String,
                    "Source of the bundle; default: the channel stable of the registry",
                )
                .query(
                    "Deactivated",
                    SchemaKind::Boolean,
                    "Whether its state is installed instead of ready until its first run",
                )
                .error(409, "The konnector is already installed")
        })
    };
    let cache = Arc::new(KonnectorResponseCache::default());
    let show = move |platform: State<Platform>, caller: Caller, slug: Path<String>| {
        show(Arc::clone(&cache), platform, caller, slug)
    };
    let one = install_route()
        .get_with(show, |op| op.summary("Returns a konnector, after updating it if its registry has a newer version"));
    let one = one.put_with(update, |op| {
        install_operation(op.summary("Updates a konnector"))
            .query("Source", SchemaKind::String, "New source of the bundle; default: the current source")
            .query(
                "PermissionsAcked",
                SchemaKind::Boolean,
                "Whether the user has accepted new permissions; default: true",
            )
            .error(409, "Another installation or update of the konnector is in progress")
    });
    ApiRouter::new()
        .api_route("/konnectors/", install_route())
        .api_route("/konnectors/{slug}", one)
        .api_route("/konnectors/{slug}/download", get_with(download::download_installed, download_operation))
        .api_route(
            "/konnectors/{slug}/download/{version}",
            get_with(download::download_version, |op| {
                download_operation(op).error(412, "Another version is installed")
            }),
        )
}

/// Adds the common description of downloads.
fn download_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.summary("Downloads the program of a konnector")
        .success::<200, BinaryContent>("A gzipped tar archive")
        .success::<303, ()>("A redirect to the archive in the registry")
}

/// Adds the common description of installations and updates.
fn install_operation(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.description("Clients that accept exactly text/event-stream get a stream of states instead, with the status 200.")
        .query("Parameters", SchemaKind::String, "A JSON object that is stored with the konnector")
        .success::<202, Document>("The konnector, in an array of one; it becomes ready shortly afterwards")
        .success::<200, ServerSentEvents>("A stream of states")
        .error(422, "The source or the slug is invalid")
}

/// Creates the JSON:API resource of a konnector. `rev` is empty if the konnector is not stored yet.
fn resource(platform: &Platform, konnector: &Konnector, rev: &str) -> Result<Resource, ApiError> {
    let slug = &konnector.slug;
    let mut attributes = konnector.clone();
    let clamped = platform.konnectors().clamped_limits(konnector)?;
    if !clamped.is_empty() {
        let entry = |limit: ClampedLimit| {
            (limit.limit.key().to_owned(), json!({ "asked": limit.requested, "granted": limit.granted }))
        };
        attributes
            .manifest_fields
            .insert(CLAMPED_LIMITS_FIELD.to_owned(), Value::Object(clamped.into_iter().map(entry).collect()));
    }
    let resource = Resource::new(KONNECTORS.as_str(), konnector.doc_id(), &attributes)?
        .rev(rev)
        .link("self", format!("/konnectors/{slug}"))
        .link("permissions", format!("/permissions/konnectors/{slug}"));
    if konnector.manifest_fields.get("icon").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Ok(resource);
    }
    let version = utf8_percent_encode(&konnector.version, &VERSION_ENCODE_SET);
    Ok(resource.link("icon", format!("/konnectors/{slug}/icon/{version}")))
}

/// Characters that are percent-encoded in the version of a path and in a key: all but the unreserved ones of RFC 3986.
const VERSION_ENCODE_SET: percent_encoding::AsciiSet =
    NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');

fn not_installed(slug: &str) -> ApiError {
    ApiError::request(StatusCode::NOT_FOUND, format!("Application is not installed: there is no konnector '{slug}'"))
}

/// Returns the installed konnector of a path, with its revision.
fn find_installed(platform: &Platform, caller: &Caller, slug: &str) -> Result<(Konnector, String), ApiError> {
    let slug: Slug = slug.parse().map_err(|_| not_installed(slug))?;
    let found = platform.konnectors().get_stored(&caller.instance, &slug)?;
    Ok((found.value, found.rev.to_string()))
}

/// Like [`find_installed`], if the caller may read the konnector. An unknown slug is reported before a missing
/// permission, as clients expect.
fn find_visible(platform: &Platform, caller: &Caller, slug: &str) -> Result<(Konnector, String), ApiError> {
    let (konnector, rev) = find_installed(platform, caller, slug)?;
    caller.check_document(Verb::Get, &KONNECTORS, &konnector.doc_id(), &konnector.manifest_fields)?;
    Ok((konnector, rev))
}

/// Checks that the caller may install, update or uninstall. Apps and konnectors may not, except the store app, which
/// may only use the registry; OAuth clients may not either, unless they are the owner's own app with all permissions.
/// An operator may allow it for all callers that have the permission.
fn check_manage(platform: &Platform, caller: &Caller, verb: Verb, source: Option<&str>) -> Result<(), ApiError> {
    let principal = &caller.principal;
    if principal.permissions.is_everything() {
        return Ok(());
    }
    let is_allowed_source = verb == Verb::Delete || source.is_some_and(|source| source.starts_with("registry://"));
    match principal.claims.aud {
        Audience::Cli => {}
        _ if platform.config().allow_install_via_a_permission && is_allowed_source => {}
        // A konnector of that name does not count as the store, because its installations would outlive its run.
        Audience::App if principal.claims.sub == STORE_APP && is_allowed_source => {}
        Audience::App | Audience::Konnector => {
            return Err(ApiError::forbidden(
                "only the store app may install, update or uninstall konnectors, and only from a registry:// source",
            ));
        }
        Audience::Access | Audience::Share | Audience::Refresh | Audience::Registration => {
            return Err(ApiError::forbidden("an OAuth client may not install, update or uninstall konnectors"));
        }
    }
    caller.check_type(verb, &KONNECTORS)
}

async fn list(State(platform): State<Platform>, caller: Caller, params: Params) -> Result<Document, ApiError> {
    caller.check_type(Verb::Get, &KONNECTORS)?;
    // An invalid number, or 0, counts as absent (cozy-stack).
    let limit = params
        .get("limit")
        .and_then(|limit| limit.parse().ok())
        .filter(|limit| *limit > 0)
        .unwrap_or(DEFAULT_PAGE_SIZE);
    let start = params.get("start_key").unwrap_or_default();
    let mut konnectors = platform.konnectors().list_stored(&caller.instance)?;
    konnectors.retain(|konnector| konnector.id.as_str() >= start);
    let next = konnectors.get(limit).map(|next| {
        let key = utf8_percent_encode(&next.id, &VERSION_ENCODE_SET).to_string();
        let (scheme, domain) = (platform.config().scheme, &caller.instance.domain);
        format!("{scheme}://{domain}/konnectors/?limit={limit}&start_key={key}")
    });
    let page = konnectors.iter().take(limit);
    let page = page.map(|found| resource(&platform, &found.value, &found.rev.to_string()));
    Ok(Document::list(page.collect::<Result<_, _>>()?).next(next))
}

async fn show(
    cache: Arc<KonnectorResponseCache>,
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
) -> Result<SerializedDocument, ApiError> {
    let slug = slug.parse().map_err(|_| not_installed(&slug))?;
    let response = cache.get(&platform, &caller, &slug)?;
    if platform.konnectors().refresh(&caller.instance, &slug).await {
        return cache.get(&platform, &caller, &slug);
    }
    Ok(response)
}

async fn install(
    State(platform): State<Platform>,
    caller: Caller,
    slug: Option<Path<String>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let slug = slug.map(|Path(slug)| slug).unwrap_or_default();
    let source = params.get("Source").map_or_else(|| format!("registry://{slug}/stable"), str::to_owned);
    check_manage(&platform, &caller, Verb::Post, Some(&source))?;
    let (parameters, deactivated) = (params.object("Parameters")?, params.flag("Deactivated", false));
    let request = InstallRequest { slug, source, parameters, deactivated };
    let start = {
        let (platform, instance) = (platform.clone(), caller.instance.clone());
        async move { platform.konnectors().install(&instance, request).await }
    };
    install_response(platform, caller.instance, &headers, start).await
}

async fn update(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let source = params.get_non_empty("Source").map(str::to_owned);
    check_manage(&platform, &caller, Verb::Post, source.as_deref())?;
    let request = UpdateRequest {
        slug,
        source,
        parameters: params.object("Parameters")?,
        permissions_acked: params.flag("PermissionsAcked", true),
    };
    let start = {
        let (platform, instance) = (platform.clone(), caller.instance.clone());
        async move { platform.konnectors().update(&instance, request).await }
    };
    install_response(platform, caller.instance, &headers, start).await
}

/// Responds with 202 once the manifest has been read. Clients that accept exactly an event stream get one immediately.
async fn install_response(
    platform: Platform,
    instance: Arc<Instance>,
    headers: &HeaderMap,
    start: impl Future<Output = konnector_platform::Result<InstallProgress>> + Send + 'static,
) -> Result<Response, ApiError> {
    if wants_events(headers) {
        return Ok(sse::response(stream::once(start).flat_map(move |started| match started {
            Ok(InstallProgress { rev, events, .. }) => {
                let (platform, instance) = (platform.clone(), instance.clone());
                ReceiverStream::new(events).map(move |event| to_sse_event(&platform, &instance, &rev, event)).boxed()
            }
            Err(error) => stream::once(ready(sse::Event::failure(&error.into()))).boxed(),
        })));
    }
    let InstallProgress { konnector, rev, .. } = start.await?;
    Ok((StatusCode::ACCEPTED, Document::array_of_one(resource(&platform, &konnector, &rev)?)).into_response())
}

fn to_sse_event(platform: &Platform, instance: &Instance, rev: &str, event: InstallEvent) -> sse::Event {
    let converted = match event {
        InstallEvent::Failed(message) => return sse::Event::error(&message),
        InstallEvent::State(konnector) => {
            let rev = match konnector.state {
                KonnectorState::Ready | KonnectorState::Installed => platform
                    .konnectors()
                    .get_stored(instance, &konnector.slug)
                    .map_or_else(|_| rev.to_owned(), |found| found.rev.to_string()),
                KonnectorState::Installing | KonnectorState::Upgrading | KonnectorState::Errored => rev.to_owned(),
            };
            resource(platform, &konnector, &rev)
        }
    };
    match converted {
        Ok(resource) => sse::Event::json("state", &Document::one(resource)),
        Err(failure) => sse::Event::failure(&failure),
    }
}

async fn uninstall(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    check_manage(&platform, &caller, Verb::Delete, None)?;
    let (Konnector { slug, .. }, _) = find_installed(&platform, &caller, &slug)?;
    let deleted = platform.uninstall_konnector(&caller.instance, &slug, params.flag("Force", false)).await?;
    if !wants_events(&headers) {
        return Ok(match deleted {
            UninstallOutcome::Uninstalled => StatusCode::NO_CONTENT.into_response(),
            UninstallOutcome::CleaningUp(_) => StatusCode::ACCEPTED.into_response(),
        });
    }
    let data = json!({ "slug": slug });
    let deletion = sse::Event::json("deleted", &data);
    Ok(match deleted {
        UninstallOutcome::Uninstalled => sse::response(stream::once(ready(deletion))),
        UninstallOutcome::CleaningUp(outcome) => {
            let end = async move {
                match outcome.await {
                    Ok(Ok(())) => deletion,
                    Ok(Err(error)) => sse::Event::failure(&error.into()),
                    Err(_) => sse::Event::error(
                        "the server is shutting down; uninstall the konnector again after the restart",
                    ),
                }
            };
            sse::response(stream::once(ready(sse::Event::json("cleaning", &data))).chain(stream::once(end)))
        }
    })
}

/// Returns whether the client accepts exactly an event stream.
fn wants_events(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|accept| accept == sse::MEDIA_TYPE)
}

async fn icon(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
) -> Result<Response, ApiError> {
    icon_response(&platform, &caller, &slug, "private, no-cache").await
}

async fn icon_of_version(
    State(platform): State<Platform>,
    caller: Caller,
    Path((slug, _)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    // The version in the path only changes the URL when the icon may change; its value is not checked (cozy-stack).
    icon_response(&platform, &caller, &slug, "private, max-age=31536000, immutable").await
}

async fn icon_response(
    platform: &Platform,
    caller: &Caller,
    slug: &str,
    cache: &'static str,
) -> Result<Response, ApiError> {
    let (konnector, _) = find_visible(platform, caller, slug)?;
    let (bytes, mime) = platform.konnectors().icon(&caller.instance, &konnector.slug).await?;
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, &mime),
        (CACHE_CONTROL, cache),
        // Without this policy, browsers run scripts in an SVG.
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; style-src 'unsafe-inline'"),
    ];
    Ok((headers, bytes).into_response())
}

async fn create_trigger(
    State(platform): State<Platform>,
    caller: Caller,
    Path(slug): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let (konnector, _) = find_installed(&platform, &caller, &slug)?;
    caller.check_worker(Verb::Post, &TRIGGERS, "", KONNECTOR_WORKER)?;
    let account = params.get_non_empty("AccountID");
    let (created_by, creator) = (&caller.principal.claims.sub, caller.konnector()?);
    let execute_now = params.flag("ExecNow", false);
    if execute_now {
        caller.principal.check_may_outlive_run("launch a trigger")?;
    }
    let trigger = platform
        .triggers()
        .create_for_konnector(&caller.instance, &konnector.slug, account, created_by, creator)
        .await?;
    if execute_now && let Err(error) = platform.triggers().launch(&caller.instance, &trigger.id).await {
        tracing::warn!(trigger = trigger.id, %error, "cannot push the first run; the trigger remains");
    }
    Ok((StatusCode::CREATED, Document::one(triggers::resource(&platform, &caller.instance, &trigger)?)).into_response())
}

//! `/instances` of the admin API: whose data the server keeps (Cozy API: admin, instances).

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use konnector_platform::Platform;
use konnector_platform::doctype::INSTANCES;
use konnector_platform::instance::{Instance, NewInstance};
use konnector_platform::token::Audience;
use konnector_store::{DocRef, InstanceId};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::extract::Params;
use crate::jsonapi::{Document, Resource};

/// The routes of this module.
pub fn routes() -> Router<Platform> {
    Router::new()
        .route("/instances", get(list).post(create))
        .route("/instances/count", get(count))
        .route("/instances/token", post(issue_token))
        .route("/instances/{domain}", get(show).delete(delete))
}

fn resource(platform: &Platform, instance: &Instance) -> Result<Resource, Failure> {
    let at = DocRef::new(&InstanceId::global(), &INSTANCES, instance.id.as_str());
    let rev = platform.store.get(&at)?.map(|found| found.rev.to_string()).unwrap_or_default();
    let resource = Resource::new("instances", instance.id.as_str(), instance)?
        .rev(&rev)
        .attribute("prefix", json!(instance.id))
        .link("self", format!("/instances/{}", instance.id));
    // A text, because it may be larger than the integers of JavaScript.
    Ok(match instance.disk_quota {
        Some(bytes) => resource.attribute("disk_quota", json!(bytes.to_string())),
        None => resource,
    })
}

/// A page of the instances, or all where the client names no number. What is no number is as good as none (cozy-stack).
async fn list(State(platform): State<Platform>, params: Params) -> Result<Document, Failure> {
    let number = |name| params.text(name).and_then(|text| text.parse::<usize>().ok());
    let mut instances = platform.instances()?;
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(from) = params.filled("page[cursor]") {
        instances.retain(|instance| instance.id.as_str() >= from);
    }
    let mut rest = instances.into_iter().skip(number("page[skip]").unwrap_or_default());
    let limit = number("page[limit]").filter(|limit| *limit > 0);
    let page: Vec<Instance> = rest.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
    let next = limit.zip(rest.next()).map(|(limit, next)| {
        let cursor = utf8_percent_encode(next.id.as_str(), NON_ALPHANUMERIC);
        format!("/instances?page[limit]={limit}&page[cursor]={cursor}")
    });
    let shown = page.iter().map(|instance| resource(&platform, instance)).collect::<Result<_, _>>()?;
    Ok(Document::list(shown).next(next))
}

async fn count(State(platform): State<Platform>) -> Result<Json<Value>, Failure> {
    Ok(Json(json!({ "count": platform.instances()?.len() })))
}

async fn create(State(platform): State<Platform>, params: Params) -> Result<(StatusCode, Document), Failure> {
    let text = |name| params.filled(name).map(str::to_owned);
    let disk_quota = params
        .filled("DiskQuota")
        .map(|bytes| {
            bytes.parse().map_err(|_| Failure::parameter("DiskQuota", format!("'{bytes}' is no number of bytes")))
        })
        .transpose()?;
    let new = NewInstance {
        domain: text("Domain").unwrap_or_default(),
        aliases: params.list("DomainAliases"),
        locale: text("Locale"),
        time_zone: text("Timezone"),
        email: text("Email"),
        public_name: text("PublicName"),
        disk_quota,
    };
    let instance = platform.create_instance(new).await?;
    Ok((StatusCode::CREATED, Document::one(resource(&platform, &instance)?)))
}

async fn show(State(platform): State<Platform>, Path(domain): Path<String>) -> Result<Document, Failure> {
    Ok(Document::one(resource(&platform, &platform.instance(&domain)?)?))
}

async fn delete(State(platform): State<Platform>, Path(domain): Path<String>) -> Result<StatusCode, Failure> {
    platform.delete_instance(&domain).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A token as a text. The scope `*` is everything; a konnector's token has none, its rights are those of its manifest.
async fn issue_token(State(platform): State<Platform>, params: Params) -> Result<String, Failure> {
    let domain = params
        .filled("Domain")
        .ok_or_else(|| Failure::parameter("Domain", "give the parameter Domain, the domain of the instance"))?;
    let audience: Audience = params.filled("Audience").unwrap_or("cli").parse()?;
    let subject = params.filled("Subject").unwrap_or("CLI");
    let scope = params.text("Scope").unwrap_or_default();
    let instance = platform.instance(domain)?;
    Ok(platform.issue_token(&instance, audience, subject, scope)?)
}

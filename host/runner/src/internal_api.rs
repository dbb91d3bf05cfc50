//! The API for the run of a command component: `COZY_URL` and `COZY_CREDENTIALS` of the environment contract.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use konnector_manifest::Verb;
use konnector_sandbox::capability::{InternalApi, InternalBody, MayContainSecrets};
use konnector_store::Lease;
use percent_encoding::percent_decode_str;
use url::Url;

use super::RunContext;
use crate::{Error, PublicApi, Result, SandboxRunner};
use konnector_documents::doctype::ACCOUNTS;

/// The public API for the instance and the konnector of one run.
pub struct RunApi {
    scope: Arc<RunContext>,
    public: Arc<dyn PublicApi>,
    url: Url,
    host: HeaderValue,
    token: String,
}

impl RunApi {
    /// Creates the API with a token that reveals only the secrets of the run's account, and is valid only for this run.
    pub fn new(runner: &SandboxRunner, scope: Arc<RunContext>, lease: &Lease) -> Result<Self> {
        let RunContext { domain, instance, konnector, account, .. } = &*scope;
        let public = runner.public_api().ok_or_else(|| {
            Error::BadRequest("this process does not serve the API that command components need".to_owned())
        })?;
        let unusable = |reason: String| {
            Error::BadRequest(format!("the domain '{}' is not a valid address: {reason}", instance.domain))
        };
        let url = Url::parse(&format!("{}://{}/", runner.settings.scheme, instance.domain))
            .map_err(|error| unusable(error.to_string()))?;
        let host = HeaderValue::from_str(&instance.domain).map_err(|error| unusable(error.to_string()))?;
        let account = account.as_ref().map(|account| account.id.as_str());
        let token = domain.auth().issue_run_token(instance, &konnector.slug, account, lease)?;
        Ok(Self { public, url, host, token, scope })
    }
}

#[async_trait]
impl InternalApi for RunApi {
    fn url(&self) -> &Url {
        &self.url
    }

    fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    fn token(&self) -> &str {
        &self.token
    }

    fn may_contain_secrets(&self) -> bool {
        self.scope.account.is_some() && self.scope.permissions.allows_any(Verb::Get, &ACCOUNTS)
    }

    async fn call(&self, request: http::Request<InternalBody>) -> http::Response<InternalBody> {
        let account = is_account_path(request.uri().path());
        let mut response = self.public.call(&self.scope.domain, request).await;
        if account && response.status().is_success() {
            response.extensions_mut().insert(MayContainSecrets);
        }
        response
    }
}

/// Returns whether a path is the path of an account, or of all accounts.
fn is_account_path(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    let doctype = parts.next().filter(|root| *root == "data").and_then(|_| parts.next()).unwrap_or_default();
    percent_decode_str(doctype).decode_utf8().is_ok_and(|doctype| doctype == ACCOUNTS.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_recognised_however_they_are_written() {
        for path in ["/data/io.cozy.accounts/1", "/data/io.cozy%2Eaccounts/1", "/data/io.cozy.accounts/"] {
            assert!(is_account_path(path), "{path}");
        }
        for path in ["/data/io.cozy.bills/1", "/files/io.cozy.accounts", "/", "", "/data"] {
            assert!(!is_account_path(path), "{path}");
        }
    }
}

//! Tokens: JSON Web Tokens (RFC 7519, HS512) as Cozy issues them, signed with a key per instance that is derived from
//! the master key.

use parking_lot::Mutex;
use std::num::NonZeroUsize;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use konnector_manifest::{Permissions, Slug};
use konnector_store::{InstanceId, Lease};
use lru::LruCache;
use sha2::Sha512;

use crate::Auth;
use crate::{Error, Result};
use konnector_documents::instance::Instance;
use konnector_documents::principal::{Audience, Claims, Principal, RunClaim};

/// Parses the rules of a scope.
///
/// # Errors
///
/// [`Error::BadRequest`] for an invalid scope; the message contains an example.
pub(crate) fn parse_scope(scope: &str) -> Result<Permissions> {
    let example = "use for example \"io.cozy.files io.cozy.bills:GET\", or * for everything";
    Permissions::from_scope(scope).map_err(|error| Error::BadRequest(format!("{error}; {example}")))
}

/// LRU cache of tokens with a valid signature. A signature stays valid; age, revocation and rights are checked each
/// time.
pub(crate) struct TokenCache(Mutex<LruCache<String, (InstanceId, Claims)>>);

/// Maximum number of cached tokens, and maximum length of a cached token.
const TOKEN_CACHE_SIZE: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
const MAX_CACHED_TOKEN_BYTES: usize = 4 << 10;

impl Default for TokenCache {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(TOKEN_CACHE_SIZE)))
    }
}

impl TokenCache {
    fn get(&self, instance: &Instance, token: &str) -> Option<Claims> {
        let mut tokens = self.0.lock();
        tokens.get(token).filter(|(id, _)| *id == instance.id).map(|(_, claims)| claims.clone())
    }

    fn put(&self, instance: &Instance, token: &str, claims: &Claims) {
        if token.len() <= MAX_CACHED_TOKEN_BYTES {
            let mut tokens = self.0.lock();
            tokens.put(token.to_owned(), (instance.id.clone(), claims.clone()));
        }
    }
}

const JWT_HEADER: &str = r#"{"alg":"HS512","typ":"JWT"}"#;

impl Auth {
    fn token_mac(&self, instance: &Instance, signed: &str) -> Result<Hmac<Sha512>> {
        let key = self.context.core.key().derive(&format!("token/{}", instance.id));
        let mut mac = Hmac::<Sha512>::new_from_slice(&*key).map_err(|_| Error::InvalidToken)?;
        mac.update(signed.as_bytes());
        Ok(mac)
    }

    /// Issues a token. The scope is validated, so that no token fails later because of its scope.
    ///
    /// # Errors
    ///
    /// [`Error::BadRequest`] if the scope is malformed.
    pub fn issue_token(&self, instance: &Instance, audience: Audience, subject: &str, scope: &str) -> Result<String> {
        if !matches!(audience, Audience::Konnector | Audience::Registration) {
            parse_scope(scope)?;
        }
        self.sign(instance, Claims::new(audience, subject, scope))
    }

    /// Issues the token of a run, for its konnector and its account. It is valid through the platform of that run
    /// ([`Platform::fenced`]) while the lease is held.
    pub fn issue_run_token(
        &self,
        instance: &Instance,
        slug: &Slug,
        account: Option<&str>,
        lease: &Lease,
    ) -> Result<String> {
        // No account has an empty id, so the token of a run without one shows no secrets at all.
        let account = Some(account.unwrap_or_default().to_owned());
        let run = Some(RunClaim::from_lease(lease));
        self.sign(instance, Claims { account, run, ..Claims::new(Audience::Konnector, slug.as_ref(), "") })
    }

    /// Issues the code of a share, for the holder with this name.
    pub(crate) fn issue_share_code(&self, instance: &Instance, name: &str, share: &str) -> Result<String> {
        self.sign(instance, Claims { share: Some(share.to_owned()), ..Claims::new(Audience::Share, name, "") })
    }

    fn sign(&self, instance: &Instance, claims: Claims) -> Result<String> {
        let claims =
            Claims { iss: instance.domain.clone(), iat: self.context.core.clock().now().timestamp(), ..claims };
        let payload = serde_json::to_vec(&claims).map_err(|error| Error::BadRequest(error.to_string()))?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(JWT_HEADER), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.token_mac(instance, &signed)?.finalize().into_bytes();
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Verifies a token and loads its current permissions. The short code of a share is accepted like the long one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidToken`] if it is malformed, forged, revoked, of another instance, or not for requests;
    /// [`Error::ExpiredToken`] if it has expired; [`Error::WrongRunToken`] if it belongs to another run than this
    /// one.
    pub fn authenticate(&self, instance: &Instance, token: &str) -> Result<Principal> {
        let long =
            if token.contains('.') { None } else { self.context.permissions().resolve_shortcode(instance, token)? };
        let token = long.as_deref().unwrap_or(token);
        let claims = self.verify_token(instance, token)?;
        self.check_run_claim(&claims)?;
        let permissions = match claims.aud {
            Audience::Konnector => {
                let slug: Slug = claims.sub.parse().map_err(|_| Error::InvalidToken)?;
                self.context.permissions().of_konnector(instance, &slug)?
            }
            Audience::Share => self.context.permissions().of_share(instance, &claims, token)?,
            Audience::Access => match self.context.oauth_clients().get(instance, &claims.sub) {
                Ok(_) => parse_scope(&claims.scope)?,
                // The client was deleted, and with it all its tokens.
                Err(Error::NotFound(_)) => return Err(Error::InvalidToken),
                Err(error) => return Err(error),
            },
            Audience::App | Audience::Cli => parse_scope(&claims.scope)?,
            Audience::Refresh | Audience::Registration => return Err(Error::InvalidToken),
        };
        Ok(Principal { claims, permissions, wants_credentials: false })
    }

    /// Checks that a run uses only its own token, and that no other caller uses it.
    fn check_run_claim(&self, claims: &Claims) -> Result<()> {
        let bound = claims.run.as_ref();
        match self.context.core.fence() {
            None if bound.is_none() => Ok(()),
            Some(lease) if bound == Some(&RunClaim::from_lease(lease)) => {
                let held = self.context.core.store().lease(&lease.job)?;
                let held = held.is_some_and(|held| (held.epoch, &held.worker) == (lease.epoch, &lease.worker));
                if held { Ok(()) } else { Err(Error::WrongRunToken) }
            }
            _ => Err(Error::WrongRunToken),
        }
    }

    /// Checks the issuer and the age of a token.
    ///
    /// # Errors
    ///
    /// As [`Auth::authenticate`].
    pub(crate) fn verify_token(&self, instance: &Instance, token: &str) -> Result<Claims> {
        let claims = match self.context.state.token_cache.get(instance, token) {
            Some(claims) => claims,
            None => {
                let claims = self.check_signature(instance, token)?;
                self.context.state.token_cache.put(instance, token, &claims);
                claims
            }
        };
        let age = self.context.core.clock().now().timestamp() - claims.iat;
        // A run may take longer than half an hour; its token expires with its lease.
        if claims.run.is_none() && claims.aud.lifetime().is_some_and(|lifetime| age > lifetime.num_seconds()) {
            return Err(Error::ExpiredToken);
        }
        Ok(claims)
    }

    fn check_signature(&self, instance: &Instance, token: &str) -> Result<Claims> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Error::InvalidToken)?;
        let (header, payload) = signed.split_once('.').ok_or(Error::InvalidToken)?;
        // The header is compared as a whole, so no other algorithm is accepted, regardless of the token's header (RFC
        // 8725 §3.1).
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::InvalidToken);
        if decode(header)? != JWT_HEADER.as_bytes() {
            return Err(Error::InvalidToken);
        }
        self.token_mac(instance, signed)?.verify_slice(&decode(signature)?).map_err(|_| Error::InvalidToken)?;
        let claims: Claims = serde_json::from_slice(&decode(payload)?).map_err(|_| Error::InvalidToken)?;
        if claims.iss == instance.domain { Ok(claims) } else { Err(Error::InvalidToken) }
    }
}

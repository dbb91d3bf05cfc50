//! Who may do what: tokens, permission sets and shares, OAuth clients and their grants, one-time tokens.
//!
//! [`Auth::authenticate`] turns a token into a [`Principal`](konnector_documents::principal::Principal) with its current
//! permissions, which are read at every request, so that a change takes effect at once.

#![allow(missing_docs, reason = "names say enough within the domain; docs say what a name cannot")]

pub mod grant;
pub mod oauth_client;
pub mod one_time_token;
pub mod permission;
pub mod token;

use std::sync::Arc;

use konnector_documents::{Core, handles};
pub use konnector_documents::{Error, Result};
use ref_cast::RefCast;

use crate::token::TokenCache;

/// State of this layer, shared by all its contexts.
#[derive(Default)]
pub struct AuthState {
    token_cache: TokenCache,
}

/// What the handles of this layer work with. Cheap to clone.
#[derive(Clone)]
pub struct AuthContext {
    core: Core,
    state: Arc<AuthState>,
}

impl AuthContext {
    /// Creates a context over a core.
    #[must_use]
    pub const fn new(core: Core, state: Arc<AuthState>) -> Self {
        Self { core, state }
    }
}

handles! {
    AuthContext, context;
    /// Tokens, one-time tokens and OAuth grants.
    auth: Auth;
    /// Registered OAuth clients.
    oauth_clients: OauthClients;
    /// Permission sets: of konnectors, tokens and shares.
    permissions: PermissionSets;
}

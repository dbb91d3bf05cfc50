//! The rule of accounts, as `/data` writes them: what [`Accounts`](konnector_accounts::Accounts) checks and seals, and
//! what a change means for the triggers and jobs of the account.

use std::sync::Arc;

use konnector_accounts::{Accounts, can_read_secrets, is_private_field_usable, is_session_field};
use konnector_documents::hook::{AfterCommit, DocumentRule, DocumentUpdate};
use konnector_documents::instance::Instance;
use konnector_documents::principal::Principal;
use konnector_documents::stored::{Object, carry_reserved_fields};
use konnector_documents::{Core, Error, Result};
use konnector_store::{Changes, Document};

use crate::{JobContext, JobState};

/// Rule of the doctype `io.cozy.accounts`.
pub struct AccountRule(pub Arc<JobState>);

impl AccountRule {
    fn context(&self, core: &Core) -> JobContext {
        JobContext::new(core.clone(), Arc::clone(&self.0))
    }
}

/// Returns whether the user changed the login, which resumes a paused schedule. A konnector that stores a new token is
/// not an action of the user.
fn is_new_login(principal: &Principal, before: &Object, after: &Object) -> bool {
    principal.konnector().is_none() && Accounts::login_changed(before, after)
}

impl DocumentRule for AccountRule {
    /// The run that cleans up after a deleted account may still read it.
    fn find_deleted(
        &self,
        core: &Core,
        instance: &Instance,
        principal: &Principal,
        id: &str,
    ) -> Result<Option<Document>> {
        if principal.claims.account.as_deref() != Some(id) {
            return Ok(None);
        }
        match self.context(core).accounts().get_deleted(instance, id) {
            Ok(deleted) => Ok(Some(Document { id: deleted.id, rev: deleted.rev, body: deleted.body })),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn reveal(&self, core: &Core, instance: &Instance, principal: &Principal, document: &mut Document) -> Result<()> {
        let Document { id, body, .. } = document;
        if can_read_secrets(principal, id, body) {
            self.context(core).accounts().unseal(instance, id, body)?;
        }
        Ok(())
    }

    fn prepare_create(
        &self,
        core: &Core,
        instance: &Instance,
        principal: &Principal,
        id: &str,
        body: &mut Object,
    ) -> Result<()> {
        let context = self.context(core);
        context.accounts().check_creation(instance, principal, body)?;
        Accounts::set_default_name(body);
        context.accounts().seal(instance, id, body)
    }

    fn prepare_update(
        &self,
        core: &Core,
        instance: &Instance,
        principal: &Principal,
        before: &Document,
        body: &mut Object,
    ) -> Result<()> {
        let (context, former) = (self.context(core), (before.id.as_str(), &before.body));
        let changes_hands = context.accounts().check_update(instance, principal, former, body)?;
        context.accounts().seal(instance, &before.id, body)?;
        context.accounts().check_replaced_secrets(instance, principal, former, body)?;
        let is_new_login = is_new_login(principal, &before.body, body);
        // New credentials are used at once, because the cookies of the old ones would hide whether the new ones are
        // right.
        let account = body.clone();
        carry_reserved_fields(&before.body, body, |name| {
            let is_outdated = changes_hands || (is_new_login && is_session_field(name));
            !is_outdated && is_private_field_usable(name, &account)
        });
        Ok(())
    }

    fn stage_update(
        &self,
        core: &Core,
        instance: &Instance,
        principal: &Principal,
        update: DocumentUpdate<'_>,
        changes: &mut Changes,
    ) -> Result<()> {
        let DocumentUpdate { before, body, generation } = update;
        if !is_new_login(principal, &before.body, body) {
            return Ok(());
        }
        self.context(core).triggers().stage_login_changed(instance, &before.id, generation, changes)
    }

    fn check_delete(&self, principal: &Principal, before: &Document) -> Result<()> {
        Accounts::check_deletion(principal, &before.id, &before.body)
    }

    fn stage_delete(
        &self,
        core: &Core,
        instance: &Instance,
        before: &Document,
        changes: &mut Changes,
    ) -> Result<Option<AfterCommit>> {
        let context = self.context(core);
        let job = context.jobs().stage_clean_up(instance, before, None, changes)?;
        let (instance, id) = (instance.clone(), before.id.clone());
        Ok(Some(Box::pin(async move {
            context.triggers().delete_of_account(&instance, &id).await?;
            context.jobs().notify_clean_up_job(&instance, job.as_ref())
        })))
    }
}

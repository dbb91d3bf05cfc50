//! Jobs that a person or another server requests from a trigger.

use super::not_found;
use super::plan::TriggerPlan;
use super::step::TriggerEvent;
use crate::Triggers;
use crate::job::{Job, TriggerPayload};
use crate::{Error, Result};
use konnector_accounts::AccountLocation;
use konnector_documents::instance::Instance;
use konnector_documents::rate::RateKind as Rate;

impl Triggers {
    /// Pushes a job of this trigger now, requested by a person, even while the schedule waits for the user.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the trigger does not exist; [`Error::ForeignAccount`] if its konnector may not use
    /// its account; [`Error::RetryLater`] while the vendor has locked the account.
    pub async fn launch(&self, instance: &Instance, id: &str) -> Result<Job> {
        let applied = self.apply(instance, id, &TriggerEvent::Launched(TriggerPayload::default())).await?;
        let job = applied.and_then(|applied| applied.jobs.into_iter().next());
        job.ok_or_else(|| not_found(id))
    }

    /// Handles a webhook call with this body. A `manual` call is a launch. Other calls are collected if the trigger has
    /// a debounce, and are only counted while the schedule waits for the user.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the trigger does not exist, [`Error::InvalidParameter`] if it is not a webhook;
    /// [`Error::Forbidden`] if its konnector may not use its account; [`Error::RetryLater`] if the limit of calls
    /// in this hour is reached; and the errors of [`Triggers::launch`].
    pub async fn call_webhook(&self, instance: &Instance, id: &str, body: &[u8], manual: bool) -> Result<()> {
        let trigger = self.get(instance, id)?;
        if !matches!(trigger.plan(instance)?, TriggerPlan::Webhook) {
            return Err(Error::InvalidParameter {
                name: "id",
                message: format!("the trigger '{id}' is not a @webhook but a {}", trigger.kind),
            });
        }
        self.context.accounts().check(instance, &trigger.message, AccountLocation::Message).map_err(|error| match error {
            // The caller of a webhook is a stranger and must not learn who owns the account.
            Error::ForeignAccount(_) => Error::Forbidden(format!(
                "the webhook '{id}' names an account that its konnector may not use; the owner must change the trigger"
            )),
            error => error,
        })?;
        // Collected calls are not jobs yet.
        if trigger.debounce.is_none() || manual {
            self.context.core.rate_limits().check(instance, Rate::Webhook)?;
        }
        let occasion = TriggerPayload::from_webhook_body(body);
        let event = if manual { TriggerEvent::Launched(occasion) } else { TriggerEvent::Received(occasion) };
        match self.apply(instance, id, &event).await? {
            Some(_) => Ok(()),
            None => Err(not_found(id)),
        }
    }
}

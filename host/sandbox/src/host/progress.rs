//! The interface `progress`.

use super::{Answer, Host, answer};
use crate::bindings::konnector::host::progress as wit;
use crate::capability::{Error, Medium, Question};
use crate::receipt::milliseconds;
use crate::text;

/// Bytes of a label or a hint.
const TEXT: usize = 500;

impl wit::Host for Host {
    fn report(&mut self, done: u64, total: Option<u64>, label: String) -> wasmtime::Result<()> {
        let label = text::cut(self.context.logs.readable(&label), TEXT);
        self.context.capabilities.progress.report(done, total, &label);
        Ok(())
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(milliseconds(self.context.clock.remaining()))
    }

    fn login_succeeded(&mut self) -> wasmtime::Result<()> {
        self.context.capabilities.progress.login_succeeded();
        Ok(())
    }

    async fn ask_code(&mut self, question: wit::Question) -> Answer<String> {
        let question = Question {
            medium: match question.medium {
                wit::Medium::Sms => Medium::Sms,
                wit::Medium::Email => Medium::Email,
                wit::Medium::PhoneCall => Medium::PhoneCall,
                wit::Medium::App => Medium::App,
                wit::Medium::Unspecified => Medium::Unspecified,
            },
            hint: text::cut(self.context.logs.readable(&question.hint), TEXT),
            again: question.again,
        };
        let _pause = self.context.clock.pause();
        let asked = async {
            let question = self.context.capabilities.progress.ask_code(question);
            tokio::time::timeout(self.context.capabilities.limits.answer, question)
                .await
                .unwrap_or(Err(Error::Unattended))
        };
        answer(self.context.unless_cancelled(asked).await)
    }

    async fn request_approval(&mut self, hint: String) -> Answer<()> {
        let hint = text::cut(self.context.logs.readable(&hint), TEXT);
        answer(self.context.unless_cancelled(self.context.capabilities.progress.request_approval(&hint)).await)
    }
}

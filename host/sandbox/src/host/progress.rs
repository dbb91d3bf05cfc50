//! The interface `progress`.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

use super::{Host, HostResult, to_host_result};
use crate::bindings::konnector::host::progress as wit;
use crate::capability::{CapabilityError, CodeChannel, Question, QuotaKind};
use crate::receipt::milliseconds;

/// Maximum size of a label or a hint in bytes.
const MAX_LABEL: usize = 500;
/// Maximum number of questions of one run, which allows for a code for the login and one to confirm, each mistyped
/// once, and one to spare. Vendors lock accounts after about as many wrong codes.
const MAX_QUESTIONS: u32 = 5;
/// Total time that a run may wait for its user, as a multiple of the limit `answer_s`. A waiting run occupies its
/// worker while its own clock is paused, and a user who missed two questions is absent.
const MAX_ANSWER_TIMEOUTS: u32 = 2;
/// Additional time for a capability to report a missing answer, because it has to withdraw the question first.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);

/// Questions that a run has asked its user so far.
#[derive(Debug, Default)]
pub(crate) struct Questions(Mutex<QuestionTotals>);

#[derive(Debug, Default)]
struct QuestionTotals {
    count: u32,
    waited: Duration,
}

impl Questions {
    /// Counts one more question; returns how long its answer may take, at most `each`.
    fn begin(&self, each: Duration) -> Result<Duration, CapabilityError> {
        let mut questions = self.0.lock();
        let remaining = (each * MAX_ANSWER_TIMEOUTS).saturating_sub(questions.waited);
        if questions.count >= MAX_QUESTIONS || remaining.is_zero() {
            return Err(CapabilityError::QuotaExceeded(QuotaKind::Questions));
        }
        questions.count += 1;
        Ok(remaining.min(each))
    }

    fn add_wait(&self, time: Duration) {
        self.0.lock().waited += time;
    }
}

impl wit::Host for Host {
    fn report(&mut self, done: u64, total: Option<u64>, label: String) -> wasmtime::Result<()> {
        let label = self.context.logs.safe_text(&label, MAX_LABEL);
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

    async fn ask_code(&mut self, question: wit::Question) -> HostResult<String> {
        let question = Question {
            channel: match question.channel {
                wit::CodeChannel::Sms => CodeChannel::Sms,
                wit::CodeChannel::Email => CodeChannel::Email,
                wit::CodeChannel::PhoneCall => CodeChannel::PhoneCall,
                wit::CodeChannel::App => CodeChannel::App,
                wit::CodeChannel::Unspecified => CodeChannel::Unspecified,
            },
            hint: self.context.logs.safe_text(&question.hint, MAX_LABEL),
            is_retry: question.is_retry,
        };
        let context = &self.context;
        let within = match context.questions.begin(context.capabilities.limits.answer_timeout) {
            Ok(within) => within,
            Err(error) => return to_host_result(Err(error)),
        };
        let _pause = context.clock.pause();
        let started = Instant::now();
        let question = async {
            let question = context.capabilities.progress.ask_code(question, within);
            tokio::time::timeout(within + WITHDRAW_TIMEOUT, question).await.unwrap_or(Err(CapabilityError::Unattended))
        };
        let result = context.unless_cancelled(question).await;
        context.questions.add_wait(started.elapsed());
        to_host_result(result)
    }

    async fn request_approval(&mut self, hint: String) -> HostResult<()> {
        let hint = self.context.logs.safe_text(&hint, MAX_LABEL);
        to_host_result(self.context.unless_cancelled(self.context.capabilities.progress.request_approval(&hint)).await)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_can_ask_five_questions() {
        let (questions, each) = (Questions::default(), Duration::from_secs(300));
        for _ in 0..MAX_QUESTIONS {
            assert_eq!(questions.begin(each), Ok(each));
            questions.add_wait(Duration::from_secs(20));
        }
        assert_eq!(questions.begin(each), Err(CapabilityError::QuotaExceeded(QuotaKind::Questions)));
    }

    proptest! {
        /// The answers may take any time, but their total does not exceed the limit, apart from withdrawing the last
        /// question.
        #[test]
        fn waiting_has_an_end(each in 1..2_000_u64, answers in prop::collection::vec(0..3_000_u64, 0..50)) {
            let (questions, each) = (Questions::default(), Duration::from_secs(each));
            let (mut count, mut waited) = (0, Duration::ZERO);
            for answer in answers {
                let Ok(within) = questions.begin(each) else { break };
                prop_assert!(!within.is_zero() && within <= each);
                let time = Duration::from_secs(answer).min(within);
                questions.add_wait(time);
                (count, waited) = (count + 1, waited + time);
            }
            prop_assert!(count <= MAX_QUESTIONS && waited <= each * MAX_ANSWER_TIMEOUTS);
        }
    }
}

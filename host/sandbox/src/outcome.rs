//! How a run ended.

use std::time::Duration;

use wasmtime::Trap;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::FieldMapError;

use crate::bindings::exports::konnector::host::run as wit;
use crate::clock::CpuUsedUp;
use crate::host::Halt;
use crate::job::{Action, Failure, Problem, Report};
use crate::limits::Limits;
use crate::logs::Logs;
use crate::meter::Meter;
use crate::protocol::Told;
use crate::receipt::Receipt;
use konnector_egress::text;
use konnector_egress::yield_budget::YieldBudget;

/// Bytes of one text in a failure or a problem.
const TEXT: usize = 2 << 10;
/// Problems that one report may have; the rest is counted in a last one.
const PROBLEMS: usize = 1_000;

/// A run that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used and did, however it ended.
    pub receipt: Receipt,
}

/// The three ways in which a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The konnector did its work.
    Completed(Report),
    /// The konnector says why it could not.
    Failed(Failure),
    /// The host ended it, or it fell over.
    Ended(Ending),
}

/// Why a run has no answer of its own. The texts are sentences for the user interface and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// It took longer than it may.
    #[error("the run was ended after {} seconds, the longest that it may take", .0.as_secs_f64())]
    Deadline(Duration),
    /// It used more processor time than it may.
    #[error("the run was ended because it used up its {} seconds of processor time", .0.as_secs_f64())]
    CpuBudget(Duration),
    /// It asked for more memory than it may have, and could not go on without.
    #[error("the run was ended because it needs more than its {} of memory", text::ByteSize(*.0))]
    Memory(u64),
    /// It fell over; the text says how.
    #[error("{0}")]
    Trap(String),
    /// Somebody cancelled it.
    #[error("the run was cancelled")]
    Cancelled,
    /// Another worker has the job now.
    #[error("the run was given up, because the job was started again elsewhere")]
    LeaseLost,
    /// The component could not be started.
    #[error("the component could not be started: {0}")]
    Start(String),
    /// A fault of the host. The server's log has the details.
    #[error("the run was ended by a fault of the server: {0}")]
    Fault(String),
}

/// What the task of a run comes to.
pub(crate) enum GuestEnd {
    Returned(Result<wit::Report, wit::Failure>),
    /// A command's `main`; an error is an exit status that is not zero.
    Exited(Result<(), ()>),
    Trapped(wasmtime::Error),
    NotStarted(wasmtime::Error),
}

/// Finds the words for the end of a run.
pub(crate) struct Judge<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) meter: &'a Meter,
    pub(crate) logs: &'a Logs,
    pub(crate) cancelled: bool,
    pub(crate) is_command: bool,
}

impl Judge<'_> {
    pub(crate) async fn outcome(&self, end: Result<GuestEnd, CpuUsedUp>) -> Outcome {
        match end {
            Err(CpuUsedUp) => Outcome::Ended(Ending::CpuBudget(self.limits.cpu)),
            // A run that comes to its own end while it is being cancelled keeps it: a refused password must not get lost.
            Ok(GuestEnd::Returned(Err(wit::Failure::Cancelled))) if self.cancelled => Outcome::Ended(Ending::Cancelled),
            Ok(GuestEnd::Returned(Ok(report))) => Outcome::Completed(self.report(report).await),
            Ok(GuestEnd::Returned(Err(failure))) => Outcome::Failed(self.failure(failure)),
            Ok(GuestEnd::Exited(Ok(()))) => Outcome::Completed(Report::default()),
            Ok(GuestEnd::Exited(Err(()))) => exit_status(1),
            Ok(GuestEnd::Trapped(error)) if self.is_command && error.is::<I32Exit>() => {
                match error.downcast_ref::<I32Exit>() {
                    Some(I32Exit(0)) | None => Outcome::Completed(Report::default()),
                    Some(I32Exit(status)) => exit_status(*status),
                }
            }
            Ok(GuestEnd::Trapped(error)) => Outcome::Ended(self.trap(&error)),
            Ok(GuestEnd::NotStarted(error)) if self.meter.memory_was_refused() => {
                tracing::debug!(?error, "the component's memory does not fit the limit");
                Outcome::Ended(Ending::Memory(self.limits.memory))
            }
            Ok(GuestEnd::NotStarted(error)) => Outcome::Ended(Ending::Start(format!("{error:#}"))),
        }
    }

    async fn report(&self, report: wit::Report) -> Report {
        let problem_count = report.problems.len() as u64;
        let more = report.problems.len().saturating_sub(PROBLEMS);
        let mut pace = YieldBudget::default();
        let mut problems = Vec::with_capacity(report.problems.len().min(PROBLEMS + 1));
        for wit::Problem { item, message } in report.problems.into_iter().take(PROBLEMS) {
            problems.push(Problem { item: self.text(&item), message: self.text(&message) });
            pace.consume(item.len() + message.len()).await;
        }
        if more > 0 {
            problems.push(Problem { item: String::new(), message: format!("{more} more problems") });
        }
        Report { problems, problem_count }
    }

    fn failure(&self, failure: wit::Failure) -> Failure {
        match failure {
            wit::Failure::BadCredentials(message) => Failure::BadCredentials(self.text(&message)),
            wit::Failure::MissingCredentials(message) => Failure::MissingCredentials(self.text(&message)),
            wit::Failure::TooManyAttempts(message) => Failure::TooManyAttempts(self.text(&message)),
            wit::Failure::UserAction((what, message)) => Failure::UserAction(action(what), self.text(&message)),
            wit::Failure::CodeMissing(message) => Failure::CodeMissing(self.text(&message)),
            wit::Failure::CodeRefused(message) => Failure::CodeRefused(self.text(&message)),
            wit::Failure::ChallengeUnsupported(message) => Failure::ChallengeUnsupported(self.text(&message)),
            wit::Failure::CaptchaFailed(message) => Failure::CaptchaFailed(self.text(&message)),
            wit::Failure::VendorDown(message) => Failure::VendorDown(self.text(&message)),
            wit::Failure::VendorMaintenance(message) => Failure::VendorMaintenance(self.text(&message)),
            wit::Failure::RateLimited(seconds) => Failure::RateLimited(seconds),
            wit::Failure::VendorChanged(message) => Failure::VendorChanged(self.text(&message)),
            wit::Failure::Denied(message) => Failure::Denied(self.text(&message)),
            wit::Failure::StorageFull(message) => Failure::StorageFull(self.text(&message)),
            wit::Failure::LimitReached(message) => Failure::LimitReached(self.text(&message)),
            wit::Failure::Cancelled => Failure::Cancelled,
            wit::Failure::HostFailed(message) => Failure::HostFailed(self.text(&message)),
            wit::Failure::Bug(message) => Failure::Bug(self.text(&message)),
        }
    }

    fn text(&self, text: &str) -> String {
        self.logs.readable(text, TEXT)
    }

    fn trap(&self, error: &wasmtime::Error) -> Ending {
        tracing::debug!(?error, "a konnector trapped");
        if let Some(halt) = error.downcast_ref::<Halt>() {
            return match halt {
                Halt::LeaseLost => Ending::LeaseLost,
            };
        }
        // The code is not told: of WASI's exit a guest's C library uses the form that knows success and failure only.
        if error.is::<I32Exit>() {
            return Ending::Trap(
                "the konnector called `exit` instead of returning a result; return a failure that says what is wrong"
                    .to_owned(),
            );
        }
        // From then on every use of a handle fails, each in its own way.
        if self.meter.handles_were_refused() {
            return Ending::Trap(format!(
                "the konnector holds resources of the host (requests, headers, bodies, streams) that do not fit into its {} of memory; drop \
                 those it is done with",
                text::ByteSize(self.limits.memory)
            ));
        }
        let panic = self.logs.panic_message();
        match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => match panic {
                Some(message) => Ending::Trap(format!("the konnector panicked: {message}")),
                // An allocation that fails aborts without a panic.
                None if self.meter.memory_was_refused() => Ending::Memory(self.limits.memory),
                None => Ending::Trap("the konnector aborted; standard error in its log may say why".to_owned()),
            },
            Some(Trap::StackOverflow) => Ending::Trap(
                "the konnector used up its stack of 512 KiB: a function calls itself too deeply, or holds too much on the stack"
                    .to_owned(),
            ),
            // A guest's own stack, which grows towards address 0, holds what does not fit into registers.
            Some(Trap::MemoryOutOfBounds) => Ending::Trap(
                "the konnector reached for memory that it does not have; mostly that is a function that calls itself too deeply"
                    .to_owned(),
            ),
            Some(trap) => Ending::Trap(format!("the konnector did what WebAssembly forbids: {}", reason(*trap))),
            None => self.other_error(error),
        }
    }

    /// Errors of wasmtime and of its WASI implementation that are no trap of WebAssembly.
    fn other_error(&self, error: &wasmtime::Error) -> Ending {
        let Limits { handles, host_call_bytes, .. } = self.limits;
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return Ending::Trap(format!(
                "the konnector holds more than {handles} resources (files, streams, timers, uploads) at one time; drop those it is done with"
            ));
        }
        if let Some(FieldMapError::TotalSizeTooBig) = error.downcast_ref() {
            return Ending::Trap(
                "the konnector put more than 64 KiB of headers into one request; send less, or send it in the body"
                    .to_owned(),
            );
        }
        if is_hostcall_fuel_exhausted(error) {
            return Ending::Trap(format!(
                "the konnector passed more than {} in one call; save documents in smaller batches, write files in parts of at \
                 most 1 MiB",
                text::ByteSize(*host_call_bytes as u64)
            ));
        }
        Ending::Trap(format!("the konnector was stopped: {}", self.text(&error.root_cause().to_string())))
    }
}

/// Whether the guest passed more in one call than [`Store::set_hostcall_fuel`](wasmtime::Store::set_hostcall_fuel) allows. The type is
/// private to wasmtime, and so is known by its name; `one_large_call` of the sandbox's tests tells when it changes.
fn is_hostcall_fuel_exhausted(error: &wasmtime::Error) -> bool {
    format!("{:?}", error.root_cause()) == "HostcallFuelExhausted"
}

/// What a command said counts before everything that the host could say, unless somebody else has the job (Cozy API, konnector run-time
/// contract, §6.3: a critical line hides a later timeout).
pub(crate) fn in_its_words(told: &Told, outcome: Outcome) -> Outcome {
    match (told.error(), outcome) {
        (_, outcome @ Outcome::Ended(Ending::LeaseLost | Ending::Cancelled)) => outcome,
        (Some(error), _) => Outcome::Failed(Failure::Told { error: error.to_owned(), no_retry: told.no_retry() }),
        (None, outcome) => outcome,
    }
}

/// In the words of Cozy, whose clients may know them.
fn exit_status(status: i32) -> Outcome {
    Outcome::Failed(Failure::Told { error: format!("exit status {status}"), no_retry: false })
}

fn reason(trap: Trap) -> String {
    let text = trap.to_string();
    text.strip_prefix("wasm trap: ").map(str::to_owned).unwrap_or(text)
}

fn action(action: wit::Action) -> Action {
    match action {
        wit::Action::AcceptTerms => Action::AcceptTerms,
        wit::Action::ChangePassword => Action::ChangePassword,
        wit::Action::StrongAuthentication => Action::StrongAuthentication,
        wit::Action::WebAuthentication => Action::WebAuthentication,
        wit::Action::Reconnect => Action::Reconnect,
        wit::Action::AccountRemoved => Action::AccountRemoved,
        wit::Action::PermissionsChanged => Action::PermissionsChanged,
        wit::Action::Unspecified => Action::Unspecified,
    }
}

//! Request bodies that are read as a whole. They share a budget of the process, because incomplete bodies are held in
//! memory.
//!
//! Each byte is charged on arrival to the instance of the token, or to the client's address if there is no token. A
//! client that sends many bodies at once exhausts only its own share; one that stops sending times out.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use http::{Extensions, StatusCode};
use konnector_platform::Error;
use konnector_store::InstanceId;

use crate::error::ApiError;
use crate::extract::Caller;
use crate::limits::MAX_BODY_SIZE;
use crate::server::ClientAddress;

/// Maximum time between two parts of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Limits of the process-wide budget.
const DEFAULT_LIMITS: BodyLimits =
    BodyLimits { total: 64 << 20, per_instance: 16 << 20, anonymous: 16 << 20, per_address: 4 << 20 };

static BUDGET: LazyLock<Arc<Budget>> = LazyLock::new(|| Arc::new(Budget::new(DEFAULT_LIMITS)));

/// Maximum number of bytes that bodies may hold in memory at a time.
#[derive(Debug, Clone, Copy)]
struct BodyLimits {
    total: usize,
    per_instance: usize,
    /// Limit of all requests without a token.
    anonymous: usize,
    per_address: usize,
}

/// The party to which a body is charged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sender {
    Instance(InstanceId),
    Anonymous(ClientAddress),
}

impl Sender {
    fn from_extensions(extensions: &Extensions) -> Self {
        match extensions.get::<Caller>() {
            Some(caller) => Self::Instance(caller.instance.id.clone()),
            None => Self::Anonymous(ClientAddress::for_request(extensions)),
        }
    }
}

#[derive(Debug, Default)]
struct BudgetUsage {
    total: usize,
    anonymous: usize,
    senders: HashMap<Sender, usize>,
}

#[derive(Debug)]
struct Budget {
    limits: BodyLimits,
    usage: Mutex<BudgetUsage>,
}

impl Budget {
    fn new(limits: BodyLimits) -> Self {
        Self { limits, usage: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BudgetUsage> {
        self.usage.lock()
    }
}

/// The bytes that one body occupies in the budget; released on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    sender: Sender,
    bytes: usize,
}

impl Charge {
    fn new(budget: &Arc<Budget>, sender: Sender) -> Self {
        Self { budget: Arc::clone(budget), sender, bytes: 0 }
    }

    fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let limits = self.budget.limits;
        let mut usage = self.budget.lock();
        let sender_bytes = usage.senders.get(&self.sender).copied().unwrap_or_default();
        let (sender_limit, anonymous) = match self.sender {
            Sender::Instance(_) => (limits.per_instance, 0),
            Sender::Anonymous(_) => (limits.per_address, bytes),
        };
        if sender_bytes + bytes > sender_limit
            || usage.total + bytes > limits.total
            || usage.anonymous + anonymous > limits.anonymous
        {
            return Err(BodyError::Busy);
        }
        usage.total += bytes;
        usage.anonymous += anonymous;
        *usage.senders.entry(self.sender.clone()).or_default() += bytes;
        drop(usage);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut usage = self.budget.lock();
        usage.total -= self.bytes;
        if matches!(self.sender, Sender::Anonymous(_)) {
            usage.anonymous -= self.bytes;
        }
        if let Some(sender_bytes) = usage.senders.get_mut(&self.sender) {
            *sender_bytes -= self.bytes;
            if *sender_bytes == 0 {
                usage.senders.remove(&self.sender);
            }
        }
    }
}

/// Reason why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// The body exceeds the maximum size.
    TooLarge,
    /// The budget of the sender or of the process is exhausted.
    Busy,
    /// The client stopped sending.
    Stalled,
    /// The connection was interrupted.
    Broken(String),
}

impl BodyError {
    /// Converts into an API error; `too_large` states the maximum size.
    pub fn into_error(self, too_large: &str) -> ApiError {
        match self {
            Self::TooLarge => ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, too_large),
            Self::Busy => {
                Error::Busy("the server is receiving too many request bodies; try again in a moment".to_owned()).into()
            }
            Self::Stalled => {
                let message = format!(
                    "the client sent no part of the body for {} s; send the request again",
                    BODY_TIMEOUT.as_secs()
                );
                ApiError::request(StatusCode::REQUEST_TIMEOUT, message)
            }
            Self::Broken(reason) => ApiError::bad_request(format!("cannot read the request body: {reason}")),
        }
    }
}

/// Marks a request whose body has already been charged.
#[derive(Debug, Clone, Copy)]
pub struct BodyCharged;

/// Reads a body to its end. The bytes read are charged until the returned charge is dropped.
///
/// # Errors
///
/// If the body is too large, too many bodies are in transit, or the client stops sending.
pub async fn read(extensions: &Extensions, body: Body) -> Result<(Bytes, Charge), BodyError> {
    read_with_budget(&BUDGET, extensions, body).await
}

async fn read_with_budget(
    budget: &Arc<Budget>,
    extensions: &Extensions,
    body: Body,
) -> Result<(Bytes, Charge), BodyError> {
    let mut charge = Charge::new(budget, Sender::from_extensions(extensions));
    let charged = extensions.get::<BodyCharged>().is_some();
    let (mut buffer, mut chunks) = (BytesMut::new(), body.into_data_stream());
    loop {
        let chunk = tokio::time::timeout(BODY_TIMEOUT, chunks.next()).await.map_err(|_| BodyError::Stalled)?;
        let Some(chunk) = chunk else { return Ok((buffer.freeze(), charge)) };
        let chunk = chunk.map_err(|error| BodyError::Broken(error.to_string()))?;
        if buffer.len() + chunk.len() > MAX_BODY_SIZE {
            return Err(BodyError::TooLarge);
        }
        if !charged {
            charge.grow(chunk.len())?;
        }
        buffer.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const SMALL: BodyLimits = BodyLimits { total: 20, per_instance: 8, anonymous: 10, per_address: 6 };

    fn anonymous(last: u8) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(ClientAddress::from_ip([192, 0, 2, last].into()));
        extensions
    }

    /// Returns a body that sends `text` and then stalls.
    fn stalled(text: &'static str) -> Body {
        let parts = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes()))]);
        Body::from_stream(parts.chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_times_out_and_frees_its_budget() {
        let budget = Arc::new(Budget::new(SMALL));
        let read = read_with_budget(&budget, &anonymous(1), stalled("abc")).await;
        assert_eq!(read.err(), Some(BodyError::Stalled));
        assert_eq!(budget.lock().total, 0);
        assert!(budget.lock().senders.is_empty());
    }

    #[tokio::test]
    async fn one_sender_cannot_use_the_budget_of_others() {
        let budget = Arc::new(Budget::new(SMALL));
        let read = async |extensions: &Extensions, text: &'static str| {
            read_with_budget(&budget, extensions, Body::from(text)).await.map(|(_, charge)| charge)
        };
        let first = read(&anonymous(1), "12345").await.expect("within its share");
        assert_eq!(read(&anonymous(1), "12").await.err(), Some(BodyError::Busy), "its share is used up");
        let second = read(&anonymous(2), "12345").await.expect("the share of another one");
        assert_eq!(read(&anonymous(3), "1").await.err(), Some(BodyError::Busy), "strangers have one share together");
        // Callers with a token still have capacity.
        let mut known = Charge::new(&budget, Sender::Instance(InstanceId::new()));
        known.grow(8).expect("within its share");
        assert_eq!(known.grow(1), Err(BodyError::Busy));
        drop((first, second));
        read(&anonymous(1), "12345").await.expect("room again");
        drop(known);
        assert_eq!(budget.lock().total, 0);
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused() {
        let budget = Arc::new(Budget::new(DEFAULT_LIMITS));
        let body = Body::from(vec![0; MAX_BODY_SIZE + 1]);
        assert_eq!(read_with_budget(&budget, &anonymous(1), body).await.err(), Some(BodyError::TooLarge));
    }
}

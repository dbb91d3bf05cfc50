//! `/jobs/:id/events`: the course of a job as a stream of events. `state` comes first and at each change, with the
//! document that `/jobs/:id` returns; `progress`, `log`, `login_success` and `code_needed` come in between. The stream
//! ends when the job has ended.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::stream;
use konnector_manifest::Verb;
use konnector_platform::Platform;
use konnector_platform::doctype::{JOB_EVENTS, JOB_LOGS, JOBS};
use konnector_platform::instance::Instance;
use konnector_platform::job::JobStatus as JobState;
use konnector_platform::realtime::Listener;
use serde_json::Value;

use crate::error::ApiError;
use crate::extract::Caller;
use crate::jsonapi::Document;
use crate::sse;

pub async fn stream_events(
    State(platform): State<Platform>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    // Subscribe before reading the job, so that no change is missed in between.
    let events = platform.realtime().subscribe(&caller.instance.id);
    super::authorized_job(&platform, &caller, Verb::Get, &id)?;
    super::reject_konnectors(&caller)?;
    let watch = JobEventStream { platform, instance: caller.instance, id, events, next: NextEvent::State };
    Ok(sse::response(stream::unfold(watch, JobEventStream::advance)))
}

/// The next item that the stream sends.
enum NextEvent {
    /// The current state of the job.
    State,
    /// The next event of the bus.
    Event,
    /// The stream has ended.
    Nothing,
}

struct JobEventStream {
    platform: Platform,
    instance: Arc<Instance>,
    id: String,
    events: Listener,
    next: NextEvent,
}

impl JobEventStream {
    async fn advance(mut self) -> Option<(sse::Event, Self)> {
        loop {
            match self.next {
                NextEvent::Nothing => return None,
                NextEvent::State => return Some((self.state(), self)),
                NextEvent::Event => {}
            }
            match self.events.recv().await {
                Ok(event) if event.id != self.id => {}
                Ok(event) if event.doctype == *JOBS => self.next = NextEvent::State,
                Ok(event) if event.doctype == *JOB_LOGS => return Some((sse::Event::json("log", &event.doc), self)),
                Ok(event) if event.doctype == *JOB_EVENTS => {
                    let name = event.doc.get("type").and_then(Value::as_str).unwrap_or("event");
                    return Some((sse::Event::json(name, &event.doc), self));
                }
                Ok(_) => {}
                // Some events were missed; the stored job is authoritative.
                Err(_) => self.next = NextEvent::State,
            }
        }
    }

    /// Returns the current state of the job. It is the last event if the job has ended or was deleted.
    fn state(&mut self) -> sse::Event {
        let current = self.platform.jobs().get(&self.instance, &self.id).map_err(ApiError::from).and_then(|job| {
            let resource = super::resource_with_wait(&self.platform, &self.instance, &job)?;
            Ok((job.state, Document::one(resource)))
        });
        match current {
            Ok((state, document)) => {
                self.next = match state {
                    JobState::Queued | JobState::Running => NextEvent::Event,
                    JobState::Done | JobState::Errored => NextEvent::Nothing,
                };
                sse::Event::json("state", &document)
            }
            Err(failure) => {
                self.next = NextEvent::Nothing;
                sse::Event::failure(&failure)
            }
        }
    }
}

//! What must be true at the end of a story.

use std::collections::HashMap;

use konnector_platform::doctype::{JOBS, TRIGGERS};
use konnector_platform::job::{Cause, Job, JobStatus};
use konnector_platform::trigger::Trigger;
use konnector_store::Document;

use crate::node::Node;
use crate::scenario::Scenario;

fn read<T: serde::de::DeserializeOwned>(document: Document) -> T {
    serde_json::from_value(document.body.into()).unwrap()
}

impl Scenario {
    fn report_violation(&mut self, fault: impl Into<String>) {
        self.outcome.violations.push(fault.into());
    }

    fn any_node(&self) -> &Node {
        self.nodes.iter().flatten().next().unwrap()
    }

    fn jobs(&self) -> HashMap<String, Job> {
        let store = &self.any_node().platform.raw_store();
        let mut jobs = HashMap::new();
        for instance in &self.instances {
            for document in store.list(&instance.id, &JOBS, None, usize::MAX).unwrap() {
                let id = document.id.clone();
                jobs.insert(id.clone(), Job { id, ..read(document) });
            }
        }
        jobs
    }

    /// Every due instant of a schedule made a job, was coalesced into one, or was passed over for a reason that was recorded; none twice.
    pub fn check_instants(&mut self) {
        let jobs = self.jobs();
        for (instance, id, first, period) in self.triggers.clone() {
            let platform = self.any_node().platform.clone();
            let at = self.instances[instance].doc(&TRIGGERS, id.as_str());
            let document = platform.raw_store().get(&at).unwrap().unwrap();
            let trigger: Trigger = read(document);
            let due = platform.raw_store().due_at(&at).unwrap().unwrap().timestamp();
            let fired =
                jobs.values().filter(|job| job.trigger_id.as_ref() == Some(&id) && job.cause == Cause::Schedule);
            let jobs = fired.count() as u64;
            let met = trigger.runtime.counters;
            let accounted = met.fired + met.coalesced + met.missed + met.overlapped + met.paused;
            let passed = u64::try_from((due - first) / period).unwrap();
            if accounted != passed || met.fired != jobs || (due - first) % period != 0 {
                self.report_violation(format!(
                    "trigger {id}: {passed} instants have passed, with {jobs} jobs: {met:?}"
                ));
            }
        }
    }

    pub fn check_jobs(&mut self) {
        let jobs = self.jobs();
        self.outcome.jobs = jobs.len() as u64;
        for id in self.accepted.clone() {
            match jobs.get(&id) {
                None => self.report_violation(format!("the job {id} was accepted and is lost")),
                Some(job) if !matches!(job.state, JobStatus::Done | JobStatus::Errored) => {
                    self.report_violation(format!("the job {id} was accepted and does not end"));
                }
                Some(_) => {}
            }
        }
        for (id, state) in self.ended.clone() {
            let now = jobs.get(&id).map(|job| serde_json::to_value(job.state).unwrap());
            if now.as_ref().and_then(serde_json::Value::as_str) != Some(state.as_str()) {
                self.report_violation(format!("the job {id} had ended as {state}, and is {now:?} now"));
            }
        }
        for job in jobs.values() {
            self.check_retry(job, &jobs);
        }
        self.check_visits(&jobs);
        self.outcome.violations.extend(self.site.vendor.violations());
    }

    fn check_retry(&mut self, job: &Job, jobs: &HashMap<String, Job>) {
        let Some(before) = &job.retry_of else { return };
        self.outcome.retried += 1;
        let Some(before) = jobs.get(before) else {
            return self.report_violation(format!("{} retries a job that is lost", job.id));
        };
        let code = before.error.as_deref().unwrap_or("none");
        let seconds = before.next_attempt_at.zip(before.finished_at).map(|(next, end)| (next - end).num_seconds());
        let ceiling = (300 << (before.attempt - 1)).min(6 * 3_600);
        let right = match (code, seconds) {
            ("VENDOR_DOWN", Some(seconds)) => (0..=ceiling).contains(&seconds),
            ("VENDOR_DOWN.RATE_LIMITED", Some(seconds)) => (400..=ceiling.max(400)).contains(&seconds),
            ("UNKNOWN_ERROR", Some(seconds)) => before.attempt == 1 && seconds == 3_600,
            _ => false,
        };
        if !right || job.attempt != before.attempt + 1 || job.attempt > 8 {
            self.report_violation(format!(
                "{} is attempt {} after {code}, {seconds:?} seconds later",
                job.id, job.attempt
            ));
        }
    }

    /// Runs for one account never overlap in the eyes of the vendor, nor do more at one host than it may have.
    fn check_visits(&mut self, jobs: &HashMap<String, Job>) {
        let visits = self.site.vendor.visits();
        for visit in &visits {
            let overlapping = |of: &dyn Fn(&crate::vendor::Visit) -> bool| {
                visits
                    .iter()
                    .filter(|other| of(other) && other.first <= visit.first && visit.first <= other.last)
                    .count()
            };
            if overlapping(&|other| other.account == visit.account) > 1 {
                self.report_violation(format!(
                    "two runs for {} at the same time, one of them {:?}",
                    visit.account, visit.run
                ));
            }
            let at_host = overlapping(&|other| other.host == visit.host);
            if at_host > self.site.max_runs_per_host as usize {
                self.report_violation(format!("{at_host} runs at {} when {:?} came", visit.host, visit.run));
            }
            if !jobs.contains_key(&visit.run.0) && self.accepted.contains(&visit.run.0) {
                self.report_violation(format!("{:?} ran and is lost", visit.run));
            }
        }
    }
}

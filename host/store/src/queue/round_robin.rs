//! Fair order of the ready jobs.
//!
//! A ready job's key is `<class> <instance> <lane> <time> <job>`. A lane contains the jobs with one lock, or all jobs
//! without a lock. One seek finds the first job of a class, an instance or a lane. Therefore, the number of reads of a
//! claim is the number of classes with ready work plus the number of jobs that it takes, regardless of how many jobs
//! are waiting.
//!
//! Among classes, the instance that was served least recently comes first, then the older job. Within a class,
//! instances take turns; within an instance, lanes do; within a lane, jobs come in the order of their time. Therefore,
//! no job waits for more than one turn of each of the others.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};

use super::{LockHolder, QueuedJob};
use crate::error::{Error, Result};
use crate::id::InstanceId;
use crate::key::{self, KeyRange, ReadyKey};
use crate::kv::Kv;
use crate::view;

/// Maximum number of remembered positions. Forgetting them is unfair for no longer than one turn.
const MAX_REMEMBERED_POSITIONS: usize = 50_000;

/// The most recently served positions. Each process has its own; they affect only fairness, not correctness.
#[derive(Default)]
pub(crate) struct RoundRobin(Mutex<RoundRobinState>);

#[derive(Default)]
struct RoundRobinState {
    /// Number of jobs handed out.
    count: u64,
    /// The value of that counter when an instance was last served.
    instances: HashMap<[u8; 16], u64>,
    /// The instance that a class served last.
    classes: HashMap<[u8; 8], [u8; 16]>,
    /// The lane that an instance's class served last.
    lanes: HashMap<([u8; 8], [u8; 16]), [u8; 8]>,
}

impl RoundRobin {
    fn state(&self) -> MutexGuard<'_, RoundRobinState> {
        self.0.lock()
    }

    /// Records that a job at this key was taken.
    fn record_served(&self, served_key: &ReadyKey) {
        let mut served = self.state();
        if served.instances.len().max(served.lanes.len()).max(served.classes.len()) >= MAX_REMEMBERED_POSITIONS {
            *served = RoundRobinState { count: served.count, ..RoundRobinState::default() };
        }
        served.count += 1;
        let count = served.count;
        served.instances.insert(served_key.instance, count);
        served.classes.insert(served_key.class, served_key.instance);
        served.lanes.insert((served_key.class, served_key.instance), served_key.lane);
    }
}

/// A scan of the ready jobs that repeatedly returns the next one in turn.
pub(super) struct ReadyScan<'a> {
    kv: &'a dyn Kv,
    round_robin: &'a RoundRobin,
    /// The next job of each class that may have one.
    heads: Vec<ClassHead>,
    /// Entries that this scan has handed out or found unsuitable.
    visited: HashSet<Vec<u8>>,
    /// Locks that are held, or that this scan has assigned.
    locks: HashSet<(InstanceId, String)>,
}

/// The next job of a class.
pub(super) struct ClassHead {
    pub(super) key: ReadyKey,
    pub(super) queued: QueuedJob,
}

impl<'a> ReadyScan<'a> {
    pub(super) fn new(kv: &'a dyn Kv, round_robin: &'a RoundRobin) -> Result<Self> {
        let mut scan = Self { kv, round_robin, heads: Vec::new(), visited: HashSet::new(), locks: HashSet::new() };
        let mut range = key::ready();
        while let Some((key, _)) = kv.scan(&range.from, &range.to, 1, false)?.pop() {
            let Some(ready_key) = ReadyKey::parse(&key) else {
                range.start_after(&key);
                continue;
            };
            range.from = key::ready_of_class(ready_key.class).to;
            let head = scan.next_of_class(ready_key.class)?;
            scan.heads.extend(head);
        }
        Ok(scan)
    }

    /// Returns the job whose turn it is. Its class returns no other job until this one is [accepted](Self::accept) or
    /// [skipped](Self::skip); if it is neither, no job of the class can start now.
    pub(super) fn next(&mut self) -> Option<ClassHead> {
        let first = {
            let served = self.round_robin.state();
            let age = |head: &ClassHead| {
                (served.instances.get(&head.key.instance).copied().unwrap_or_default(), head.queued.entry.run_at)
            };
            (0..self.heads.len()).min_by_key(|number| self.heads.get(*number).map(age))
        };
        let head = first.map(|first| self.heads.swap_remove(first))?;
        self.visited.insert(head.key.key.clone());
        Some(head)
    }

    /// Accepts the job, which uses the turn of its instance and its lane, and takes its lock.
    pub(super) fn accept(&mut self, ready_key: &ReadyKey, lock: Option<(InstanceId, String)>) -> Result<()> {
        self.round_robin.record_served(ready_key);
        self.locks.extend(lock);
        self.skip(ready_key)
    }

    /// Skips the job, which cannot start, although others of its class may.
    pub(super) fn skip(&mut self, ready_key: &ReadyKey) -> Result<()> {
        let following = self.next_of_class(ready_key.class)?;
        self.heads.extend(following);
        Ok(())
    }

    fn next_of_class(&mut self, class: [u8; 8]) -> Result<Option<ClassHead>> {
        let last = self.round_robin.state().classes.get(&class).copied();
        let all = key::ready_of_class(class);
        for range in rotated_ranges(&all, last.map(|instance| key::ready_of_instance(class, instance))) {
            let mut range = range;
            while let Some((key, _)) = self.kv.scan(&range.from, &range.to, 1, false)?.pop() {
                let Some(ready_key) = ReadyKey::parse(&key) else {
                    range.start_after(&key);
                    continue;
                };
                if let Some(head) = self.next_of_instance(class, ready_key.instance)? {
                    return Ok(Some(head));
                }
                range.from = key::ready_of_instance(class, ready_key.instance).to;
            }
        }
        Ok(None)
    }

    fn next_of_instance(&mut self, class: [u8; 8], instance: [u8; 16]) -> Result<Option<ClassHead>> {
        let last = self.round_robin.state().lanes.get(&(class, instance)).copied();
        let all = key::ready_of_instance(class, instance);
        for range in rotated_ranges(&all, last.map(|lane| key::ready_of_lane(class, instance, lane))) {
            let mut range = range;
            while let Some((key, value)) = self.kv.scan(&range.from, &range.to, 1, false)?.pop() {
                let read = match (ReadyKey::parse(&key), view::decode::<QueuedJob>(&key, &value)) {
                    (Some(ready_key), Ok(queued)) => Some((ready_key, queued)),
                    // One damaged job must not block the others.
                    (_, Err(error)) => {
                        tracing::error!(%error, "skipped a waiting job that cannot be read");
                        None
                    }
                    (None, Ok(_)) => None,
                };
                range.start_after(&key);
                let Some((ready_key, queued)) = read.filter(|_| !self.visited.contains(&key)) else { continue };
                if self.is_locked(&queued)? {
                    // All other jobs in the lane need the same lock.
                    range.from = key::ready_of_lane(class, instance, ready_key.lane).to;
                    continue;
                }
                return Ok(Some(ClassHead { key: ready_key, queued }));
            }
        }
        Ok(None)
    }

    fn is_locked(&mut self, queued: &QueuedJob) -> Result<bool> {
        let Some(lock) = &queued.entry.lock else { return Ok(false) };
        let lock_id = (queued.job.instance.clone(), lock.clone());
        if self.locks.contains(&lock_id) {
            return Ok(true);
        }
        let is_locked = match view::read::<LockHolder>(self.kv, &key::of_lock(&lock_id.0, &lock_id.1)) {
            Ok(holder) => holder.is_some(),
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%error, "a lock that cannot be read counts as held");
                true
            }
            Err(error) => return Err(error),
        };
        if is_locked {
            self.locks.insert(lock_id);
        }
        Ok(is_locked)
    }
}

/// Returns two ranges that rotate the whole: from after the last served part to the end, then from the start.
fn rotated_ranges(all: &KeyRange, last: Option<KeyRange>) -> Vec<KeyRange> {
    match last {
        None => vec![all.clone()],
        Some(last) => {
            vec![
                KeyRange { from: last.to.clone(), to: all.to.clone() },
                KeyRange { from: all.from.clone(), to: last.to },
            ]
        }
    }
}

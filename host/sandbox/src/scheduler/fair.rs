//! Whose turn it is: the order of tasks by the processor time that each has used. No threads and no clocks, so tests are exact.

use std::collections::BTreeMap;

/// Nanoseconds of processor time, as the queue counts them for one task (a *virtual runtime*, as in Linux's fair scheduler): what the task
/// used, and what it was moved forward by after it had waited for something else than its turn.
pub(super) type Runtime = u64;

/// Tasks that wait for a thread. The one with the least runtime goes first; of equals, the one that waits longest.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    waiting: BTreeMap<(Runtime, u64), T>,
    /// What each thread runs, with its runtime at the beginning of the turn.
    running: Vec<Option<Runtime>>,
    /// The least runtime of all tasks that could go on; never falls. A task that comes or returns starts here, so it owes nobody for the time
    /// before it came, and cannot save up turns while it sleeps.
    floor: Runtime,
    pushed: u64,
}

impl<T> FairQueue<T> {
    pub(super) fn new(threads: usize) -> Self {
        Self { waiting: BTreeMap::new(), running: vec![None; threads], floor: 0, pushed: 0 }
    }

    /// Adds a task that has used `runtime` so far.
    pub(super) fn push(&mut self, runtime: Runtime, task: T) {
        self.pushed += 1;
        self.waiting.insert((runtime.max(self.floor), self.pushed), task);
    }

    /// Gives a thread the task whose turn it is, with its runtime. The turn ends with [`end`](Self::end).
    pub(super) fn begin(&mut self, thread: usize) -> Option<(Runtime, T)> {
        let ((runtime, _), task) = self.waiting.pop_first()?;
        self.set_running(thread, Some(runtime));
        Some((runtime, task))
    }

    /// Ends the turn of a thread, whose task has a runtime of `runtime` now. A task that can go on was pushed again before.
    pub(super) fn end(&mut self, thread: usize, runtime: Runtime) {
        self.set_running(thread, None);
        let running = self.running.iter().flatten().min().copied();
        let least = [running, self.least_waiting()].into_iter().flatten().fold(runtime, Runtime::min);
        self.floor = self.floor.max(least);
    }

    /// Runtime of the task whose turn is next.
    pub(super) fn least_waiting(&self) -> Option<Runtime> {
        self.waiting.first_key_value().map(|((runtime, _), _)| *runtime)
    }

    fn set_running(&mut self, thread: usize, runtime: Option<Runtime>) {
        if let Some(running) = self.running.get_mut(thread) {
            *running = runtime;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Nanoseconds after which a running task is asked whether somebody else should go on.
    const QUANTUM: Runtime = 1_000_000;
    /// Quanta after which a turn ends although nobody waits.
    const MAX_SLICE: u64 = 8;

    /// A task of the simulation.
    #[derive(Debug, Clone, Copy)]
    enum Kind {
        /// Computes without end.
        Busy,
        /// Computes for that many nanoseconds, then sleeps for that many quanta, again and again.
        Naps { computes: Runtime, sleeps: u64 },
    }

    #[derive(Debug, Clone, Copy, Default)]
    struct Task {
        runtime: Runtime,
        /// Processor time used.
        used: Runtime,
        /// Quantum in which it wakes.
        wakes: u64,
        asleep: bool,
        /// Nanoseconds until it sleeps.
        until_nap: Runtime,
        /// Most quanta that it waited for its turn after it woke.
        waited: u64,
        woke: u64,
    }

    #[derive(Debug, Clone, Copy)]
    struct Turn {
        task: usize,
        runtime: Runtime,
        ends: u64,
    }

    /// `threads` threads that run tasks a quantum at a time, by the rule that the epoch callback follows.
    struct Simulation {
        queue: FairQueue<usize>,
        kinds: Vec<Kind>,
        tasks: Vec<Task>,
        running: Vec<Option<Turn>>,
        now: u64,
    }

    impl Simulation {
        fn new(threads: usize, kinds: &[Kind]) -> Self {
            let mut simulation = Self {
                queue: FairQueue::new(threads),
                kinds: Vec::new(),
                tasks: Vec::new(),
                running: vec![None; threads],
                now: 0,
            };
            kinds.iter().for_each(|kind| simulation.add(*kind));
            simulation
        }

        fn add(&mut self, kind: Kind) {
            let until_nap = match kind {
                Kind::Busy => 0,
                Kind::Naps { computes, .. } => computes,
            };
            self.kinds.push(kind);
            let number = self.tasks.len();
            self.tasks.push(Task { until_nap, woke: self.now, ..Task::default() });
            // Outside of a simulation tasks are anywhere within a quantum, too.
            self.queue.push(number as Runtime * 25_037, number);
        }

        fn quantum(&mut self) {
            self.now += 1;
            for (number, task) in self.tasks.iter_mut().enumerate() {
                if task.asleep && task.wakes <= self.now {
                    task.asleep = false;
                    task.woke = self.now;
                    self.queue.push(task.runtime, number);
                }
            }
            for thread in 0..self.running.len() {
                let mut left = QUANTUM;
                while left > 0 {
                    let Some(mut turn) = self.running[thread].or_else(|| self.begin(thread)) else { break };
                    let task = &mut self.tasks[turn.task];
                    let uses = match self.kinds[turn.task] {
                        Kind::Busy => left,
                        Kind::Naps { .. } => left.min(task.until_nap),
                    };
                    left -= uses;
                    task.used += uses;
                    turn.runtime += uses;
                    task.runtime = turn.runtime;
                    self.running[thread] = Some(turn);
                    if let Kind::Naps { computes, sleeps } = self.kinds[turn.task] {
                        task.until_nap -= uses;
                        if task.until_nap == 0 {
                            (task.asleep, task.wakes, task.until_nap) = (true, self.now + sleeps, computes);
                            self.end(thread, turn);
                            continue;
                        }
                    }
                    // The tick of the epoch.
                    let somebody_waits = self.queue.least_waiting().is_some_and(|least| least < turn.runtime);
                    if left == 0 && (somebody_waits || turn.ends <= self.now) {
                        task.woke = self.now;
                        self.queue.push(turn.runtime, turn.task);
                        self.end(thread, turn);
                    }
                }
            }
        }

        fn begin(&mut self, thread: usize) -> Option<Turn> {
            let (runtime, number) = self.queue.begin(thread)?;
            let task = &mut self.tasks[number];
            task.waited = task.waited.max(self.now - task.woke);
            Some(Turn { task: number, runtime, ends: self.now + MAX_SLICE })
        }

        fn end(&mut self, thread: usize, turn: Turn) {
            self.running[thread] = None;
            self.queue.end(thread, turn.runtime);
        }

        fn run(&mut self, quanta: u64) {
            (0..quanta).for_each(|_| self.quantum());
        }

        fn used(&self, range: std::ops::Range<usize>) -> (Runtime, Runtime) {
            let used = || self.tasks[range.clone()].iter().map(|task| task.used);
            (used().min().unwrap(), used().max().unwrap())
        }
    }

    #[test]
    fn three_busy_tasks_share_two_threads_evenly() {
        let mut simulation = Simulation::new(2, &[Kind::Busy; 3]);
        simulation.run(20_000);
        let (least, most) = simulation.used(0..3);
        assert!(most - least <= 2 * QUANTUM, "{least} {most}");
    }

    #[test]
    fn who_comes_late_gets_an_even_share_from_then_on() {
        let mut simulation = Simulation::new(1, &[Kind::Busy]);
        simulation.run(10_000);
        simulation.add(Kind::Busy);
        simulation.run(10_000);
        let late = simulation.tasks[1].used;
        assert!(late.abs_diff(5_000 * QUANTUM) <= MAX_SLICE * QUANTUM, "{late}");
    }

    #[test]
    fn a_task_that_slept_long_has_no_turns_in_store() {
        let sleeper = Kind::Naps { computes: 100 * QUANTUM, sleeps: 10_000 };
        let mut simulation = Simulation::new(1, &[Kind::Busy, sleeper]);
        // The sleeper computes 100 quanta, sleeps 10,000, and computes again.
        simulation.run(10_200);
        let before = simulation.tasks[0].used;
        simulation.run(100);
        let meanwhile = simulation.tasks[0].used - before;
        assert!(meanwhile >= 45 * QUANTUM, "the busy task got {meanwhile} ns of 100 quanta");
    }

    #[test]
    fn newcomers_without_end_starve_nobody() {
        let mut simulation = Simulation::new(1, &[Kind::Busy]);
        for _ in 0..1_000 {
            // Each computes one quantum, and two come in every two quanta.
            simulation.add(Kind::Naps { computes: QUANTUM, sleeps: u64::MAX / 2 });
            simulation.run(2);
        }
        let used = simulation.tasks[0].used;
        assert!(used >= 990 * QUANTUM, "{used}");
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Busy),
            (1..QUANTUM / 20, 1_u64..50).prop_map(|(computes, sleeps)| Kind::Naps { computes, sleeps }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Whatever runs beside them: busy tasks have even shares, and a task that wakes gets its turn at the next tick or the one after.
        #[test]
        fn shares_are_even_and_sleepers_are_served(
            threads in 1_usize..5,
            kinds in prop::collection::vec(kind(), 1..40),
        ) {
            let mut simulation = Simulation::new(threads, &kinds);
            // Everybody came at once, which is the only time that so many are equal.
            simulation.run(100);
            simulation.tasks.iter_mut().for_each(|task| (task.used, task.waited) = (0, 0));
            simulation.run(2_000);
            let used = |wanted: fn(&Kind) -> bool| {
                let of = simulation.kinds.iter().zip(&simulation.tasks).filter(|(kind, _)| wanted(kind));
                of.map(|(_, task)| task.used).collect::<BTreeSet<_>>()
            };
            let busy = used(|kind| matches!(kind, Kind::Busy));
            if let (Some(least), Some(most)) = (busy.first(), busy.last()) {
                // Where each busy task has a thread of its own, there is nothing to share. Turns of up to MAX_SLICE lie across the ends of the time.
                let is_shared = kinds.iter().filter(|kind| matches!(kind, Kind::Busy)).count() > threads;
                prop_assert!(!is_shared || most - least <= (MAX_SLICE + 4) * QUANTUM, "{least} {most}");
            }
            let share = QUANTUM * threads as Runtime / kinds.len() as Runtime;
            for (kind, task) in simulation.kinds.iter().zip(&simulation.tasks) {
                // Who wants less than a quarter of its share waits for the tick, and for those who woke before.
                if matches!(kind, Kind::Naps { computes, sleeps } if computes * 4 < share * sleeps) {
                    prop_assert!(task.waited <= 2, "{kind:?} waited for {} quanta", task.waited);
                }
            }
        }
    }
}

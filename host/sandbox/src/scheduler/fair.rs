//! Fair order of tasks by the CPU time that each has used. Uses no threads and no clocks, so tests are exact.

use std::collections::BTreeMap;

/// Nanoseconds of CPU time, as the queue counts them for one task (a *virtual runtime*, as in Linux's fair
/// scheduler): the time that the task used, plus the amount by which it was moved forward after it had waited for
/// something other than its turn.
pub(super) type VirtualRuntime = u64;

/// Tasks that wait for a thread. The task with the least runtime goes first; among equals, the one that has waited
/// longest.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    waiting: BTreeMap<(VirtualRuntime, u64), T>,
    /// Runtime of each thread's current task at the beginning of its turn.
    running: Vec<Option<VirtualRuntime>>,
    /// The least runtime of all runnable tasks; never decreases. A task that arrives or wakes starts here, so it is not
    /// charged for the time before it arrived, and cannot save up turns while it sleeps.
    min_runtime: VirtualRuntime,
    push_count: u64,
}

impl<T> FairQueue<T> {
    pub(super) fn new(threads: usize) -> Self {
        Self { waiting: BTreeMap::new(), running: vec![None; threads], min_runtime: 0, push_count: 0 }
    }

    /// Adds a task that has used `runtime` so far.
    pub(super) fn push(&mut self, runtime: VirtualRuntime, task: T) {
        self.push_count += 1;
        self.waiting.insert((runtime.max(self.min_runtime), self.push_count), task);
    }

    /// Returns the task with the next turn and its runtime, and assigns it to a thread. The turn ends with
    /// [`end_turn`](Self::end_turn).
    pub(super) fn start_turn(&mut self, thread: usize) -> Option<(VirtualRuntime, T)> {
        let ((runtime, _), task) = self.waiting.pop_first()?;
        self.set_running(thread, Some(runtime));
        Some((runtime, task))
    }

    /// Ends the turn of a thread whose task now has the runtime `runtime`. A runnable task must have been pushed again
    /// before.
    pub(super) fn end_turn(&mut self, thread: usize, runtime: VirtualRuntime) {
        self.set_running(thread, None);
        let running = self.running.iter().flatten().min().copied();
        let least = [running, self.min_waiting_runtime()].into_iter().flatten().fold(runtime, VirtualRuntime::min);
        self.min_runtime = self.min_runtime.max(least);
    }

    /// Returns the runtime of the task with the next turn.
    pub(super) fn min_waiting_runtime(&self) -> Option<VirtualRuntime> {
        self.waiting.first_key_value().map(|((runtime, _), _)| *runtime)
    }

    fn set_running(&mut self, thread: usize, runtime: Option<VirtualRuntime>) {
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

    /// Nanoseconds after which a running task checks whether another one should continue.
    const QUANTUM: VirtualRuntime = 1_000_000;
    /// Quanta after which a turn ends although no task waits.
    const MAX_SLICE: u64 = 8;

    /// A task of the simulation.
    #[derive(Debug, Clone, Copy)]
    enum TaskKind {
        /// Computes endlessly.
        Busy,
        /// Computes for that many nanoseconds, then sleeps for that many quanta, repeatedly.
        Sleeper { computes: VirtualRuntime, sleeps: u64 },
    }

    #[derive(Debug, Clone, Copy, Default)]
    struct SimulatedTask {
        runtime: VirtualRuntime,
        /// CPU time used.
        used: VirtualRuntime,
        /// Quantum in which the task wakes.
        wakes: u64,
        asleep: bool,
        /// Nanoseconds until the task sleeps.
        until_nap: VirtualRuntime,
        /// Maximum number of quanta that the task waited for its turn after waking.
        waited: u64,
        woke: u64,
    }

    #[derive(Debug, Clone, Copy)]
    struct SimulatedTurn {
        task: usize,
        runtime: VirtualRuntime,
        ends: u64,
    }

    /// `threads` threads that run tasks a quantum at a time, by the rule that the epoch callback follows.
    struct Simulation {
        queue: FairQueue<usize>,
        kinds: Vec<TaskKind>,
        tasks: Vec<SimulatedTask>,
        running: Vec<Option<SimulatedTurn>>,
        now: u64,
    }

    impl Simulation {
        fn new(threads: usize, kinds: &[TaskKind]) -> Self {
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

        fn add(&mut self, kind: TaskKind) {
            let until_nap = match kind {
                TaskKind::Busy => 0,
                TaskKind::Sleeper { computes, .. } => computes,
            };
            self.kinds.push(kind);
            let number = self.tasks.len();
            self.tasks.push(SimulatedTask { until_nap, woke: self.now, ..SimulatedTask::default() });
            // In reality, too, tasks are anywhere within a quantum.
            self.queue.push(number as VirtualRuntime * 25_037, number);
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
                let mut remaining = QUANTUM;
                while remaining > 0 {
                    let Some(mut turn) = self.running[thread].or_else(|| self.begin(thread)) else { break };
                    let task = &mut self.tasks[turn.task];
                    let uses = match self.kinds[turn.task] {
                        TaskKind::Busy => remaining,
                        TaskKind::Sleeper { .. } => remaining.min(task.until_nap),
                    };
                    remaining -= uses;
                    task.used += uses;
                    turn.runtime += uses;
                    task.runtime = turn.runtime;
                    self.running[thread] = Some(turn);
                    if let TaskKind::Sleeper { computes, sleeps } = self.kinds[turn.task] {
                        task.until_nap -= uses;
                        if task.until_nap == 0 {
                            (task.asleep, task.wakes, task.until_nap) = (true, self.now + sleeps, computes);
                            self.end(thread, turn);
                            continue;
                        }
                    }
                    // The tick of the epoch.
                    let is_contended = self.queue.min_waiting_runtime().is_some_and(|least| least < turn.runtime);
                    if remaining == 0 && (is_contended || turn.ends <= self.now) {
                        task.woke = self.now;
                        self.queue.push(turn.runtime, turn.task);
                        self.end(thread, turn);
                    }
                }
            }
        }

        fn begin(&mut self, thread: usize) -> Option<SimulatedTurn> {
            let (runtime, number) = self.queue.start_turn(thread)?;
            let task = &mut self.tasks[number];
            task.waited = task.waited.max(self.now - task.woke);
            Some(SimulatedTurn { task: number, runtime, ends: self.now + MAX_SLICE })
        }

        fn end(&mut self, thread: usize, turn: SimulatedTurn) {
            self.running[thread] = None;
            self.queue.end_turn(thread, turn.runtime);
        }

        fn run(&mut self, quanta: u64) {
            (0..quanta).for_each(|_| self.quantum());
        }

        fn used(&self, range: std::ops::Range<usize>) -> (VirtualRuntime, VirtualRuntime) {
            let used = || self.tasks[range.clone()].iter().map(|task| task.used);
            (used().min().unwrap(), used().max().unwrap())
        }
    }

    #[test]
    fn three_busy_tasks_share_two_threads_evenly() {
        let mut simulation = Simulation::new(2, &[TaskKind::Busy; 3]);
        simulation.run(20_000);
        let (min, max) = simulation.used(0..3);
        assert!(max - min <= 2 * QUANTUM, "{min} {max}");
    }

    #[test]
    fn a_late_task_gets_an_even_share_from_then_on() {
        let mut simulation = Simulation::new(1, &[TaskKind::Busy]);
        simulation.run(10_000);
        simulation.add(TaskKind::Busy);
        simulation.run(10_000);
        let late = simulation.tasks[1].used;
        assert!(late.abs_diff(5_000 * QUANTUM) <= MAX_SLICE * QUANTUM, "{late}");
    }

    #[test]
    fn a_task_that_slept_long_has_no_credit() {
        let sleeper = TaskKind::Sleeper { computes: 100 * QUANTUM, sleeps: 10_000 };
        let mut simulation = Simulation::new(1, &[TaskKind::Busy, sleeper]);
        // The sleeper computes 100 quanta, sleeps 10,000, and computes again.
        simulation.run(10_200);
        let before = simulation.tasks[0].used;
        simulation.run(100);
        let meanwhile = simulation.tasks[0].used - before;
        assert!(meanwhile >= 45 * QUANTUM, "the busy task got {meanwhile} ns of 100 quanta");
    }

    #[test]
    fn endless_newcomers_starve_no_task() {
        let mut simulation = Simulation::new(1, &[TaskKind::Busy]);
        for _ in 0..1_000 {
            // Each computes one quantum, and two come in every two quanta.
            simulation.add(TaskKind::Sleeper { computes: QUANTUM, sleeps: u64::MAX / 2 });
            simulation.run(2);
        }
        let used = simulation.tasks[0].used;
        assert!(used >= 990 * QUANTUM, "{used}");
    }

    fn kind() -> impl Strategy<Value = TaskKind> {
        prop_oneof![
            Just(TaskKind::Busy),
            (1..QUANTUM / 20, 1_u64..50).prop_map(|(computes, sleeps)| TaskKind::Sleeper { computes, sleeps }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// In any mix, busy tasks have equal shares, and a task that wakes gets its turn at the next tick or the one
        /// after.
        #[test]
        fn shares_are_even_and_sleepers_are_served(
            threads in 1_usize..5,
            kinds in prop::collection::vec(kind(), 1..40),
        ) {
            let mut simulation = Simulation::new(threads, &kinds);
            // All tasks arrived at once, which is the only time that so many are equal.
            simulation.run(100);
            simulation.tasks.iter_mut().for_each(|task| (task.used, task.waited) = (0, 0));
            simulation.run(2_000);
            let used = |matches_kind: fn(&TaskKind) -> bool| {
                let tasks = simulation.kinds.iter().zip(&simulation.tasks).filter(|(kind, _)| matches_kind(kind));
                tasks.map(|(_, task)| task.used).collect::<BTreeSet<_>>()
            };
            let busy = used(|kind| matches!(kind, TaskKind::Busy));
            if let (Some(min), Some(max)) = (busy.first(), busy.last()) {
                // If each busy task has its own thread, there is nothing to share. Turns of up to MAX_SLICE extend
                // across the ends of the measured time.
                let is_shared = kinds.iter().filter(|kind| matches!(kind, TaskKind::Busy)).count() > threads;
                prop_assert!(!is_shared || max - min <= (MAX_SLICE + 4) * QUANTUM, "{min} {max}");
            }
            let share = QUANTUM * threads as VirtualRuntime / kinds.len() as VirtualRuntime;
            for (kind, task) in simulation.kinds.iter().zip(&simulation.tasks) {
                // A task that uses less than a quarter of its share waits for the tick, and for the tasks that woke
                // before it.
                if matches!(kind, TaskKind::Sleeper { computes, sleeps } if computes * 4 < share * sleeps) {
                    prop_assert!(task.waited <= 2, "{kind:?} waited for {} quanta", task.waited);
                }
            }
        }
    }
}

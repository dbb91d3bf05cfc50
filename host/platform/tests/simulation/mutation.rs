//! Faults put in on purpose, to see that the simulation finds them: `KONNECTOR_SIM_MUTATION=answer-before-barrier`, and so on.

use std::sync::LazyLock;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Commits answer before they are durable.
    AnswerBeforeBarrier,
    /// What a run writes does not name its lease.
    NoFence,
    /// The store does not see that a lock is held.
    NoLock,
    /// The store does not see that a permit is held.
    NoPermit,
}

static CHOSEN: LazyLock<Option<Mutation>> = LazyLock::new(|| {
    let name = std::env::var("KONNECTOR_SIM_MUTATION").ok()?;
    Some(match name.as_str() {
        "answer-before-barrier" => Mutation::AnswerBeforeBarrier,
        "no-fence" => Mutation::NoFence,
        "no-lock" => Mutation::NoLock,
        "no-permit" => Mutation::NoPermit,
        other => panic!("there is no mutation '{other}'"),
    })
});

pub fn is_active(mutation: Mutation) -> bool {
    *CHOSEN == Some(mutation)
}

/// Whether an entry of the store is not to be seen: locks are `01 <instance 16> 'k' …`, places of permits `02 's' …`.
pub fn is_hidden(key: &[u8]) -> bool {
    match *CHOSEN {
        Some(Mutation::NoLock) => key.first() == Some(&1) && key.get(17) == Some(&b'k'),
        Some(Mutation::NoPermit) => key.starts_with(&[2, b's']),
        _ => false,
    }
}

//! The commands of konnector authors; none of them needs a server.

pub mod build;
pub mod check;
pub mod new;
pub mod pack;
pub mod run;

mod bundle;

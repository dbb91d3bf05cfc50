//! The commands of konnector authors; none needs a server.

pub mod build;
pub mod check;
pub mod new;
pub mod pack;
pub mod run;

mod bundle;

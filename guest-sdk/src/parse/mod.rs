//! Values as vendors write them. A value that cannot be parsed with certainty is [`crate::Error::VendorChanged`]
//! including the text, never a guess.

mod amount;
mod date;
mod time;
mod words;

pub use amount::{Amount, Currency, amount, amount_in};
pub use date::{date, date_with_format, month};

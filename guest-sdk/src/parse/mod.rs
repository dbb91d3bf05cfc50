//! Values as vendors write them. What cannot be read for certain is [`crate::Error::VendorChanged`] with the text in it, never a guess.

mod amount;
mod date;
mod time;
mod words;

pub use amount::{Amount, Currency, amount, amount_in};
pub use date::{date, date_with_format, month};

//! Pages, and what CSS selectors find in them.
//!
//! What a konnector cannot do without (`one`, `text`, `attr`, `link`, `form`) is a failure when it is missing, and the failure names the
//! selector and the page. What may be missing ends in `_opt`.

mod element;
mod form;
mod page;
mod select;

pub use element::Element;
pub use form::Form;
pub use page::Page;
pub use select::Select;

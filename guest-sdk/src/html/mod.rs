//! Pages, and queries on them with CSS selectors.
//!
//! Methods for required elements (`select_one`, `text`, `attr`, `link`, `form`) fail if the element is missing, and
//! the failure names the selector and the page. Methods for optional elements end in `_opt`.

mod element;
mod form;
mod page;
mod select;

pub use element::Element;
pub use form::Form;
pub use page::Page;
pub use select::Select;

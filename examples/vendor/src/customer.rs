//! The bank's only customer, as on her profile page and her bills.

use serde::Serialize;

/// The customer's personal data. The accents are intended, because the profile page is in ISO-8859-1.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Customer {
    /// First name.
    pub given_name: &'static str,
    /// Last name.
    pub family_name: &'static str,
    /// Street and number.
    pub street: &'static str,
    /// Postal code.
    pub postcode: &'static str,
    /// Town.
    pub city: &'static str,
    /// E-mail address, in a domain that no one can own (RFC 2606).
    pub email: &'static str,
    /// Telephone number, from the range that France reserves for fiction.
    pub phone: &'static str,
}

/// The customer.
pub const CUSTOMER: Customer = Customer {
    given_name: "Ada",
    family_name: "Lovelace-Noël",
    street: "3 allée des Érables",
    postcode: "69003",
    city: "Lyon",
    email: "ada@bank101.example",
    phone: "+33 6 39 98 12 34",
};

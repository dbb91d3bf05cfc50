//! The vendor as its visitors see it: over HTTP, with cookies and forms.

#![cfg(test)]

mod bills;
mod browser;
mod control;
mod login;
mod pages;

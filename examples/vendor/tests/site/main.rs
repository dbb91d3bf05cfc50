//! The vendor from its visitors' point of view: over HTTP, with cookies and forms.

#![cfg(test)]

mod bills;
mod browser;
mod control;
mod login;
mod pages;

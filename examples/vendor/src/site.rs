//! The state of the site and the logic of the login, without HTTP.

use crate::counters::Counters;
use crate::ledger::BillLedger;
use crate::options::VendorOptions;
use crate::session::{LoginStage, Session, SessionToken, Sessions, new_code};
use crate::switches::Switches;

/// Wrong one-time codes after which the visitor must log in with the password again.
const MAX_CODE_ATTEMPTS: u32 = 3;

/// The whole state of the vendor.
#[derive(Debug)]
pub struct BankSite {
    pub(crate) switches: Switches,
    pub(crate) ledger: BillLedger,
    pub(crate) sessions: Sessions,
    pub(crate) counters: Counters,
    options: VendorOptions,
    consecutive_failures: u32,
}

/// Result of a login form.
#[derive(Debug, PartialEq, Eq)]
pub enum Login {
    /// The CSRF token is not the one of this session.
    InvalidCsrfToken,
    /// The account is locked; login and password were not checked.
    Locked,
    /// Wrong login or password.
    WrongPassword,
    /// Right login and password; this new session requires a one-time code.
    CodeNeeded(SessionToken),
    /// Right login and password: logged in with this new session.
    Done(SessionToken),
}

/// Result of a one-time code.
#[derive(Debug, PartialEq, Eq)]
pub enum CodeCheck {
    /// The CSRF token is not the one of this session.
    InvalidCsrfToken,
    /// No code was required, or too many were wrong, so the login starts again.
    LoginRequired,
    /// Wrong; another attempt is allowed.
    WrongCode,
    /// Right: logged in with this new session.
    Done(SessionToken),
}

impl BankSite {
    pub(crate) fn new(options: VendorOptions) -> Self {
        Self {
            switches: options.switches.clone(),
            ledger: BillLedger::new(options.bills),
            sessions: Sessions::default(),
            counters: Counters::default(),
            options,
            consecutive_failures: 0,
        }
    }

    /// Resets everything to its initial state: switches, bills, counters; no sessions, not locked.
    pub fn reset(&mut self) {
        *self = Self::new(self.options.clone());
    }

    /// Sets all switches. A new password unlocks the account.
    pub fn set(&mut self, switches: Switches) {
        if switches.password != self.switches.password {
            self.consecutive_failures = 0;
        }
        self.switches = switches;
    }

    /// Returns whether there were too many wrong passwords.
    pub fn is_locked(&self) -> bool {
        self.switches.locked_after.is_some_and(|limit| self.consecutive_failures >= limit.get())
    }

    /// Returns the session of a token, with its token.
    pub fn session(&self, token: SessionToken) -> Option<(SessionToken, Session)> {
        let session = self.sessions.get(&token)?.clone();
        Some((token, session))
    }

    /// Checks a login form sent in the session of `token`.
    pub fn log_in(&mut self, token: Option<&SessionToken>, csrf: &str, login: &str, password: &str) -> Login {
        let Some(token) = token.filter(|token| self.accepts_form(token, csrf)) else {
            self.counters.forged += 1;
            return Login::InvalidCsrfToken;
        };
        if self.is_locked() {
            self.counters.login_attempts_locked += 1;
            return Login::Locked;
        }
        if login != self.options.login || password != self.switches.password {
            self.counters.login_attempts_wrong += 1;
            self.consecutive_failures += 1;
            return if self.is_locked() { Login::Locked } else { Login::WrongPassword };
        }
        self.consecutive_failures = 0;
        self.sessions.end(token);
        if self.switches.otp {
            let (token, _) = self.sessions.open(LoginStage::AwaitingCode { code: new_code(), wrong: 0 });
            Login::CodeNeeded(token)
        } else {
            Login::Done(self.sign_in())
        }
    }

    /// Checks a one-time code sent in the session of `token`.
    pub fn check_code(&mut self, token: Option<&SessionToken>, csrf: &str, entered: &str) -> CodeCheck {
        let Some(token) = token.filter(|token| self.accepts_form(token, csrf)) else {
            self.counters.forged += 1;
            return CodeCheck::InvalidCsrfToken;
        };
        let Some(Session { stage: LoginStage::AwaitingCode { code, wrong }, .. }) = self.sessions.get_mut(token) else {
            return CodeCheck::LoginRequired;
        };
        if code == entered.trim() {
            self.sessions.end(token);
            return CodeCheck::Done(self.sign_in());
        }
        *wrong += 1;
        let another_try = *wrong < MAX_CODE_ATTEMPTS;
        self.counters.codes_wrong += 1;
        if another_try {
            return CodeCheck::WrongCode;
        }
        self.sessions.end(token);
        CodeCheck::LoginRequired
    }

    /// Ends the session of `token`; returns false if the CSRF token does not match.
    pub fn log_out(&mut self, token: &SessionToken, csrf: &str) -> bool {
        let accepted = self.accepts_form(token, csrf);
        if accepted {
            self.sessions.end(token);
        } else {
            self.counters.forged += 1;
        }
        accepted
    }

    fn accepts_form(&self, token: &SessionToken, csrf: &str) -> bool {
        self.sessions.get(token).is_some_and(|session| session.csrf == csrf)
    }

    fn sign_in(&mut self) -> SessionToken {
        self.counters.logins += 1;
        self.sessions.open(LoginStage::SignedIn).0
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn site(change: impl FnOnce(&mut Switches)) -> BankSite {
        let mut options = VendorOptions::default();
        change(&mut options.switches);
        BankSite::new(options)
    }

    fn visit(site: &mut BankSite) -> (SessionToken, String) {
        let (token, session) = site.sessions.open(LoginStage::Anonymous);
        let csrf = session.csrf.clone();
        (token, csrf)
    }

    fn try_password(site: &mut BankSite, password: &str) -> Login {
        let (token, csrf) = visit(site);
        site.log_in(Some(&token), &csrf, "ada", password)
    }

    #[test]
    fn a_login_ends_the_session_it_began_in() {
        let mut site = site(|_| {});
        let (before, csrf) = visit(&mut site);
        let Login::Done(after) = site.log_in(Some(&before), &csrf, "ada", "correct horse") else { panic!("logged in") };
        assert_ne!(before, after);
        assert!(site.sessions.get(&before).is_none());
        assert_eq!(site.sessions.get(&after).unwrap().stage, LoginStage::SignedIn);
        assert_eq!(site.counters.logins, 1);
    }

    #[test]
    fn the_csrf_token_of_another_session_is_rejected() {
        let mut site = site(|_| {});
        let (token, _) = visit(&mut site);
        let (_, other) = visit(&mut site);
        assert_eq!(site.log_in(Some(&token), &other, "ada", "correct horse"), Login::InvalidCsrfToken);
        assert_eq!(site.log_in(None, &other, "ada", "correct horse"), Login::InvalidCsrfToken);
        assert_eq!((site.counters.forged, site.counters.login_attempts_wrong), (2, 0));
    }

    #[test]
    fn the_account_locks_and_a_new_password_unlocks_it() {
        let mut site = site(|switches| switches.locked_after = NonZeroU32::new(2));
        assert_eq!(try_password(&mut site, "wrong"), Login::WrongPassword);
        assert_eq!(try_password(&mut site, "wrong"), Login::Locked);
        assert_eq!(try_password(&mut site, "correct horse"), Login::Locked);
        assert_eq!((site.counters.login_attempts_wrong, site.counters.login_attempts_locked), (2, 1));
        site.set(Switches { password: "battery staple".into(), ..site.switches.clone() });
        assert!(matches!(try_password(&mut site, "battery staple"), Login::Done(_)));
    }

    #[test]
    fn a_right_password_forgets_the_wrong_ones() {
        let mut site = site(|switches| switches.locked_after = NonZeroU32::new(2));
        assert_eq!(try_password(&mut site, "wrong"), Login::WrongPassword);
        assert!(matches!(try_password(&mut site, "correct horse"), Login::Done(_)));
        assert_eq!(try_password(&mut site, "wrong"), Login::WrongPassword);
    }

    #[test]
    fn a_code_is_asked_for_three_times_at_most() {
        let mut site = site(|switches| switches.otp = true);
        let Login::CodeNeeded(token) = try_password(&mut site, "correct horse") else { panic!("code asked for") };
        let csrf = site.sessions.get(&token).unwrap().csrf.clone();
        let code = site.sessions.pending_code().unwrap();
        assert_eq!(site.check_code(Some(&token), "other", &code), CodeCheck::InvalidCsrfToken);
        assert_eq!(site.check_code(Some(&token), &csrf, "not it"), CodeCheck::WrongCode);
        assert_eq!(site.check_code(Some(&token), &csrf, "not it"), CodeCheck::WrongCode);
        assert_eq!(site.check_code(Some(&token), &csrf, "not it"), CodeCheck::LoginRequired);
        assert_eq!(site.sessions.pending_code(), None);
        assert_eq!(site.counters.logins, 0);
    }

    #[test]
    fn a_password_page_takes_no_code() {
        let mut site = site(|switches| switches.otp = true);
        let (token, csrf) = visit(&mut site);
        assert_eq!(site.check_code(Some(&token), &csrf, ""), CodeCheck::LoginRequired);
    }
}

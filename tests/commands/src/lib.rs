//! Command components for the tests of the sandbox. Each example does what the parameters of its manifest tell it.

use serde_json::Value;

/// The manifest's parameters, with the token where they say `$COZY_CREDENTIALS`.
///
/// # Panics
/// The environment does not hold them.
pub fn parameters() -> Value {
    let text = std::env::var("COZY_PARAMETERS").expect("COZY_PARAMETERS");
    let credentials = std::env::var("COZY_CREDENTIALS").unwrap_or_default();
    serde_json::from_str(&text.replace("$COZY_CREDENTIALS", &credentials)).expect("JSON")
}

/// Says something that goes to the log.
pub fn print_message(message: impl AsRef<str>) {
    println!("{}", serde_json::json!({ "type": "info", "message": message.as_ref() }));
}

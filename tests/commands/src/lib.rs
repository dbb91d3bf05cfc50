//! Command components for the tests of the sandbox. Each example is controlled by the parameters of its manifest.

use serde_json::Value;

/// The manifest's parameters, with the token in place of `$COZY_CREDENTIALS`.
///
/// # Panics
/// If the environment does not contain them.
pub fn parameters() -> Value {
    let text = std::env::var("COZY_PARAMETERS").expect("COZY_PARAMETERS");
    let credentials = std::env::var("COZY_CREDENTIALS").unwrap_or_default();
    serde_json::from_str(&text.replace("$COZY_CREDENTIALS", &credentials)).expect("JSON")
}

/// Prints a message that is written to the log.
pub fn print_message(message: impl AsRef<str>) {
    println!("{}", serde_json::json!({ "type": "info", "message": message.as_ref() }));
}

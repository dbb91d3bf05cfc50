//! Tells everything that it finds in its environment.

use test_commands::say;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    say(format!("arguments: {arguments:?}"));
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        say(format!("{name}={value}"));
    }
    if let Some(file) = std::env::var("COZY_PAYLOAD").ok().as_deref().and_then(|payload| payload.strip_prefix('@')) {
        let length = |path: &str| std::fs::read(path).map(|content| content.len()).map_err(|error| error.kind());
        say(format!("{file}: {:?}, in /tmp: {:?}", length(file), length(&format!("/tmp/{file}"))));
    }
    let mut input = String::new();
    say(format!("standard input: {:?}", std::io::stdin().read_line(&mut input)));
}

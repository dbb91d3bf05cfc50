//! Prints its whole environment.

use test_commands::print_message;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    print_message(format!("arguments: {arguments:?}"));
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        print_message(format!("{name}={value}"));
    }
    if let Some(file) = std::env::var("COZY_PAYLOAD").ok().as_deref().and_then(|payload| payload.strip_prefix('@')) {
        let length = |path: &str| std::fs::read(path).map(|content| content.len()).map_err(|error| error.kind());
        print_message(format!("{file}: {:?}, in /tmp: {:?}", length(file), length(&format!("/tmp/{file}"))));
    }
    let mut input = String::new();
    print_message(format!("standard input: {:?}", std::io::stdin().read_line(&mut input)));
}

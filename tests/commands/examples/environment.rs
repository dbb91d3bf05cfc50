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
    let mut input = String::new();
    say(format!("standard input: {:?}", std::io::stdin().read_line(&mut input)));
}

//! Where in a JSON text a field stands.

/// The line of a field, from 1, for a path such as `permissions.bills.verbs[1]`; that of the nearest field above it where the last part
/// cannot be found. Keys are looked for one below the other, which is right for all that people write.
pub fn of(text: &[u8], path: &str) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    let mut from = 0;
    let mut found = None;
    for name in path.split(['.', '[', ']']).filter(|name| !name.is_empty() && name.parse::<usize>().is_err()) {
        let key = format!("\"{name}\"");
        let Some(position) = key_position(text.get(from..)?, &key) else { break };
        found = Some(from + position);
        from += position + key.len();
    }
    found.and_then(|position| Some(text.get(..position)?.matches('\n').count() + 1))
}

/// Where the text stands as a key, that is, before a colon.
fn key_position(text: &str, key: &str) -> Option<usize> {
    text.match_indices(key)
        .map(|(position, _)| position)
        .find(|position| text.get(position + key.len()..).is_some_and(|rest| rest.trim_start().starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"{\n  \"name\": \"verbs\",\n  \"permissions\": {\n    \"bills\": { \"type\": \"x\" },\n    \"files\": {\n      \"verbs\": [\n        \"GET\"\n      ]\n    }\n  }\n}";

    #[test]
    fn a_path_leads_to_its_line() {
        for (path, line) in [
            ("name", Some(2)),
            ("permissions.files.verbs[0]", Some(6)),
            ("permissions.files.values", Some(5)),
            ("absent", None),
        ] {
            assert_eq!(of(TEXT, path), line, "{path}");
        }
    }
}

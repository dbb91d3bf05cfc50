//! Values for the fields of an account form, from the command line, standard input or a prompt.

use std::io::{BufRead as _, IsTerminal as _, stdin};

use konnector_manifest::{Field, Manifest};
use serde_json::{Map, Value};

use crate::error::{Error, Result, io};

/// Fields by name.
pub type FieldValues = Map<String, Value>;

/// Parses the values from the command line and standard input.
pub fn parse_fields(fields: &[String], password_stdin: bool) -> Result<FieldValues> {
    let mut values = Map::new();
    for field in fields {
        let (name, value) = field.split_once('=').ok_or_else(|| {
            Error::usage(
                format!("'{field}' is not a valid field: '=' is missing"),
                "write NAME=VALUE, for example --field login=ada",
            )
        })?;
        values.insert(name.trim().to_owned(), Value::String(value.to_owned()));
    }
    if password_stdin {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map_err(io("reading the password"))?;
        let password = line.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(Error::usage(
                "standard input contains no password",
                "give it as one line, or omit --password-stdin",
            ));
        }
        values.insert("password".to_owned(), Value::String(password.to_owned()));
    }
    Ok(values)
}

/// Checks the fields against the manifest's form, asks for missing passwords, and reports other missing fields.
pub fn complete(manifest: &Manifest, mut values: FieldValues) -> Result<FieldValues> {
    check_names(manifest, &values)?;
    for field in &manifest.fields {
        if field.secret && is_missing(field, &values) && stdin().is_terminal() {
            let question = format!("{}: ", field.label.as_deref().unwrap_or(&field.name));
            let answer = rpassword::prompt_password(question).map_err(io("prompting for a password"))?;
            values.insert(field.name.clone(), Value::String(answer));
        }
    }
    let missing: Vec<_> = manifest.fields.iter().filter(|field| is_missing(field, &values)).collect();
    if missing.is_empty() {
        return Ok(values);
    }
    let names: Vec<_> = missing.iter().map(|field| field.name.as_str()).collect();
    let flags: Vec<_> = missing
        .iter()
        .map(|field| {
            if field.name == "password" { "--password-stdin".to_owned() } else { format!("--field {}=…", field.name) }
        })
        .collect();
    Err(Error::usage(format!("{} requires {}", manifest.name, names.join(" and ")), format!("add {}", flags.join(" "))))
}

fn is_missing(field: &Field, values: &FieldValues) -> bool {
    field.required && !field.advanced && field.default.is_none() && !values.contains_key(&field.name)
}

/// Rejects unknown names, because a misspelt field would be stored but never used.
pub fn check_names(manifest: &Manifest, values: &FieldValues) -> Result<()> {
    let known = |name: &str| manifest.fields.iter().any(|field| field.name == name);
    let unknown = values.keys().find(|name| !manifest.fields.is_empty() && !known(name));
    unknown.map_or(Ok(()), |unknown| {
        let names: Vec<_> = manifest.fields.iter().map(|field| field.name.as_str()).collect();
        Err(Error::usage(
            format!("{} has no field '{unknown}'", manifest.name),
            format!("its fields are {}", names.join(", ")),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = br#"{"name":"Bank101","type":"konnector","version":"1.0.0","permissions":{},
            "fields":{"login":{"type":"text"},"password":{"type":"password"},"branch":{"type":"text","isRequired":false}}}"#;
        Manifest::parse(text).unwrap()
    }

    fn error_text(error: Error) -> String {
        match error {
            Error::Usage { message, advice } => format!("{message} | {advice}"),
            other => other.to_string(),
        }
    }

    #[test]
    fn a_value_may_hold_equals_signs() {
        let fields = parse_fields(&["login=a=b".to_owned()], false).unwrap();
        assert_eq!(fields.get("login").and_then(Value::as_str), Some("a=b"));
    }

    #[test]
    fn what_is_missing_or_misspelt_is_named() {
        let fields = |list: &[&str]| {
            parse_fields(&list.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>(), false).unwrap()
        };
        assert!(complete(&manifest(), fields(&["login=ada", "password=x"])).is_ok());
        let errors = [
            parse_fields(&["login".to_owned()], false).unwrap_err(),
            complete(&manifest(), fields(&["user=ada"])).unwrap_err(),
        ];
        insta::assert_snapshot!(errors.map(error_text).join("\n"), @"
        'login' is not a valid field: '=' is missing | write NAME=VALUE, for example --field login=ada
        Bank101 has no field 'user' | its fields are login, password, branch
        ");
    }
}

//! Loads the master key, which is created only once, for a new data folder.

use konnector_store::{MasterKey, key_fingerprint};

use super::config::Settings;
use crate::error::{Error, Result};
use crate::{keys, offline};

/// Loads the key file. A new key is created only if there is no data yet, because another key could not decrypt the
/// secrets in the data.
pub fn load(settings: &Settings) -> Result<MasterKey> {
    let store = settings.data_dir.store();
    if let Some(key) = MasterKey::load(&settings.key_file)? {
        keys::check_no_pending_rotation(&settings.key_file, &key)?;
        offline::check_key(&store, &key)?;
        return Ok(key);
    }
    if settings.data_dir.has_data() {
        let fingerprint = key_fingerprint(&store)?.map(|fingerprint| format!(" {fingerprint}")).unwrap_or_default();
        return Err(Error::KeyMismatch(format!(
            "{} contains data, but its key{fingerprint} does not exist at {}; restore the key file from its backup, or set its path with \
             --key-file; nothing was changed",
            store.display(),
            settings.key_file.display()
        )));
    }
    let key = MasterKey::create(&settings.key_file)?;
    tracing::info!(
        path = %settings.key_file.display(),
        "created a master key; keep a copy separate from the data, because without it no password can be decrypted"
    );
    Ok(key)
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;

    fn settings(folder: &std::path::Path) -> Settings {
        let table: Table = format!("data_dir = {:?}", folder.to_str().unwrap()).parse().unwrap();
        Settings::merge(table, &|_| None, Table::new()).unwrap()
    }

    #[test]
    fn a_key_is_made_for_new_data_only() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let fingerprint = load(&settings).unwrap().fingerprint();
        assert_eq!(load(&settings).unwrap().fingerprint(), fingerprint);

        std::fs::create_dir_all(settings.data_dir.store().join("sled")).unwrap();
        std::fs::remove_file(&settings.key_file).unwrap();
        let error = load(&settings).map(drop).unwrap_err();
        assert!(matches!(&error, Error::KeyMismatch(text) if text.contains("restore the key file")), "{error}");
        assert!(!settings.key_file.exists(), "nothing was made");
    }
}

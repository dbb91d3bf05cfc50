//! The interface `log`.

use super::Host;
use crate::bindings::konnector::host::log as wit;
use crate::capability::Level;

impl wit::Host for Host {
    async fn emit(
        &mut self,
        level: wit::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            wit::Level::Debug => Level::Debug,
            wit::Level::Info => Level::Info,
            wit::Level::Warn => Level::Warn,
            wit::Level::Error => Level::Error,
        };
        self.context.logs.write_message(level, &message, fields).await;
        Ok(())
    }
}

//! The interface `account`.

use super::{Host, HostResult, parse_json, to_host_result};
use crate::bindings::konnector::host::account as wit;
use crate::capability::CapabilityError;

/// Maximum size of a konnector's state in bytes.
const MAX_STATE: u64 = 64 << 10;

impl wit::Host for Host {
    fn describe(&mut self) -> wasmtime::Result<Option<wit::Info>> {
        Ok(self.context.capabilities.account.describe().map(|info| wit::Info {
            id: info.id,
            konnector: info.konnector,
            name: info.name,
            identifier: info.identifier,
        }))
    }

    fn fields(&mut self) -> wasmtime::Result<String> {
        Ok(serde_json::to_string(&self.context.capabilities.account.fields())?)
    }

    async fn load_state(&mut self) -> HostResult<Option<String>> {
        let state = self.context.unless_cancelled(self.context.capabilities.account.load_state()).await;
        to_host_result(state.map(|state| state.map(|state| state.to_string())))
    }

    async fn save_state(&mut self, state: String) -> HostResult<()> {
        let saved = async {
            if state.len() as u64 > MAX_STATE {
                return Err(CapabilityError::TooLarge(MAX_STATE));
            }
            self.context.capabilities.account.save_state(parse_json("state", &state)?).await
        };
        to_host_result(self.context.unless_cancelled(saved).await)
    }
}

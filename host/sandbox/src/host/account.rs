//! The interface `account`.

use super::{Answer, Host, answer, json};
use crate::bindings::konnector::host::account as wit;
use crate::capability::Error;

/// Bytes of the state that a konnector may keep.
const STATE: u64 = 64 << 10;

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

    async fn load_state(&mut self) -> Answer<Option<String>> {
        let state = self.context.unless_cancelled(self.context.capabilities.account.load_state()).await;
        answer(state.map(|state| state.map(|state| state.to_string())))
    }

    async fn save_state(&mut self, state: String) -> Answer<()> {
        let saved = async {
            if state.len() as u64 > STATE {
                return Err(Error::TooLarge(STATE));
            }
            self.context.capabilities.account.save_state(json("state", &state)?).await
        };
        answer(self.context.unless_cancelled(saved).await)
    }
}

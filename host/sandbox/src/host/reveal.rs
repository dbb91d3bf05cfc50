//! The interface `reveal`.

use super::{Host, HostResult, secrets::missing_secret, to_host_result};
use crate::bindings::konnector::host::reveal as wit;

impl wit::Host for Host {
    fn reveal(&mut self, name: String) -> HostResult<String> {
        let value = self.context.secrets().reveal(&name);
        if value.is_some() {
            self.context.meter.secrets_revealed.add(1);
        }
        to_host_result(value.map(|value| value.expose().to_owned()).ok_or_else(|| missing_secret(&name)))
    }
}

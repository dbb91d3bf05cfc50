//! The interface `reveal`.

use super::{Answer, Host, answer, secrets::missing};
use crate::bindings::konnector::host::reveal as wit;

impl wit::Host for Host {
    fn reveal(&mut self, name: String) -> Answer<String> {
        let value = self.context.secrets().reveal(&name);
        if value.is_some() {
            self.context.meter.secrets_revealed.add(1);
        }
        answer(value.map(|value| value.expose().to_owned()).ok_or_else(|| missing(&name)))
    }
}

//! The interface `secrets`.

use super::{Host, HostResult, to_host_result};
use crate::bindings::konnector::host::secrets as wit;
use crate::capability::{CapabilityError, QuotaKind};

/// Maximum size of a secret's value in bytes; the longest tokens in use have a few KiB.
const MAX_SECRET_VALUE: u64 = 16 << 10;
/// Maximum total weight of all values of a run
/// ([`SecretTable::scan_cost`](konnector_egress::SecretTable::scan_cost)). The search for a dozen forms of each value
/// takes about a hundred times its size.
const MAX_SECRETS_WEIGHT: usize = 64 << 10;
/// Maximum size of a secret's name in bytes.
const MAX_SECRET_NAME: u64 = 128;

impl wit::Host for Host {
    fn names(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.context.secrets().names())
    }

    fn placeholder(&mut self, name: String) -> HostResult<String> {
        to_host_result(self.context.secrets().placeholder(&name).ok_or_else(|| missing_secret(&name)))
    }

    async fn put(&mut self, name: String, value: String) -> HostResult<()> {
        let put = async {
            if name.is_empty() || name.len() as u64 > MAX_SECRET_NAME {
                return Err(CapabilityError::Invalid(format!(
                    "name: expected 1 to {MAX_SECRET_NAME} bytes, got {}",
                    name.len()
                )));
            }
            if value.len() as u64 > MAX_SECRET_VALUE {
                return Err(CapabilityError::TooLarge(MAX_SECRET_VALUE));
            }
            match self.context.secrets().find_placeholder(&value) {
                // The vendor returned the value that it received, such as an unchanged refresh token.
                Some(_) if self.context.secrets().placeholder(&name).as_ref() == Some(&value) => return Ok(()),
                // Under another name, the value could be sent to other hosts.
                Some(other) => {
                    return Err(CapabilityError::Invalid(format!(
                        "value: the new value contains the placeholder of the secret {other}"
                    )));
                }
                None => {}
            }
            self.context.capabilities.secrets.check_put(&name)?;
            if self.context.secrets().scan_cost() + value.len() > MAX_SECRETS_WEIGHT {
                return Err(CapabilityError::QuotaExceeded(QuotaKind::Secrets));
            }
            // Masked before it is stored, because from now on the value may occur in the vendor's responses.
            self.context.secrets().put(&name, &value).map_err(|error| CapabilityError::Internal(error.to_string()))?;
            self.context.capabilities.secrets.put(&name, &value).await
        };
        to_host_result(self.context.unless_cancelled(put).await)
    }
}

pub(super) fn missing_secret(name: &str) -> CapabilityError {
    CapabilityError::NotFound(format!("the account has no secret field `{name}`"))
}

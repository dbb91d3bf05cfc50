//! Gzip in archives: one or several members (RFC 1952 §2.2), possibly padded to the size of a block.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;

/// Magic bytes of gzip.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Reads the content of all members, one after the other.
pub(super) struct GzipMembers<'a> {
    /// `None` after the last one.
    member: Option<GzDecoder<&'a [u8]>>,
}

impl<'a> GzipMembers<'a> {
    /// Returns `None` if the bytes are not gzip.
    pub(super) fn detect(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(&MAGIC).then(|| Self { member: Some(GzDecoder::new(bytes)) })
    }
}

impl Read for GzipMembers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let rest = self.member.take().map(GzDecoder::into_inner).unwrap_or_default();
            let padding = rest.iter().take_while(|byte| **byte == 0).count();
            match rest.get(padding..).unwrap_or_default() {
                [] => {}
                rest if rest.starts_with(&MAGIC) => self.member = Some(GzDecoder::new(rest)),
                _ => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "more bytes follow the end of the gzip stream",
                    ));
                }
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn pack(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        GzipMembers::detect(bytes).unwrap().read_to_end(&mut content)?;
        Ok(content)
    }

    proptest! {
        #[test]
        fn all_members_are_read_and_none_that_breaks_off(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5),
            padding in 0_usize..600,
            cut in any::<prop::sample::Index>(),
        ) {
            let members: Vec<_> = parts.iter().map(|part| pack(part)).collect();
            let mut packed = members.concat();
            packed.resize(packed.len() + padding, 0);
            prop_assert_eq!(unpack(&packed).unwrap(), parts.concat());
            let last = members.last().unwrap();
            let cut = members.concat().len() - 1 - cut.index(last.len() - 2);
            prop_assert!(unpack(packed.get(..cut).unwrap()).is_err());
            packed.push(1);
            prop_assert!(unpack(&packed).is_err());
        }
    }
}

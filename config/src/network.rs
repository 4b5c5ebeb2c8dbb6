//! Ranges of addresses, as `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Bits of an address of this kind.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address as 128 bits whose first ones are the network's.
fn aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The first `bits` of 128 set.
fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or an address that stands for itself alone.
    ///
    /// # Errors
    /// What is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "is no address and no network; write 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32";
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| SHAPE)?;
        let bits = match bits {
            None => width(address),
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| SHAPE)?,
            Some(_) => return Err(SHAPE),
        };
        if bits > width(address) {
            return Err("has more bits behind its / than an address has; write at most 32, or 128 for IPv6");
        }
        Ok(Self { address, bits })
    }

    /// An address and a mask such as `255.255.255.0`.
    ///
    /// # Errors
    /// What is wrong and what to write.
    pub fn with_mask(address: IpAddr, netmask: IpAddr) -> Result<Self, &'static str> {
        if address.is_ipv4() != netmask.is_ipv4() {
            return Err("has an address and a mask of different kinds; write both as IPv4 or both as IPv6");
        }
        let ones = aligned(netmask).leading_ones();
        let bits = u8::try_from(ones).unwrap_or(128);
        if aligned(netmask) != mask(bits) {
            return Err("has a mask with gaps in it; write a mask of leading ones, as 255.255.255.0");
        }
        Ok(Self { address, bits })
    }

    /// Whether an address is one of these. An IPv4 address inside IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, address) = (self.address.to_canonical(), address.to_canonical());
        let bits = if own == self.address { self.bits } else { self.bits.saturating_sub(96) };
        own.is_ipv4() == address.is_ipv4() && (aligned(own) ^ aligned(address)) & mask(bits) == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_inside_and_who_is_not() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2"),
            ("10.1.2.3/31", "10.1.2.2", "10.1.2.4"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"),
            ("::1", "::1", "::2"),
            ("2001:db8:0:1::/64", "2001:db8:0:1:ffff::1", "2001:db8:0:2::1"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{outside} not in {network}");
        }
    }

    #[test]
    fn masks_are_prefixes() {
        let with = |address: &str, mask: &str| Network::with_mask(address.parse().unwrap(), mask.parse().unwrap());
        assert_eq!(with("10.1.0.0", "255.255.0.0"), Network::parse("10.1.0.0/16"));
        assert_eq!(with("10.1.0.0", "0.0.0.0"), Network::parse("10.1.0.0/0"));
        assert_eq!(with("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), Network::parse("::1/128"));
        assert!(with("10.1.0.0", "255.0.255.0").is_err());
        assert!(with("10.1.0.0", "ffff::").is_err());
    }

    #[test]
    fn what_is_no_network_says_what_to_write() {
        for text in ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8 ", "host", "/8"] {
            assert!(Network::parse(text).unwrap_err().contains("write"), "{text}");
        }
        assert_eq!(Network::parse("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
    }
}

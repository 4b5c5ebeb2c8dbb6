//! The `[peers]` tables.

use super::*;

/// The largest number of a peer in the file.
const LAST: u32 = 126;

impl Builder<'_> {
    pub(super) fn peers(&mut self) -> Peers {
        let own = self.given(&["peers", "id"]).map(|_| self.count(&["peers", "id"]) as u32);
        let mut peers = Peers { own: own.map_or(0, |id| id + 1), addresses: Default::default() };
        for name in self.names_under(&["peers"]) {
            let path = ["peers", name.as_str(), "address"];
            let Some(number) = name.parse::<u32>().ok().filter(|number| *number <= LAST) else {
                self.wrong(&["peers", &name], &format!("is not a peer's number; use one from 0 to {LAST}"));
                continue;
            };
            match self.text(&path).map(|text| PeerAddress::parse(&text)) {
                // One file can serve all of them: each leaves itself out.
                Some(Some(_)) if Some(number) == own => {}
                Some(Some(address)) => drop(peers.addresses.insert(number + 1, address)),
                Some(None) => {
                    self.wrong(&path, "is not a peer's address; write it as host:port, where only this peer is reached")
                }
                None if self.is_wrong(&path) => {}
                None => self.wrong(&["peers", &name], "has no address; add address = \"host:port\""),
            }
        }
        if own.is_none() && !peers.addresses.is_empty() {
            self.wrong(&["peers"], "lists other instances and does not say which this one is; add id");
        }
        peers
    }
}

//! Names for what differs from run to run: leases, the member, its addresses.
//!
//! A lease whose id the server picked is called `$lease1`, `$lease2` … in the order in which
//! scripts first see them, and may be used by that name from then on; `$lease1.hex` is the id as
//! lock and election keys spell it.

/// Ids from here on are the server's choice; scripts pick small ones.
const PICKED_BY_SERVER: i64 = 1 << 32;

pub(crate) struct Names {
    leases: Vec<i64>,
    pub(crate) member: u64,
    /// A text of this run, and what scripts call it.
    texts: Vec<(String, &'static str)>,
}

impl Names {
    pub(crate) fn new(member: u64, texts: Vec<(String, &'static str)>) -> Names {
        Names { leases: Vec::new(), member, texts }
    }

    /// What scripts call this lease, if the server picked its id.
    pub(crate) fn lease(&mut self, id: i64) -> Option<String> {
        if id < PICKED_BY_SERVER {
            return None;
        }
        let at = self.leases.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.leases.push(id);
            self.leases.len() - 1
        });
        Some(format!("$lease{}", at + 1))
    }

    /// What scripts call this member, if it is the one.
    pub(crate) fn member(&self, id: u64) -> Option<&'static str> {
        (id == self.member).then_some("$member")
    }

    /// A text of an answer, with this run's own words replaced by names.
    ///
    /// Go's protobuf writes one space or two, or one that does not break, as each build sees fit,
    /// so that nobody relies on it: here it is one, and common.
    pub(crate) fn hide(&mut self, text: &str) -> String {
        let mut text = text.replace('\u{a0}', " ").replace("  alarm:", " alarm:");
        text = text.replace(&format!("memberID:{} ", self.member), "memberID:$member ");
        for (word, name) in &self.texts {
            text = text.replace(word, name);
        }
        if let Some(id) = lease_at_end(&text) {
            self.lease(id);
        }
        for (at, id) in self.leases.iter().enumerate() {
            text = text.replace(&format!("{id:x}"), &format!("$lease{}.hex", at + 1));
        }
        text
    }

    /// A text of a request, with the names replaced by what they stand for.
    pub(crate) fn reveal(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (at, id) in self.leases.iter().enumerate().rev() {
            let name = format!("$lease{}", at + 1);
            text = text.replace(&format!("{name}.hex"), &format!("{id:x}"));
            text = text.replace(&name, &id.to_string());
        }
        for (word, name) in &self.texts {
            text = text.replace(name, word);
        }
        text.replace("$member", &self.member.to_string())
    }
}

/// The lease a lock or election key ends in: `lock/694d9a3c4b2f1a07`.
fn lease_at_end(text: &str) -> Option<i64> {
    let (_, hex) = text.rsplit_once('/')?;
    if !(12..=16).contains(&hex.len()) {
        return None;
    }
    i64::from_str_radix(hex, 16).ok()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_in_an_answer_can_be_named_in_a_request() {
        let mut names = Names::new(77, vec![("127.0.0.1:5".to_owned(), "$client_address")]);
        assert_eq!(names.lease(0x694d_9a3c_4b2f_1a07).as_deref(), Some("$lease1"));
        assert_eq!(names.lease(7), None, "scripts know this one by its number");
        for (real, shown) in [
            ("http://127.0.0.1:5/x", "http://$client_address/x"),
            ("lock/694d9a3c4b2f1a07", "lock/$lease1.hex"),
            ("other/694d9a3c4b2f1a08", "other/$lease2.hex"),
        ] {
            assert_eq!(names.hide(real), shown);
            assert_eq!(names.reveal(shown), real);
        }
        assert_eq!(names.reveal("$lease1 $member"), format!("{} 77", 0x694d_9a3c_4b2f_1a07_i64));
    }

    #[test]
    fn the_tenth_lease_is_not_the_first_with_a_zero() {
        let mut names = Names::new(1, Vec::new());
        for id in 0..12 {
            names.lease(PICKED_BY_SERVER + id);
        }
        assert_eq!(names.reveal("$lease12"), (PICKED_BY_SERVER + 11).to_string());
    }
}

//! Errors in the words members use among themselves: some differ from those clients hear.

use proto::error::Error;

const AMONG_MEMBERS: [(Error, &str); 5] = [
    (Error::MemberNotFound, "membership: ID not found"),
    (Error::MemberNotLearner, "membership: can only promote a learner member"),
    (Error::Compacted, "mvcc: required revision has been compacted"),
    (Error::FutureRev, "mvcc: required revision is a future revision"),
    (Error::LeaseNotFound, "lease not found"),
];

pub(super) fn said(error: Error) -> &'static str {
    let other = AMONG_MEMBERS.iter().find(|(known, _)| *known == error);
    other.map_or_else(|| error.text(), |(_, text)| text)
}

pub(super) fn heard(text: &str) -> Option<Error> {
    let other = AMONG_MEMBERS.iter().find(|(_, known)| *known == text);
    other.map(|(error, _)| *error).or_else(|| Error::from_text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_heard_as_it_was_said_and_as_clients_hear_it() {
        for &error in Error::ALL {
            assert_eq!(heard(said(error)).map(Error::text), Some(error.text()));
            assert_eq!(heard(error.text()).map(Error::text), Some(error.text()));
        }
        assert_eq!(said(Error::MemberNotFound), "membership: ID not found", "as 3.7.1 says it");
    }
}

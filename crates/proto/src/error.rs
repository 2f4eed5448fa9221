//! What etcd says when it refuses: 63 sentences, each with a gRPC code.
//!
//! Clients compare the sentences byte by byte, so the odd ones ("Peer URLs already exists") stay.
//!
//! # Invariants
//!
//! - No two errors share a text, so a text finds its error again.   (a test)
//! - Codes and texts are those of etcd 3.7.1's rpctypes.   (`testdata/errors.txt`, recorded from it)
//!
//! # Not here
//!
//! Which failure is told as which error: that is `server`'s table. Nor errors without a name in
//! rpctypes; those travel as [`Code::Unknown`] with a text of their own.

use std::borrow::Cow;
use std::fmt;

/// gRPC's status codes; the number is what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All codes; each lies at its own number.
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Canceled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code a peer sent. One that gRPC does not define is unknown.
    pub fn from_number(number: u64) -> Code {
        let known = usize::try_from(number).ok().and_then(|n| Code::ALL.get(n));
        known.copied().unwrap_or(Code::Unknown)
    }

    /// The name as Go's gRPC prints it: in metrics, in logs, in etcdctl's errors.
    pub const fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Canceled => "Canceled",
            Code::Unknown => "Unknown",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::NotFound => "NotFound",
            Code::AlreadyExists => "AlreadyExists",
            Code::PermissionDenied => "PermissionDenied",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::FailedPrecondition => "FailedPrecondition",
            Code::Aborted => "Aborted",
            Code::OutOfRange => "OutOfRange",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
            Code::DataLoss => "DataLoss",
            Code::Unauthenticated => "Unauthenticated",
        }
    }

    /// The status with which the JSON gateway answers.
    pub const fn http_status(self) -> u16 {
        match self {
            Code::Ok => 200,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists | Code::Aborted => 409,
            Code::ResourceExhausted => 429,
            Code::Canceled => 499,
            Code::Unknown | Code::Internal | Code::DataLoss => 500,
            Code::Unimplemented => 501,
            Code::Unavailable => 503,
            Code::DeadlineExceeded => 504,
        }
    }
}

/// One line an error: its name, its code, its text. The order is etcd's own.
macro_rules! errors {
    ($($name:ident $code:ident $text:literal)*) => {
        /// etcd's errors, by the names rpctypes gives them (without their `ErrGRPC`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Error { $($name),* }

        impl Error {
            pub const ALL: &[Error] = &[$(Error::$name),*];

            /// The code rpctypes assigns. What travels is [`Error::wire_code`].
            pub const fn code(self) -> Code {
                match self { $(Error::$name => Code::$code),* }
            }

            /// The text, to the byte.
            pub const fn text(self) -> &'static str {
                match self { $(Error::$name => $text),* }
            }
        }
    };
}

errors! {
    EmptyKey InvalidArgument "etcdserver: key is not provided"
    KeyNotFound InvalidArgument "etcdserver: key not found"
    ValueProvided InvalidArgument "etcdserver: value is provided"
    LeaseProvided InvalidArgument "etcdserver: lease is provided"
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request"
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request"
    InvalidClientAPIVersion InvalidArgument "etcdserver: invalid client api version"
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option"
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted"
    FutureRev OutOfRange "etcdserver: mvcc: required revision is a future revision"
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded"
    LeaseNotFound NotFound "etcdserver: requested lease not found"
    LeaseExist FailedPrecondition "etcdserver: lease already exists"
    LeaseTTLTooLarge OutOfRange "etcdserver: too large lease TTL"
    WatchCanceled Canceled "etcdserver: watch canceled"
    MemberExist FailedPrecondition "etcdserver: member ID already exist"
    PeerURLExist FailedPrecondition "etcdserver: Peer URLs already exists"
    MemberNotEnoughStarted FailedPrecondition "etcdserver: re-configuration failed due to not enough started members"
    MemberBadURLs InvalidArgument "etcdserver: given member URLs are invalid"
    MemberNotFound NotFound "etcdserver: member not found"
    MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member"
    LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader"
    TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster"
    ClusterIDMismatch FailedPrecondition "etcdserver: cluster ID mismatch"
    RequestTooLarge InvalidArgument "etcdserver: request is too large"
    RequestTooManyRequests ResourceExhausted "etcdserver: too many requests"
    RootUserNotExist FailedPrecondition "etcdserver: root user does not exist"
    RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role"
    UserAlreadyExist FailedPrecondition "etcdserver: user name already exists"
    UserEmpty InvalidArgument "etcdserver: user name is empty"
    UserNotFound FailedPrecondition "etcdserver: user name not found"
    RoleAlreadyExist FailedPrecondition "etcdserver: role name already exists"
    RoleNotFound FailedPrecondition "etcdserver: role name not found"
    RoleEmpty InvalidArgument "etcdserver: role name is empty"
    AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password"
    PermissionNotGiven InvalidArgument "etcdserver: permission not given"
    PermissionDenied PermissionDenied "etcdserver: permission denied"
    RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user"
    PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role"
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled"
    InvalidAuthToken Unauthenticated "etcdserver: invalid auth token"
    InvalidAuthMgmt InvalidArgument "etcdserver: invalid auth management"
    AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old"
    NoLeader Unavailable "etcdserver: no leader"
    NotLeader FailedPrecondition "etcdserver: not leader"
    LeaderChanged Unavailable "etcdserver: leader changed"
    NotCapable FailedPrecondition "etcdserver: not capable"
    Stopped Unavailable "etcdserver: server stopped"
    Timeout Unavailable "etcdserver: request timed out"
    TimeoutDueToLeaderFail Unavailable "etcdserver: request timed out, possibly due to previous leader failure"
    TimeoutDueToConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost"
    TimeoutWaitAppliedIndex Unavailable "etcdserver: request timed out, waiting for the applied index took too long"
    Unhealthy Unavailable "etcdserver: unhealthy cluster"
    Corrupt DataLoss "etcdserver: corrupt cluster"
    NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner"
    BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee"
    WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format"
    InvalidDowngradeTargetVersion InvalidArgument "etcdserver: invalid downgrade target version"
    ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade"
    DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress"
    NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job"
    Canceled Canceled "etcdserver: request canceled"
    DeadlineExceeded DeadlineExceeded "etcdserver: context deadline exceeded"
}

impl Error {
    /// The code that travels. Two errors leave etcd without theirs: it hands gRPC its client-side
    /// form of them, which carries no status. Clients have learned to live with it.
    pub const fn wire_code(self) -> Code {
        if matches!(self, Error::MemberNotEnoughStarted | Error::RequestTooManyRequests) {
            return Code::Unknown;
        }
        self.code()
    }

    /// The error that has this text, as clients find out which one they were given.
    pub fn from_text(text: &str) -> Option<Error> {
        Error::ALL.iter().copied().find(|error| error.text() == text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Status {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    pub const OK: Status = Status { code: Code::Ok, message: Cow::Borrowed("") };
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.wire_code(), error.text())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recording: a line an error, `name number text`.
    const RECORDED: &str = include_str!("../testdata/errors.txt");

    #[test]
    fn every_error_is_as_recorded_from_etcd() {
        let lines = |errors: &[Error]| {
            let line = |e: &Error| format!("{e:?} {} {}\n", e.code().number(), e.text());
            errors.iter().map(line).collect::<String>()
        };
        let recorded: Vec<_> = RECORDED.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines(Error::ALL).lines().collect::<Vec<_>>(), recorded);
    }

    #[test]
    fn a_text_finds_its_error_again() {
        for error in Error::ALL {
            assert_eq!(Error::from_text(error.text()), Some(*error));
        }
        assert_eq!(Error::from_text("etcdserver: key is not provide"), None);
    }

    #[test]
    fn two_errors_lose_their_code_on_the_wire() {
        let odd = Error::ALL.iter().filter(|e| e.code() != e.wire_code());
        let odd: Vec<_> = odd.map(|e| Status::from(*e).to_string()).collect();
        assert_eq!(
            odd,
            [
                "Unknown: etcdserver: re-configuration failed due to not enough started members",
                "Unknown: etcdserver: too many requests",
            ]
        );
    }

    #[test]
    fn a_code_lies_at_its_number_and_strange_numbers_are_unknown() {
        for (number, code) in (0..).zip(Code::ALL) {
            assert_eq!((code.number(), Code::from_number(number.into())), (number, code));
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(Code::from_number(u64::MAX), Code::Unknown);
    }
}

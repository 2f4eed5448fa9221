//! Flags about who may talk to whom: TLS on the clients' port and on the peers', browsers, users.

use super::{Flag, Parsed, RawConfig, list, number, put, say, switch, text};
use crate::config::url;
use crate::config::value::{boolean, parts, unique_parts, unsigned};

pub(super) const FLAGS: &[Flag] = &[
    text("cert-file", "", "Certificate of the clients' port.", |raw, v| {
        say(&mut raw.client.cert_file, v)
    })
    .at("client-transport-security.cert-file"),
    text("key-file", "", "Key of that certificate.", |raw, v| say(&mut raw.client.key_file, v))
        .at("client-transport-security.key-file"),
    switch("client-cert-auth", "false", "Demand a certificate of every client.", |raw, v| {
        put(&mut raw.client.client_cert_auth, boolean(v))
    })
    .at("client-transport-security.client-cert-auth"),
    text("client-cert-file", "", "Certificate to show when a client is demanded one.", |raw, v| {
        say(&mut raw.client.client_cert_file, v)
    })
    .at("client-transport-security.client-cert-file"),
    text("client-key-file", "", "Key of that certificate.", |raw, v| {
        say(&mut raw.client.client_key_file, v)
    })
    .at("client-transport-security.client-key-file"),
    text("client-crl-file", "", "Revoked client certificates.", |raw, v| {
        say(&mut raw.client.crl_file, v)
    })
    .not_in_file(),
    list("client-cert-allowed-hostname", "", "Names a client's certificate may have.", |raw, v| {
        put(&mut raw.client.allowed_hostname, Ok(parts(v)))
    })
    .at("client-transport-security.allowed-hostname"),
    text("trusted-ca-file", "", "Who signs clients' certificates.", |raw, v| {
        say(&mut raw.client.trusted_ca_file, v)
    })
    .at("client-transport-security.trusted-ca-file"),
    switch(
        "auto-tls",
        "false",
        "TLS for clients with a certificate made on the spot.",
        |raw, v| put(&mut raw.client.auto_tls, boolean(v)),
    )
    .at("client-transport-security.auto-tls"),
    text("peer-cert-file", "", "Certificate of the peers' port.", |raw, v| {
        say(&mut raw.peer.cert_file, v)
    })
    .at("peer-transport-security.cert-file"),
    text("peer-key-file", "", "Key of that certificate.", |raw, v| say(&mut raw.peer.key_file, v))
        .at("peer-transport-security.key-file"),
    switch("peer-client-cert-auth", "false", "Demand a certificate of every peer.", |raw, v| {
        put(&mut raw.peer.client_cert_auth, boolean(v))
    })
    .at("peer-transport-security.client-cert-auth"),
    text("peer-client-cert-file", "", "Certificate to show to peers, if another.", |raw, v| {
        say(&mut raw.peer.client_cert_file, v)
    })
    .at("peer-transport-security.client-cert-file"),
    text("peer-client-key-file", "", "Key of that certificate.", |raw, v| {
        say(&mut raw.peer.client_key_file, v)
    })
    .at("peer-transport-security.client-key-file"),
    text("peer-trusted-ca-file", "", "Who signs peers' certificates.", |raw, v| {
        say(&mut raw.peer.trusted_ca_file, v)
    })
    .at("peer-transport-security.trusted-ca-file"),
    list("peer-cert-allowed-cn", "", "Common names a peer's certificate may have.", |raw, v| {
        put(&mut raw.peer.allowed_cn, Ok(parts(v)))
    })
    .at("peer-transport-security.allowed-cn"),
    list("peer-cert-allowed-hostname", "", "Names a peer's certificate may have.", |raw, v| {
        put(&mut raw.peer.allowed_hostname, Ok(parts(v)))
    })
    .at("peer-transport-security.allowed-hostname"),
    switch(
        "peer-auto-tls",
        "false",
        "TLS for peers with a certificate made on the spot.",
        |raw, v| put(&mut raw.peer.auto_tls, boolean(v)),
    )
    .at("peer-transport-security.auto-tls"),
    number("self-signed-cert-validity", "1", "Years such a certificate is valid.", |raw, v| {
        put(&mut raw.self_signed_cert_validity, unsigned(v))
    }),
    text("peer-crl-file", "", "Revoked peer certificates.", |raw, v| {
        say(&mut raw.peer.crl_file, v)
    })
    .not_in_file(),
    list("cipher-suites", "", "Cipher suites to allow, if not the usual ones.", |raw, v| {
        put(&mut raw.cipher_suites, Ok(parts(v)))
    }),
    text("cors", "*", "Origins whose scripts may ask; * for all.", add_origins),
    text("host-whitelist", "*", "Host names clients without TLS may use; * for all.", |raw, v| {
        put(&mut raw.host_whitelist, Ok(unique_parts(v)))
    }),
    text("tls-min-version", "TLS1.2", "Oldest TLS to speak: TLS1.2 or TLS1.3.", |raw, v| {
        say(&mut raw.tls_min_version, v)
    }),
    text("tls-max-version", "", "Newest TLS to speak: TLS1.2 or TLS1.3.", |raw, v| {
        say(&mut raw.tls_max_version, v)
    }),
];

pub(super) const AUTH: &[Flag] = &[
    text(
        "auth-token",
        "simple",
        "Kind of token, with its options: 'simple' or 'jwt,…'.",
        |raw, v| say(&mut raw.auth_token, v),
    ),
    number("bcrypt-cost", "10", "Work to hash a password, from 4 to 31.", |raw, v| {
        put(&mut raw.bcrypt_cost, unsigned(v))
    }),
    number("auth-token-ttl", "300", "Seconds a simple token lives.", |raw, v| {
        put(&mut raw.auth_token_ttl, unsigned(v))
    }),
];

/// What only a block of a configuration file can say.
pub(super) const FILE_ONLY: &[Flag] =
    &[list("client allowed-cn", "", "Common names a client's certificate may have.", |raw, v| {
        put(&mut raw.client.allowed_cn, Ok(parts(v)))
    })
    .at("client-transport-security.allowed-cn")];

/// Origins are addresses; a `*` allows all, whatever else is listed.
fn add_origins(raw: &mut RawConfig, value: &str) -> Parsed<()> {
    if raw.cors.iter().any(|origin| origin == value) {
        return Ok(());
    }
    if value == "*" {
        raw.cors.push(value.to_owned());
        return Ok(());
    }
    raw.cors = url::parse_list(value)?.iter().map(ToString::to_string).collect();
    Ok(())
}

//! What would be worse than refused if it were accepted: protection that isn't there.

use super::Check;
use crate::config::raw::RawConfig;

/// Options that ask for something retcd can't do yet, and whether they do.
fn asked(raw: &RawConfig) -> Vec<(&'static str, bool)> {
    let (client, peer, discovery) = (&raw.client, &raw.peer, &raw.discovery);
    let said = |text: &str| !text.is_empty();
    vec![
        ("--cert-file", said(&client.cert_file)),
        ("--key-file", said(&client.key_file)),
        ("--client-cert-auth", client.client_cert_auth),
        ("--client-cert-file", said(&client.client_cert_file)),
        ("--client-key-file", said(&client.client_key_file)),
        ("--client-crl-file", said(&client.crl_file)),
        ("--client-cert-allowed-hostname", names(&client.allowed_hostname)),
        ("client-transport-security.allowed-cn", names(&client.allowed_cn)),
        ("--trusted-ca-file", said(&client.trusted_ca_file)),
        ("--auto-tls", client.auto_tls),
        ("--peer-cert-file", said(&peer.cert_file)),
        ("--peer-key-file", said(&peer.key_file)),
        ("--peer-client-cert-auth", peer.client_cert_auth),
        ("--peer-client-cert-file", said(&peer.client_cert_file)),
        ("--peer-client-key-file", said(&peer.client_key_file)),
        ("--peer-trusted-ca-file", said(&peer.trusted_ca_file)),
        ("--peer-cert-allowed-cn", names(&peer.allowed_cn)),
        ("--peer-cert-allowed-hostname", names(&peer.allowed_hostname)),
        ("--peer-auto-tls", peer.auto_tls),
        ("--peer-crl-file", said(&peer.crl_file)),
        ("--cipher-suites", names(&raw.cipher_suites)),
        ("--discovery-endpoints", !discovery.endpoints.is_empty()),
        ("--discovery-srv", said(&discovery.srv)),
        ("--discovery-srv-name", said(&discovery.srv_name)),
    ]
}

fn names(list: &[String]) -> bool {
    list.iter().any(|name| !name.is_empty())
}

impl Check<'_> {
    pub(super) fn unsupported(&mut self) {
        for (option, _) in asked(self.raw).into_iter().filter(|(_, asked)| *asked) {
            let what = if option.starts_with("--discovery") { "discovery" } else { "TLS" };
            self.wrong(format!("{option}: retcd does not support {what} yet"));
        }
        let raw = self.raw;
        let encrypted = [
            ("listen-peer-urls", &raw.listen_peer_urls),
            ("listen-client-urls", &raw.listen_client_urls),
            ("listen-client-http-urls", &raw.listen_client_http_urls),
            ("listen-metrics-urls", &raw.listen_metrics_urls),
        ];
        for (option, urls) in encrypted {
            for url in urls.iter().filter(|url| url.tls) {
                self.wrong(format!("--{option}: {url}: retcd does not support TLS yet"));
            }
        }
    }

    pub(super) fn tls_versions(&mut self) {
        let (oldest, newest) = (&self.raw.tls_min_version, &self.raw.tls_max_version);
        for version in [oldest, newest] {
            if !["", "TLS1.2", "TLS1.3"].contains(&version.as_str()) {
                self.mistakes.push(format!(
                    "unexpected TLS version {version:?} (must be one of: TLS1.2, TLS1.3)"
                ));
            }
        }
        // The two names compare as the versions do.
        if !newest.is_empty() && oldest > newest {
            self.wrong(format!("min version ({oldest}) is greater than max version ({newest})"));
        }
        if oldest == "TLS1.3" && names(&self.raw.cipher_suites) {
            self.wrong("cipher suites cannot be configured when only TLS1.3 is enabled");
        }
    }
}

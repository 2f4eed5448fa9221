//! Which path leads where.
//!
//! Paths are first made tidy, as Go's mux does: `//health` and `/x/../health` are told where they
//! want to go.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::answer::{self, Answer};
use super::{Context, Door, Service, access, form, gateway, health, page};
use crate::log;
use crate::metrics::Check;

/// Answers one request.
pub(super) async fn answer<S: Service>(
    request: Request<Incoming>,
    context: Arc<Context<S>>,
    door: Door,
) -> Answer {
    if let Some(refused) = form::refuse(&request) {
        return refused;
    }
    if door == Door::Metrics {
        return match tidy(&request) {
            Ok(path) => watched(&path, &request, &context).await.unwrap_or_else(answer::not_found),
            Err(elsewhere) => answer::redirect(request.method(), &elsewhere),
        };
    }
    if let Some(refused) = refuse(&request, &context, door) {
        return refused;
    }
    let origin = context.access.allowed_origin(request.headers());
    let mut answer = match *request.method() {
        Method::OPTIONS => answer::empty(),
        _ => route(request, context).await,
    };
    if let Some(origin) = origin {
        access::add_origin(&mut answer, origin);
    }
    answer
}

/// Turns away who must not ask, before anything is looked at.
fn refuse<S: Service>(
    request: &Request<Incoming>,
    context: &Context<S>,
    door: Door,
) -> Option<Answer> {
    let host = access::without_port(access::host(request).unwrap_or_default());
    match door {
        Door::Plain if !context.access.admits_host(host) => {
            log::warn!(context.logger, "refused a request for an unknown host", "host" = host);
            Some(access::misdirected(host))
        }
        Door::Tls { named: true }
            if context.gateway
                && request.uri().path().starts_with("/v3/")
                && context.service.vitals().auth_enabled =>
        {
            let what = "CommonName of client sending a request against gateway will be ignored \
                        and not used as expected";
            Some(answer::error(StatusCode::BAD_REQUEST, what))
        }
        Door::Plain | Door::Tls { .. } | Door::Metrics => None,
    }
}

async fn route<S: Service>(request: Request<Incoming>, context: Arc<Context<S>>) -> Answer {
    let path = match tidy(&request) {
        Ok(path) => path,
        Err(elsewhere) => return answer::redirect(request.method(), &elsewhere),
    };
    if let Some(answer) = watched(&path, &request, &context).await {
        return answer;
    }
    match &*path {
        "/version" => get(&request, || page::version(&context)),
        "/debug/vars" => get(&request, || page::vars(&context)),
        "/v3" if context.gateway => answer::redirect(request.method(), "/v3/"),
        path if context.gateway && path.starts_with("/v3/") => {
            let path = path.to_owned();
            gateway::answer(&path, request, context).await
        }
        _ => answer::not_found(),
    }
}

/// The paths that machines look at, which every port has.
async fn watched<S: Service>(
    path: &str,
    request: &Request<Incoming>,
    context: &Context<S>,
) -> Option<Answer> {
    let checks: &[Check] = match path {
        "/metrics" => return Some(page::metrics(context)),
        "/health" => &[],
        "/livez" | "/livez/serializable_read" => &[Check::LivezSerializableRead],
        "/readyz" => health::READYZ,
        "/readyz/data_corruption" => &[Check::ReadyzDataCorruption],
        "/readyz/linearizable_read" => &[Check::ReadyzLinearizableRead],
        "/readyz/non_learner" => &[Check::ReadyzNonLearner],
        "/readyz/serializable_read" => &[Check::ReadyzSerializableRead],
        _ => return None,
    };
    if *request.method() != Method::GET {
        return Some(answer::get_only());
    }
    let query = request.uri().query().unwrap_or_default();
    let is_group = matches!(path, "/livez" | "/readyz");
    Some(match checks {
        [] => health::health(context, query).await,
        checks => health::check(context, checks, query, is_group).await,
    })
}

fn get(request: &Request<Incoming>, page: impl FnOnce() -> Answer) -> Answer {
    if *request.method() == Method::GET { page() } else { answer::get_only() }
}

/// The path, or where to find its tidy form.
pub(crate) fn tidy(request: &Request<Incoming>) -> Result<Cow<'_, str>, String> {
    let said = request.uri().path();
    let path = match said.strip_prefix("/v3beta/") {
        Some(rest) => Cow::Owned(format!("/v3/{rest}")),
        None => Cow::Borrowed(said),
    };
    let clean = cleaned(&path);
    if clean != path {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        return Err(format!("{clean}{query}"));
    }
    Ok(if path.contains('%') { Cow::Owned(percent_decoded(&path)) } else { path })
}

/// Without empty parts, `.` and `..`; a `/` at the end stays.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

/// Replaces each `%2f` by what it stands for; what stands for nothing stays as it is.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|&b| char::from(b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tidy_path_stays_and_others_are_cleaned() {
        let cases = [
            ("/", "/"),
            ("//", "/"),
            ("//health", "/health"),
            ("/a/../health", "/health"),
            ("/../x", "/x"),
            ("/v3/kv/./range/", "/v3/kv/range/"),
            ("*", "/*"),
        ];
        for (path, clean) in cases {
            assert_eq!(cleaned(path), clean);
            assert_eq!(cleaned(clean), clean);
        }
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(percent_decoded("/%6bv%2g%"), "/kv%2g%");
    }
}

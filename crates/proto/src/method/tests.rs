use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use stdx::each_seed;

use super::*;

/// The rpcs a .proto file declares, as `path kind`.
fn declared(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the folder of .proto files") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            declared(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a .proto file");
        let word_after = |line: &str, word| {
            line.trim()
                .strip_prefix(word)
                .map(|rest| rest.split([' ', '(', ';']).next().map(str::to_owned))
        };
        let (mut package, mut service) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(Some(name)) = word_after(line, "package ") {
                package = name;
            } else if let Some(Some(name)) = word_after(line, "service ") {
                service = name;
            } else if let Some(Some(name)) = word_after(line, "rpc ") {
                let (asks, answers) = line.split_once(" returns ").expect("an answer");
                let kind = match (asks.contains("(stream "), answers.contains("(stream ")) {
                    (false, false) => Kind::Unary,
                    (false, true) => Kind::ServerStream,
                    (true, true) => Kind::BidiStream,
                    (true, false) => {
                        panic!("{name}: nothing of etcd's streams to the server alone")
                    }
                };
                found.insert(format!("/{package}.{service}/{name} {}", kind.name()));
            }
        }
    }
}

#[test]
fn the_table_holds_every_rpc_of_the_proto_files_and_no_other() {
    let mut found = BTreeSet::new();
    declared(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"), &mut found);
    let ours = Method::ALL.iter().map(|m| format!("{} {}", m.path(), m.kind().name())).collect();
    assert_eq!(found, ours);
}

#[test]
fn each_path_and_each_route_leads_to_its_method() {
    let mut routes = BTreeSet::new();
    for method in Method::ALL {
        assert_eq!(Method::from_path(method.path().as_bytes()), Some(*method));
        assert_eq!(format!("/{}/{}", method.service(), method.name()), method.path());
        for route in method.routes() {
            assert_eq!(Method::from_route(route), Some(*method));
            assert!(routes.insert(route), "two methods at {route}");
        }
    }
    assert_eq!(routes.len(), 51);
    assert_eq!(Method::from_route("/v3/kv/rangestream"), None);
}

#[test]
fn only_the_very_path_is_found() {
    each_seed(|g| {
        let method = *g.pick(Method::ALL);
        let mut path = method.path().as_bytes().to_vec();
        match g.below(4) {
            0 => path.truncate(g.int(0..=path.len())),
            1 => path.extend(g.bytes(0..9)),
            2 => drop(path.drain(..2)),
            _ => {
                let at = g.int(0..=path.len() - 1);
                path[at] = g.number() as u8;
            }
        }
        let model = Method::ALL.iter().copied().find(|m| m.path().as_bytes() == path);
        assert_eq!(Method::from_path(&path), model);
    });
}

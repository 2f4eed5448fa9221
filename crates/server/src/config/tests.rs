//! Scripts in `testdata/config`: what is said, and what becomes of it.
//!
//! ```text
//! args --name=n1 …        words of the command line; a word ends at a blank
//! env ETCD_NAME=n1        a variable
//! | name: n1              a line of the configuration file; where there are any, it is `/c.yml`
//! host 10.0.0.7           what the machine takes for its own address
//! show raft               a part of what is meant
//! founders                the first members, names resolved by a table: `a` is 10.0.0.1
//! ```

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::{io, str};

use stdx::{each_seed, script};

use super::raw::RawConfig;
use super::table::{self, Flag, Kind};
use super::{Config, EXIT_MALFORMED, EXIT_REFUSED, Notice, Start, Surroundings, help, load};

#[test]
fn scripts() {
    script::run_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/config"), || answer);
}

#[derive(Default)]
struct Case {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    file: String,
    host: Option<IpAddr>,
    questions: Vec<String>,
}

fn answer(lines: &[&str]) -> String {
    let mut case = Case::default();
    for line in lines {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "args" => case.arguments.extend(rest.split_whitespace().map(str::to_owned)),
            "env" => {
                let (key, value) = rest.split_once('=').expect("KEY=value");
                case.environment.push((key.to_owned(), value.to_owned()));
            }
            "|" => case.file += &format!("{rest}\n"),
            "host" => case.host = Some(rest.parse().expect("an address")),
            "show" => case.questions.extend(rest.split_whitespace().map(str::to_owned)),
            "founders" => case.questions.push(command.to_owned()),
            other => panic!("unknown command {other}"),
        }
    }
    if !case.file.is_empty() {
        case.arguments.push("--config-file=/c.yml".into());
    }
    render(&case, decide(&case))
}

fn decide(case: &Case) -> Start {
    let read_file = |path: &std::path::Path| match path.to_str() {
        Some("/c.yml") => Ok(case.file.clone().into_bytes()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    load(&Surroundings {
        arguments: case.arguments.iter().map(Into::into).collect(),
        environment: case.environment.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        read_file: &read_file,
        default_host: &|| case.host,
    })
}

fn render(case: &Case, start: Start) -> String {
    let mut out = String::new();
    let (end, notices) = match start {
        Start::Serve(config, notices) => {
            let shown = case.questions.iter().map(|question| show(&config, question));
            (shown.collect::<Vec<_>>().join("\n"), notices)
        }
        Start::Tell { stderr, stdout } => {
            let first = stdout.lines().find(|line| !line.is_empty()).unwrap_or_default();
            (format!("exit 0, {first:?} and so on, {} of usage", stderr.lines().count()), vec![])
        }
        Start::Malformed(text) => {
            let mistakes = text.strip_suffix(help::USAGE).expect("the usage at the end");
            (format!("exit {EXIT_MALFORMED}\n{}", mistakes.trim_end()), vec![])
        }
        Start::Refuse(mistakes, notices) => (format!("exit {EXIT_REFUSED}\n{mistakes}"), notices),
    };
    for notice in notices.iter().filter(|notice| !is_usual(notice)) {
        let level = format!("{:?}", notice.level).to_lowercase();
        let _ = write!(out, "{level}: {}", notice.message);
        for (key, value) in &notice.fields {
            let _ = write!(out, " {key}={value:?}");
        }
        out.push('\n');
    }
    out + &end
}

/// Notices that nearly every case would have.
fn is_usual(notice: &Notice) -> bool {
    notice.message.starts_with("member has the default name")
        || notice.message.starts_with("'data-dir' was empty")
        || notice.message.starts_with("loaded server configuration")
}

fn show(config: &Config, question: &str) -> String {
    match question {
        "name" => config.name.clone(),
        "bootstrap" => format!("{:?}", config.bootstrap),
        "storage" => format!("{:?}", config.storage),
        "quota" => format!("{:?}", config.storage.quota),
        "raft" => format!("{:?}", config.raft),
        "limits" => format!("{:?}", config.limits),
        "keepalive" => format!("{:?}", config.client_port.keepalive),
        "cors" => format!("{:?}", config.client_port.cors),
        "hosts" => format!("{:?}", config.client_port.host_whitelist),
        "socket" => format!("{:?}", config.client_port.socket),
        "listen" => format!(
            "peer {} client {} http {} metrics {}",
            super::url::join(&config.peer_port.listen_urls),
            super::url::join(&config.client_port.listen_urls),
            super::url::join(&config.client_port.listen_http_urls),
            super::url::join(&config.monitoring.listen_metrics_urls),
        ),
        "advertise" => format!(
            "peer {} client {} cluster {}",
            super::url::join(&config.peer_port.advertise_urls),
            super::url::join(&config.client_port.advertise_urls),
            config.bootstrap.initial_cluster,
        ),
        "peer-timeouts" => {
            format!("{:?} {:?}", config.peer_port.read_timeout, config.peer_port.write_timeout)
        }
        "local-address" => format!("{:?}", config.peer_port.local_address),
        "auth" => format!("{:?}", config.auth),
        "compaction" => format!("{:?}", config.upkeep.auto_compaction),
        "upkeep" => format!("{:?}", config.upkeep),
        "monitoring" => format!("{:?}", config.monitoring),
        "log" => format!("{:?}", config.log),
        "gates" => config.gates.to_string(),
        "founders" => founders(config),
        other => panic!("nothing to show for {other}"),
    }
}

fn founders(config: &Config) -> String {
    let resolve = |host: &str, port: u16| match host {
        "a" => Ok(SocketAddr::new(IpAddr::from([10, 0, 0, 1]), port)),
        _ => host.parse().map(|ip| SocketAddr::new(ip, port)).map_err(|_| "no such host".into()),
    };
    match config.bootstrap.founders(&resolve) {
        Ok(founders) => {
            let shown =
                founders.iter().map(|f| format!("{}: {}", f.name, super::url::join(&f.peer_urls)));
            shown.collect::<Vec<_>>().join("\n")
        }
        Err(mistakes) => mistakes.to_string(),
    }
}

/// Names and defaults as real etcd lists them.
fn recorded() -> Vec<(&'static str, &'static str)> {
    let text = include_str!("../../testdata/recorded/etcd_3.7.1_flags.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap_or((line, ""))).collect()
}

/// Listed by etcd's help, refused by its parser, and by ours.
const LISTED_ONLY: [&str; 2] = ["discovery", "discovery-proxy"];

#[test]
fn the_flags_are_those_of_real_etcd() {
    let listed = table::GROUPS.iter().flat_map(|group| group.flags).map(|flag| flag.name);
    let mut ours: Vec<_> = listed.chain(LISTED_ONLY).collect();
    let mut theirs: Vec<_> = recorded().into_iter().map(|(name, _)| name).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

#[test]
fn the_defaults_are_those_of_real_etcd() {
    // Shown there as a formula, or as the value that stands for another.
    let formulas = [
        ("data-dir", "'${name}.etcd'", ""),
        ("initial-cluster", "'default=http://localhost:2380'", ""),
        ("max-concurrent-streams", "'math.MaxUint32'", "4294967295"),
        ("backend-batch-interval", "''", "0s"),
        ("memory-mlock", "", "false"),
        ("enable-grpc-gateway", "", "true"),
        ("bootstrap-defrag-threshold-megabytes", "", "0"),
        ("compaction-sleep-interval", "", "0s"),
        ("downgrade-check-time", "", "5s"),
        ("snapshot-catchup-entries", "", "5000"),
    ];
    for (name, theirs) in recorded() {
        let Some(flag) = table::find(name) else {
            assert!(LISTED_ONLY.contains(&name), "{name} is missing");
            continue;
        };
        let special = formulas.iter().find(|(special, ..)| *special == name);
        let expected = special.map_or(theirs.trim_matches('\''), |(_, shown, ours)| {
            assert_eq!(*shown, theirs, "--{name}");
            ours
        });
        assert_eq!(flag.default, expected, "--{name}");
    }
}

#[test]
fn a_flag_has_one_name_one_variable_and_one_place_in_a_file() {
    let mut names: Vec<_> = table::all().map(|flag| flag.name).collect();
    let mut places: Vec<_> = table::all_in_file().filter_map(Flag::path).collect();
    let (n_names, n_places) = (names.len(), places.len());
    names.sort_unstable();
    names.dedup();
    places.sort_unstable();
    places.dedup();
    assert_eq!((names.len(), places.len()), (n_names, n_places));
}

#[test]
fn the_help_explains_every_flag_etcd_explains() {
    let shown = help::flags();
    for (name, _) in recorded().iter().filter(|(name, _)| !LISTED_ONLY.contains(name)) {
        assert!(shown.contains(&format!("  --{name} '")), "--{name}");
    }
    assert!(shown.contains("FastLeaseKeepAlive=true|false (BETA - default=true)"));
}

#[test]
fn the_version_is_told_in_the_four_lines_tools_read() {
    let version = help::version();
    let keys: Vec<_> = version.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(keys, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]);
    assert!(version.starts_with("etcd Version: 3.7.1\n"));
}

#[test]
fn what_a_flag_says_its_variable_and_its_key_say_too() {
    for flag in table::all().filter(|flag| !flag.default.is_empty()) {
        let mut by_flag = RawConfig::defaults();
        (flag.set)(&mut by_flag, flag.default).expect("a default");
        let by_variable = decide(&Case {
            environment: vec![(flag.variable(), flag.default.into())],
            ..Case::default()
        });
        let Some(path) = flag.path().filter(|_| flag.kind != Kind::Span) else { continue };
        let value = match flag.kind {
            Kind::List => format!("[{}]", flag.default),
            Kind::Text => format!("{:?}", flag.default),
            Kind::Switch | Kind::Number | Kind::Span | Kind::Retired => flag.default.into(),
        };
        let keys: Vec<_> = path.split('.').collect();
        let nested = keys.iter().enumerate().map(|(i, key)| format!("{}{key}:", "  ".repeat(i)));
        let file = format!("{} {value}\n", nested.collect::<Vec<_>>().join("\n"));
        let arguments = vec!["--config-file=/c.yml".into()];
        let by_file = decide(&Case { arguments, file, ..Case::default() });
        match (by_variable, by_file) {
            (Start::Serve(a, _), Start::Serve(b, _)) => assert_eq!(a, b, "--{}", flag.name),
            // It may be said, but not alone.
            (Start::Refuse(a, _), _) => assert_eq!(flag.name, "listen-client-urls", "{a}"),
            (a, b) => panic!("--{}: {a:?} {b:?}", flag.name),
        }
    }
}

#[test]
fn nothing_that_is_said_brings_the_reader_down() {
    let names: Vec<_> = table::all().map(|flag| flag.name).collect();
    let values =
        ["", "0", "-1", "true", "x", "http://1.2.3.4:5", "9s", "a=b", "é,", "{", "[]", "*"];
    each_seed(|g| {
        let mut case = Case::default();
        for _ in 0..g.int(0..=4) {
            let (name, value) = (*g.pick(&names), *g.pick(&values));
            case.arguments.push(format!("--{name}={value}"));
            let (name, value) = (*g.pick(&names), *g.pick(&values));
            case.file += &format!("{name}: {value}\n");
            case.environment.push((format!("ETCD_{}", name.to_uppercase()), value.into()));
        }
        if g.chance(50) {
            case.arguments.push("--config-file=/c.yml".into());
        }
        if g.chance(20) {
            case.file = String::from_utf8_lossy(&g.bytes(0..60)).into_owned();
        }
        let _ = decide(&case);
    });
}

//! From the outside to a decision: the one way in.

use std::ffi::OsString;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::{env, fs, io};

use super::arguments::{self, Stopped};
use super::raw::RawConfig;
use super::{Mistakes, Notice, Start, environment, file, help, meaning};
use crate::log::Level;

/// All that [`load`] may know of the world.
pub struct Surroundings<'a> {
    /// The words behind the program's name.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    pub read_file: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// The address others reach this machine at, as far as it knows.
    pub default_host: &'a dyn Fn() -> Option<IpAddr>,
}

impl Surroundings<'_> {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        Self {
            arguments: env::args_os().skip(1).collect(),
            environment: env::vars_os().collect(),
            read_file: &|path| fs::read(path),
            default_host: &default_host,
        }
    }
}

/// The address that packets to strangers come from. Nothing is sent to find out.
fn default_host() -> Option<IpAddr> {
    let strangers = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let own = |(here, there): (&str, &str)| {
        let socket = UdpSocket::bind(here).ok()?;
        socket.connect(there).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    strangers.into_iter().find_map(own).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// Decides what the process is to do.
pub fn load(surroundings: &Surroundings<'_>) -> Start {
    let mut notices = Vec::new();
    let refuse = |mistakes, notices| Start::Refuse(Mistakes(mistakes), notices);
    let arguments = match texts(&surroundings.arguments) {
        Ok(arguments) => arguments,
        Err(mistake) => return refuse(vec![mistake], notices),
    };
    let variables = texts_of_variables(&surroundings.environment);

    let mut raw = RawConfig::defaults();
    match arguments::read(&arguments, &mut raw) {
        Ok(()) => {}
        Err(Stopped::Help) => {
            return Start::Tell { stderr: help::USAGE.into(), stdout: help::flags() };
        }
        Err(Stopped::Malformed(lines)) => {
            return Start::Malformed(format!("{}\n{}", lines.join("\n"), help::USAGE));
        }
        Err(Stopped::Stray(word)) => {
            return refuse(vec![format!("{word:?} is not a valid flag")], notices);
        }
    }
    if raw.version {
        return Start::Tell { stderr: String::new(), stdout: help::version() };
    }
    note_retired(&raw, &mut notices);

    let mut mistakes = Vec::new();
    let from_file = config_file(&raw, &variables);
    if let Some(path) = &from_file {
        let flags = raw;
        raw = RawConfig::defaults();
        // No key in a file says these two; etcd takes them from the command line even so.
        raw.raft_read_timeout = flags.raft_read_timeout;
        raw.raft_write_timeout = flags.raft_write_timeout;
        match (surroundings.read_file)(Path::new(path)) {
            Ok(bytes) => mistakes.extend(file::read(&bytes, &mut raw, &mut notices)),
            Err(e) => mistakes.push(format!("open {path}: {e}")),
        }
        notices.push(Notice::new(
            Level::Info,
            "loaded server configuration, flags and environment variables beside it have no effect",
            [("path", path.clone())],
        ));
    } else {
        mistakes.extend(environment::read(&variables, &mut raw, &mut notices));
    }
    note_deprecated(&raw, &mut notices);

    let source = if from_file.is_some() { meaning::Source::File } else { meaning::Source::Flags };
    let config = meaning::of(&raw, source, surroundings.default_host, &mut notices, mistakes);
    match config {
        Ok(config) => Start::Serve(Box::new(config), notices),
        Err(mistakes) => Start::Refuse(mistakes, notices),
    }
}

fn config_file(raw: &RawConfig, variables: &[(String, String)]) -> Option<String> {
    let said = Some(&raw.config_file).filter(|path| !path.is_empty());
    let variable = || variables.iter().find(|(key, _)| key == "ETCD_CONFIG_FILE").map(|(_, v)| v);
    said.or_else(variable).filter(|path| !path.is_empty()).cloned()
}

fn note_retired(raw: &RawConfig, notices: &mut Vec<Notice>) {
    for name in &raw.ignored {
        let fields = [("flag-name", (*name).to_owned())];
        notices.push(Notice::new(Level::Warn, "flag is no longer supported - ignoring", fields));
    }
}

fn note_deprecated(raw: &RawConfig, notices: &mut Vec<Notice>) {
    for name in ["max-snapshots", "v2-deprecation"] {
        if raw.has_said(name) {
            let fields = [("flag-name", name.to_owned())];
            notices.push(Notice::new(Level::Warn, "flag is deprecated", fields));
        }
    }
}

fn texts(words: &[OsString]) -> Result<Vec<String>, String> {
    let text = |word: &OsString| {
        let text = word.to_str().map(str::to_owned);
        text.ok_or_else(|| format!("{:?} is not valid UTF-8", word.to_string_lossy()))
    };
    words.iter().map(text).collect()
}

/// Variables that are no text are none of ours.
fn texts_of_variables(variables: &[(OsString, OsString)]) -> Vec<(String, String)> {
    let text = |(key, value): &(OsString, OsString)| {
        Some((key.to_str()?.to_owned(), value.to_str()?.to_owned()))
    };
    variables.iter().filter_map(text).collect()
}

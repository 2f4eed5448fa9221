//! The executable: the server, and (by their own names) the tools.

mod local_cluster;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use ctl::Tool;
use server::config::{EXIT_MALFORMED, EXIT_REFUSED, Start, Surroundings, load};
use server::log::{self, Logger};
use server::start::{self, Ending};

use crate::local_cluster::Plan;

fn main() -> ExitCode {
    if let Some((tool, arguments)) = tool() {
        return ctl::run(tool, &arguments);
    }
    if env::args().nth(1).is_some_and(|command| command == "version") {
        return tell("", concat!("retcd ", env!("CARGO_PKG_VERSION")));
    }
    if env::args().nth(1).is_some_and(|command| command == "local-cluster") {
        return local_cluster(&env::args().skip(2).collect::<Vec<_>>());
    }
    match load(&Surroundings::of_this_process()) {
        Start::Serve(config, notices) => {
            let logger = match Logger::open(&config.log) {
                Ok(logger) => logger,
                Err(error) => return fail(&format!("cannot open the log: {error}")),
            };
            for notice in notices {
                notice.log_to(&logger);
            }
            serve(&config, &logger)
        }
        Start::Tell { stderr, stdout } => tell(&stderr, &stdout),
        Start::Malformed(text) => {
            tell(&text, "");
            ExitCode::from(EXIT_MALFORMED)
        }
        Start::Refuse(mistakes, notices) => {
            let logger = Logger::early();
            notices.iter().for_each(|notice| notice.log_to(&logger));
            mistakes.log_to(&logger);
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

fn local_cluster(words: &[String]) -> ExitCode {
    let plan = match Plan::parse(words) {
        Ok(plan) => plan,
        Err(text) => {
            tell(&format!("{text}\n\n{}", local_cluster::USAGE), "");
            return ExitCode::from(EXIT_MALFORMED);
        }
    };
    match local_cluster::run(&plan, &|text| {
        tell("", text);
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot start the cluster: {error}")),
    }
}

/// Which tool was meant, by the name we were called or by our first word, and the words for it.
fn tool() -> Option<(Tool, Vec<String>)> {
    let mut words = env::args();
    let called = words.next()?;
    let mut words: Vec<String> = words.collect();
    let name = Path::new(&called).file_name()?.to_str()?;
    if let Some(tool) = Tool::named(name) {
        return Some((tool, words));
    }
    let tool = match words.first()?.as_str() {
        "ctl" => Tool::Etcdctl,
        "utl" => Tool::Etcdutl,
        _ => return None,
    };
    words.remove(0);
    Some((tool, words))
}

fn serve(config: &server::config::Config, logger: &Logger) -> ExitCode {
    match start::run(config, logger) {
        Ok(Ending::Signal(signal)) => end_by(signal),
        Ok(Ending::Removed) => ExitCode::SUCCESS,
        Err(error) => {
            log::fatal!(logger, "failed to start etcd", "error" = &error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Ends as the signal would have ended us, as etcd does; as the first process of a container there
/// is nobody to tell, and the end is a good one.
fn end_by(signal: i32) -> ExitCode {
    if std::process::id() != 1 {
        drop(signal_hook::low_level::emulate_default_handler(signal));
    }
    ExitCode::SUCCESS
}

fn fail(text: &str) -> ExitCode {
    tell(text, "");
    ExitCode::FAILURE
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what help and errors are for"
)]
fn tell(stderr: &str, stdout: &str) -> ExitCode {
    if !stderr.is_empty() {
        eprintln!("{}", stderr.trim_end());
    }
    if !stdout.is_empty() {
        println!("{}", stdout.trim_end());
    }
    ExitCode::SUCCESS
}

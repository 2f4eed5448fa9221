//! The log's options.

use serde_json::Value;

use super::Check;
use crate::config::value::Parsed;
use crate::log::{Format, Level, Output, Rotation, Settings};

/// `lumberjack`'s: a file that is full at 0 is full at this.
const MAXSIZE_MB_DEFAULT: u64 = 100;

impl Check<'_> {
    pub(super) fn log(&mut self) -> Settings {
        let raw = self.raw;
        match raw.logger.as_str() {
            "zap" => {}
            "capnslog" => self.wrong("--logger=capnslog is removed in v3.5"),
            unknown => self.wrong(format!("unknown logger option {unknown:?}")),
        }
        let format = match raw.log_format.as_str() {
            "json" | "" => Ok(Format::Json),
            "console" => Ok(Format::Console),
            unknown => {
                Err(format!("unknown log format: {unknown}, supported values json, console"))
            }
        };
        let level = Level::parse(&raw.log_level)
            .ok_or_else(|| format!("unrecognized level: {:?}", raw.log_level));
        Settings {
            format: self.need(format, Format::Json),
            level: self.need(level, Level::Info),
            outputs: self.outputs(),
            rotation: self.rotation(),
        }
    }

    fn outputs(&mut self) -> Vec<Output> {
        let said = &self.raw.log_outputs;
        if said.len() > 1 && said.iter().any(|output| output == "default") {
            self.wrong("multi logoutput for \"default\" is not supported yet");
        }
        if said.iter().any(String::is_empty) {
            self.wrong("--log-outputs must not contain an empty output");
        }
        let mut outputs: Vec<Output> = said.iter().map(|output| named(output)).collect();
        outputs.dedup();
        outputs
    }

    fn rotation(&mut self) -> Option<Rotation> {
        if !self.raw.enable_log_rotation {
            return None;
        }
        let outputs = self.raw.log_outputs.iter().map(|output| named(output));
        if outputs.filter(|output| matches!(output, Output::File(_))).count() != 1 {
            self.wrong(
                "--log-outputs requires a single file path when --log-rotate-config-json is defined",
            );
        }
        let rotation = parse_rotation(&self.raw.log_rotation_config_json);
        let (rotation, unkept) = self.need(rotation.map(Some), None)?;
        for option in unkept {
            let fields = [("option", option.to_owned())];
            self.note(
                Level::Warn,
                "log rotation option is not supported and has no effect",
                fields,
            );
        }
        Some(rotation)
    }
}

fn named(output: &str) -> Output {
    match output {
        "default" | "stderr" => Output::Stderr,
        "stdout" => Output::Stdout,
        "systemd/journal" => Output::Journal,
        path => Output::File(path.into()),
    }
}

/// The rotation, and options that can't be kept.
fn parse_rotation(json: &str) -> Parsed<(Rotation, Vec<&'static str>)> {
    let value: Value = serde_json::from_str(json)
        .map_err(|e| format!("improperly formatted log rotation config: {e}"))?;
    let Value::Object(options) = value else {
        return Err("invalid log rotation config: expected an object".into());
    };
    let find = |name: &str| options.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    let number = |name: &str| match find(name) {
        None | Some((_, Value::Null)) => Ok(0),
        // What is negative says as little as 0 does.
        Some((_, value)) => value
            .as_i64()
            .map(|said| u64::try_from(said).unwrap_or(0))
            .ok_or_else(|| format!("invalid log rotation config: {name}: expected a number")),
    };
    let switch = |name: &str| match find(name) {
        None | Some((_, Value::Null)) => Ok(false),
        Some((_, value)) => value
            .as_bool()
            .ok_or_else(|| format!("invalid log rotation config: {name}: expected true or false")),
    };
    let megabytes = match number("maxsize")? {
        0 => MAXSIZE_MB_DEFAULT,
        said => said,
    };
    let rotation = Rotation {
        size_max: megabytes.saturating_mul(1 << 20),
        age_days_max: number("maxage")?,
        backups_max: usize::try_from(number("maxbackups")?).unwrap_or(usize::MAX),
    };
    let mut unkept = Vec::new();
    for name in ["localtime", "compress"] {
        if switch(name)? {
            unkept.push(name);
        }
    }
    Ok((rotation, unkept))
}

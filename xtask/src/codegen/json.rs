//! Turns pbjson's code into code that reads what Go's protojson reads.
//!
//! pbjson refuses `null`, numbers like `"1e3"`, and enum values it does not know. The places where
//! it does are few and alike, so they are rewritten to ask `proto::json`.

const NUMBER: &str = "::pbjson::private::NumberDeserialize";
const BYTES: &str = "::pbjson::private::BytesDeserialize";

pub(super) fn as_protojson(text: &str) -> String {
    // A field's variable is an Option already, so what is null can simply be none.
    let text = text.replace("Some(map_.next_value()?)", "map_.next_value()?");
    let text = rewrite(&text, "Some(map_.next_value::<", ">()?.0)", |inner| {
        format!("map_.next_value::<Option<{inner}>>()?.map(|x| x.0)")
    });
    let text = rewrite(&text, "Some(map_.next_value::<", ">()? as i32)", |inner| {
        format!("map_.next_value::<Option<crate::json::Enum<{inner}>>>()?.and_then(|x| x.0)")
    });
    let list_end = ">>()?.into_iter().map(|x| x as i32).collect())";
    let text = rewrite(&text, "Some(map_.next_value::<Vec<", list_end, |inner| {
        format!(
            "map_.next_value::<Option<Vec<crate::json::Enum<{inner}>>>>()?\
             .map(|list| list.into_iter().filter_map(|x| x.0).collect())"
        )
    });
    let text = rewrite(&text, "let v = ", "?;", |inner| {
        let (known, _) = inner.split_once(".map_err").unwrap_or((inner, ""));
        let number =
            known.split_once('(').map_or("", |(_, rest)| rest.trim_end().trim_end_matches(')'));
        if number.starts_with("self.") {
            format!("let v = crate::json::Named({}.map_err(|_| {number}));", known.trim_end())
        } else {
            format!("let v = {inner}?;")
        }
    });
    text.replace(NUMBER, "crate::json::Number").replace(BYTES, "crate::json::Base64")
}

/// Replaces what stands between `start` and `end`, both included, wherever that is one statement.
fn rewrite(text: &str, start: &str, end: &str, with: impl Fn(&str) -> String) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(start) {
        done.push_str(before);
        let statement = after.split_inclusive(';').next().unwrap_or_default();
        match statement.split_once(end) {
            Some((inner, _)) => {
                done.push_str(&with(inner));
                rest = &after[inner.len() + end.len()..];
            }
            None => {
                done.push_str(start);
                rest = after;
            }
        }
    }
    done.push_str(rest);
    done
}

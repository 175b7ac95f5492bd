//! The claims table, from `claims.json`.
//!
//! Reads any list of flat objects (or an object with such a list as `claims`), so that it does not
//! depend on how a claim is decided; the columns are the keys in the order below, then the others.

use super::escaped;
use crate::report::caption::number_text;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use thiserror::Error;

/// `claims.json` cannot be shown.
#[derive(Debug, Error)]
#[error("claims.json: {0}; decide the claims anew or remove the file")]
pub struct ClaimsError(String);

/// Keys that come first.
const FIRST: [&str; 8] =
    ["id", "claim", "text", "statement", "experiment", "verdict", "ratio", "threshold"];

/// The table, or that there is none.
pub(super) fn section(text: Option<&str>) -> Result<String, ClaimsError> {
    let Some(text) = text else {
        return Ok("<p>No claims were decided for this run (there is no claims.json).</p>".into());
    };
    let json: Value = serde_json::from_str(text).map_err(|error| ClaimsError(error.to_string()))?;
    let list = json.get("claims").unwrap_or(&json);
    let list = list.as_array().ok_or_else(|| ClaimsError("it holds no list of claims".into()))?;
    let rows: Vec<&Map<String, Value>> = list.iter().filter_map(Value::as_object).collect();
    if rows.len() < list.len() {
        return Err(ClaimsError("a claim is no object".to_owned()));
    }
    let keys: BTreeSet<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
    let first = FIRST.iter().copied().filter(|key| keys.contains(key));
    let others = keys.iter().copied().filter(|key| !FIRST.contains(key));
    let columns: Vec<&str> = first.chain(others).collect();
    let mut text = "<div class=\"scroll\"><table><thead><tr>".to_owned();
    for column in &columns {
        let _ = write!(text, "<th>{}</th>", escaped(&column.replace('_', " ")));
    }
    text.push_str("</tr></thead><tbody>\n");
    for row in rows {
        let cell = |key: &&str| format!("<td>{}</td>", escaped(&shown(row.get(*key))));
        let _ = writeln!(text, "<tr>{}</tr>", columns.iter().map(cell).collect::<String>());
    }
    Ok(text + "</tbody></table></div>")
}

/// A number rounded, a text as it is, the rest on one line.
fn shown(value: Option<&Value>) -> String {
    let Some(value) = value.filter(|value| !value.is_null()) else { return "-".to_owned() };
    if let Some(text) = value.as_str() {
        return text.replace('_', " ");
    }
    if let Some(object) = value.as_object() {
        let each = object.iter().map(|(key, inner)| format!("{key} {}", shown(Some(inner))));
        return each.collect::<Vec<_>>().join(", ");
    }
    if let Some(list) = value.as_array() {
        return list.iter().map(|inner| shown(Some(inner))).collect::<Vec<_>>().join(" to ");
    }
    value.as_f64().map_or_else(|| value.to_string(), number_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_list_of_objects_is_a_table_and_the_rest_is_an_error() {
        let text = r#"{"claims": [
            {"interval": [1.91234, 2.3], "id": "T1", "verdict": "does_not_hold", "p": null},
            {"id": "T2", "verdict": "holds", "interval": {"low": 1.5}}]}"#;
        let table = section(Some(text)).unwrap();
        assert!(table.contains("<th>id</th><th>verdict</th><th>interval</th>"), "{table}");
        assert!(table.contains("<td>does not hold</td><td>1.91 to 2.30</td><td>-</td>"), "{table}");
        assert!(section(None).unwrap().contains("no claims.json"));
        assert!(section(Some("{}")).unwrap_err().to_string().contains("no list"));
        assert!(section(Some("[1]")).is_err() && section(Some("nonsense")).is_err());
    }
}

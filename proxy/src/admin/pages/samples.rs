//! The last executions of a statement as clients have sent them: for operators, where they are kept.

use maud::{Markup, html};
use serde_json::Value;

use super::show::text::{name_or_none, visible};
use super::show::{Fields as _, figure, moment, sql};
use super::visit::{Said, Visit};

/// A section with them; nothing where none are kept or the viewer may not see them.
pub(super) fn section(samples: Option<&Said>, visit: &Visit) -> Markup {
    let answer = samples.and_then(Said::answer).filter(|answer| answer.is("kept"));
    let Some(answer) = answer else { return html! {} };
    let samples = answer.list("samples");
    html! {
        section #samples data-live aria-labelledby="samples-title" {
            h2 #samples-title { "As clients have sent it" }
            @if samples.is_empty() { p.empty { "None of its executions was kept." } }
            @for sample in samples { (one(sample, visit)) }
        }
    }
}

fn one(sample: &Value, visit: &Visit) -> Markup {
    let values = sample.list("parameters");
    let failed = sample.text("sqlstate");
    html! {
        p.when {
            (moment::ago(sample.text("started"), visit.now_us)) ", " (figure::ms(sample.count("duration_ms")))
            @if !failed.is_empty() { ", " code { (visible(failed)) } }
            ", " (name_or_none(sample.text("application"))) " of tenant " (name_or_none(sample.text("tenant")))
        }
        (sql::block(sample.text("text")))
        @if !values.is_empty() {
            dl.inline {
                @for (number, value) in values.iter().enumerate() {
                    div { dt { "$" (number + 1) } dd { @match value.as_str() { Some(text) => code { (visible(text)) }, None => "NULL" } } }
                }
            }
        }
    }
}

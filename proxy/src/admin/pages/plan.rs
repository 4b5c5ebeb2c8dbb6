//! Plans of slow statements, as trees of text.

use std::fmt::Write as _;

use maud::{Markup, html};
use serde_json::Value;

use super::show::figure;
use super::show::text::{name, visible};
use super::show::{Fields as _, moment};
use super::visit::Visit;

/// How deep a plan is drawn; a server's own limit is lower in practice.
const DEEPEST: usize = 64;
/// What is shown of one plan at most, in bytes.
const LONGEST: usize = 32 << 10;

/// Every plan that is kept of one statement.
pub(super) fn draw(answer: &Value, visit: &Visit) -> Markup {
    html! {
        @for (group, of) in answer.list("plans").iter().enumerate() {
            @for (at, plan) in of.list("plans").iter().enumerate() {
                details.plan open[group == 0 && at == 0] {
                    summary {
                        span.summary { (visible(plan.text("summary"))) } " "
                        span.beside {
                            (figure::ms(plan.count("duration_ms"))) ", cost " (figure::rate(plan.count("total_cost"))) ", "
                            @if visit.sees_all() { "tenant " (name(of.text("tenant"))) ", " }
                            "captured " (figure::count(plan.count("captures"))) "×, last "
                            (moment::ago(plan.text("last_seen"), visit.now_us))
                        }
                    }
                    @match plan.field("plan") {
                        Some(node) => pre.tree tabindex="0" dir="ltr" { (visible(&tree(node))) },
                        None => p.empty { "Its steps are not shown here." },
                    }
                    @if !plan.entries("settings").is_empty() {
                        p.note { "with "
                            @for (key, value) in plan.entries("settings") { code { (visible(key)) " = " (visible(&super::show::fields::plain(value))) } " " }
                        }
                    }
                }
            }
        }
    }
}

/// The steps, each below the one that wants its rows.
fn tree(node: &Value) -> String {
    let mut text = String::new();
    write_node(&mut text, node, 0);
    text
}

fn write_node(text: &mut String, node: &Value, depth: usize) {
    if depth > DEEPEST || text.len() > LONGEST {
        if !text.ends_with("…\n") {
            text.push_str("…\n");
        }
        return;
    }
    let indent = "   ".repeat(depth);
    let arrow = if depth == 0 { "" } else { "└─ " };
    let lead = "   ".repeat(depth.saturating_sub(1));
    let step = [node.text("Join Type"), node.text("Node Type")]
        .iter()
        .filter(|word| !word.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    _ = write!(text, "{lead}{arrow}{step}");
    for (word, key) in [(" using ", "Index Name"), (" on ", "Relation Name"), (" ", "Alias")] {
        let value = node.text(key);
        let is_said = key == "Alias" && value == node.text("Relation Name");
        if !value.is_empty() && !is_said {
            _ = write!(text, "{word}{value}");
        }
    }
    if let Some(cost) = node.number("Total Cost") {
        _ = write!(text, "  (cost {cost:.0}, rows {:.0})", node.count("Plan Rows"));
    }
    text.push('\n');
    for (key, value) in node.as_object().into_iter().flatten() {
        let told = [
            "Node Type",
            "Join Type",
            "Index Name",
            "Relation Name",
            "Alias",
            "Total Cost",
            "Startup Cost",
            "Plan Rows",
            "Plan Width",
        ];
        if value.is_string() && !told.contains(&key.as_str()) && is_worth_a_line(key) {
            _ = writeln!(text, "{indent}{key}: {}", value.as_str().unwrap_or_default());
        }
    }
    for child in node.list("Plans") {
        write_node(text, child, depth + 1);
    }
}

/// Conditions and keys explain a step; what is left says how the server goes about it.
fn is_worth_a_line(key: &str) -> bool {
    ["Cond", "Filter", "Key", "Strategy", "Operation"].iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_is_a_tree_of_its_steps() {
        let plan = json!({
            "Node Type": "Nested Loop", "Join Type": "Left", "Total Cost": 9.5, "Plan Rows": 3,
            "Plans": [{"Node Type": "Seq Scan", "Relation Name": "orders", "Alias": "o", "Filter": "(a = ?)"}],
        });
        assert_eq!(tree(&plan), "Left Nested Loop  (cost 10, rows 3)\n└─ Seq Scan on orders o\n   Filter: (a = ?)\n");
    }

    #[test]
    fn a_plan_without_an_end_is_cut() {
        let mut plan = json!({"Node Type": "Limit"});
        for _ in 0..100 {
            plan = json!({"Node Type": "Limit", "Plans": [plan]});
        }
        assert!(tree(&plan).lines().count() < 70 && tree(&plan).ends_with("…\n"));
        assert_eq!(tree(&json!("x")), "\n");
    }
}

//! The look of `/login`; what is done with a token there is the doorkeeper's.

use maud::{DOCTYPE, html};

use super::assets::links;
use super::layout::{head, mark};

/// The page that asks for a token; `next` is where it leads then.
pub(in super::super) fn login_page(message: Option<&str>, next: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(&links(), "Log in")) }
            body.alone {
                main #content {
                    p.brand { (mark()) "pgweir" }
                    h1 { "Log in" }
                    @if let Some(message) = message { p.refused role="alert" { (message) } }
                    form method="post" action="/login" {
                        input type="hidden" name="next" value=(next);
                        label for="token" { "Token" }
                        input #token name="token" type="password" autocomplete="current-password" required autofocus;
                        button type="submit" { "Log in" }
                    }
                    p.note { "A token of the configuration's " code { "[admin]" } " opens the dashboard; its role says what it may do." }
                }
            }
        }
    };
    page.into_string()
}

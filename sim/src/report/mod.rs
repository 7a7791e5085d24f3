//! Pages: what happened in a run, and what a sweep came to, each as one HTML file that needs nothing else.
//!
//! **Owns** the pages: `*.html`, `*.css` and `*.js` beside this file, which are put into one with the data. **Promises** that
//! a page makes no request, and that a page of a run stays below [`MAX_PAGE`]. **Never** judges: a page shows what the
//! invariants found.

mod run;
mod sweep;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use run::run_page;
pub use sweep::sweep_page;

/// Largest page of a run, in bytes. The limits of the recorder are made for it.
pub const MAX_PAGE: usize = 10_000_000;

/// The name of the page about a run, in a directory of such pages.
pub fn page_name(scenario: &str, seed: u64, mutant: Option<&str>) -> String {
    let mutant = mutant.map_or(String::new(), |mutant| format!("-{mutant}"));
    format!("{scenario}-{seed}{mutant}.html")
}

/// A page: a template with its `{{title}}`, `{{style}}`, `{{data}}` and `{{script}}`.
fn page(
    template: &str,
    title: &str,
    script: &str,
    data: &impl Serialize,
) -> serde_json::Result<String> {
    // Inside of a script element nothing but its end has a meaning.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let mut page = String::with_capacity(template.len() + script.len() + data.len());
    let mut rest = template;
    while let Some((before, (name, after))) = rest
        .split_once("{{")
        .and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
    {
        page.push_str(before);
        match name {
            "title" => page.push_str(&escape(title)),
            "style" => page.push_str(include_str!("page.css")),
            "data" => page.push_str(&data),
            "script" => {
                page.push_str(include_str!("page.js"));
                page.push_str(script);
            }
            unknown => page.push_str(unknown),
        }
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

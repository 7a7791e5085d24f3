//! The pages about a run and about a sweep, each one self-contained HTML file.
//!
//! **Owns** the pages: the `*.html`, `*.css` and `*.js` beside this file, which are joined with the
//! data. **Guarantees** that a page makes no request, and that the page of a run stays below
//! [`MAX_PAGE`]. **Never** judges: a page shows the findings of the invariants.

mod run;
mod sweep;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use run::run_page;
pub use sweep::sweep_page;

/// Largest page of a run, in bytes; the limits of the recorder are chosen for it.
pub const MAX_PAGE: usize = 10_000_000;

/// The file name of a run's page in a directory of such pages.
pub fn page_name(scenario: &str, seed: u64, mutant: Option<&str>) -> String {
    let mutant = mutant.map_or(String::new(), |mutant| format!("-{mutant}"));
    format!("{scenario}-{seed}{mutant}.html")
}

/// Fills `{{title}}`, `{{style}}`, `{{data}}` and `{{script}}` of a template.
fn page(
    template: &str,
    title: &str,
    scripts: &[&str],
    data: &impl Serialize,
) -> serde_json::Result<String> {
    // Without `<` the data cannot end its script element.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let mut page = String::with_capacity(template.len() + data.len());
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
                page.extend(scripts.iter().copied());
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

//! Pages: what happened in a run, and what a sweep came to, each as one HTML file that needs nothing else.
//!
//! **Owns** the recorder, the pages' data, and the pages themselves: `*.html`, `*.css` and `*.js` beside this file, which are
//! put into one with the data. **Promises** that a page makes no request, that a page of a run stays below [`MAX_PAGE`], and
//! that recording changes nothing of a run. **Never** judges: a page shows what oracles found.

mod explain;
mod messages;
mod record;
mod run;
mod shapes;
mod sweep;
#[cfg(test)]
mod whole;
mod words;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use explain::explain;
pub use record::{Record, Recorder};
pub use run::run_page;
pub use shapes::Window;
pub use sweep::sweep_page;

use crate::plan::parse_duration;

/// Largest page of a run, in bytes. The limits of the recorder are made for it.
pub const MAX_PAGE: usize = 10_000_000;

/// Reads `12s..15.5s`.
///
/// # Errors
/// What would be understood.
pub fn parse_window(text: &str) -> Result<Window, String> {
    let error = || format!("{text:?}: messages are wanted of a part of the run, as 12s..15.5s");
    let (from, to) = text.split_once("..").ok_or_else(error)?;
    let us = |text: &str| {
        parse_duration(text)
            .map(|ms| ms * 1_000)
            .map_err(|_| error())
    };
    let (from_us, to_us) = (us(from)?, us(to)?);
    if from_us < to_us {
        Ok(Window { from_us, to_us })
    } else {
        Err(error())
    }
}

/// The name of the page about a run, in a directory of such pages.
pub fn page_name(scenario: &str, seed: u64, mutant: Option<&str>) -> String {
    let mutant = mutant.map_or(String::new(), |mutant| format!("-{mutant}"));
    format!("{scenario}-{seed}{mutant}.html")
}

/// Writes a file at once: who reads it finds the old one or the whole new one.
///
/// # Errors
/// What the system says.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let new: PathBuf = path.with_file_name(name);
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_one_file_and_data_cannot_leave_its_place() {
        let template = "<title>{{title}}</title><script>{{data}}</script>";
        let page = page(template, "a < b", "", &"</script>{{title}}").expect("is made");
        assert_eq!(
            page,
            "<title>a &lt; b</title><script>\"\\u003c/script>{{title}}\"</script>"
        );
        for template in [include_str!("run.html"), include_str!("sweep.html")] {
            for name in ["{{title}}", "{{style}}", "{{data}}", "{{script}}"] {
                assert_eq!(template.matches(name).count(), 1, "{name}");
            }
        }
        let texts = [
            include_str!("run.html"),
            include_str!("sweep.html"),
            include_str!("page.css"),
            include_str!("page.js"),
            include_str!("run.js"),
            include_str!("sweep.js"),
        ];
        for text in texts {
            for outside in [
                "http:", "https:", "import ", "@import", "fetch(", "url(", " src=",
            ] {
                assert!(!text.contains(outside), "{outside}");
            }
        }
    }

    #[test]
    fn windows_are_two_moments() {
        assert_eq!(
            parse_window("12s..15.5s"),
            Ok(Window {
                from_us: 12_000_000,
                to_us: 15_500_000
            })
        );
        for wrong in ["", "12s", "12s..", "15s..12s", "1..2"] {
            assert!(parse_window(wrong).is_err(), "{wrong}");
        }
    }
}

//! Names that Rust code uses, its attributes, and its cfgs of the simulation.
//!
//! Comments and strings name nothing. The input of a macro is searched like any other code.

use proc_macro2::{Ident, LexError, Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::{ItemUse, Meta, UseTree};

/// A path in code. `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Its segments; `*` for a glob import. A keyword is a path of its own.
    pub parts: Vec<String>,
    /// The line of the last segment, from 1.
    pub line: usize,
    /// Called as a macro.
    pub is_macro: bool,
    /// Inside a module that is compiled for tests only.
    pub in_tests: bool,
}

/// An attribute, inner or outer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its path.
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    /// Has an argument `reason`.
    pub has_reason: bool,
}

/// The findings of a scan, in the order of the file.
#[derive(Debug, Default)]
pub struct Source {
    /// Paths of code, imports and macro calls.
    pub paths: Vec<Path>,
    /// Attributes.
    pub attributes: Vec<Attribute>,
    /// Lines with `madsim` as a predicate of `cfg`, `cfg_attr` or `cfg!`.
    pub simulation_cfgs: Vec<usize>,
}

impl Path {
    /// The path as written, with `::`.
    pub fn text(&self) -> String {
        self.parts.join("::")
    }
}

/// Reads one file.
///
/// # Errors
/// When the file has no tokens of Rust, such as an open string.
pub fn scan(source: &str) -> Result<Source, LexError> {
    let mut scanner = Scanner::default();
    scanner.tokens(source.parse()?, false);
    Ok(scanner.found)
}

#[derive(Default)]
struct Scanner {
    found: Source,
    /// Test modules around the current token.
    test_modules: usize,
}

impl Scanner {
    fn tokens(&mut self, tokens: TokenStream, in_cfg: bool) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = trees.as_slice();
        // The item that follows is compiled for tests only.
        let mut is_test = false;
        while let Some((tree, after)) = rest.split_first() {
            let length = match tree {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let (length, is_test_cfg) = self.attribute(after);
                    is_test |= is_test_cfg;
                    length
                }
                TokenTree::Ident(ident) if ident == "mod" && is_test => self.test_module(after),
                // `use<..>` captures lifetimes.
                TokenTree::Ident(ident)
                    if ident == "use" && !after.first().is_some_and(|next| is_punct(next, '<')) =>
                {
                    self.use_declaration(rest)
                }
                TokenTree::Ident(ident) => self.path(ident, after, in_cfg),
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), in_cfg);
                    1
                }
                // A lifetime names nothing.
                TokenTree::Punct(punct) if punct.as_char() == '\'' => 2,
                TokenTree::Punct(_) | TokenTree::Literal(_) => 1,
            };
            is_test &=
                is_punct(tree, '#') || matches!(tree, TokenTree::Ident(name) if name == "pub");
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// The attribute whose `#` stands before `after`. Returns its length in trees, and whether it
    /// is a cfg of tests.
    fn attribute(&mut self, after: &[TokenTree]) -> (usize, bool) {
        let marks = after.iter().take_while(|tree| is_punct(tree, '!')).count();
        let Some(TokenTree::Group(group)) = after.get(marks) else {
            return (1, false);
        };
        let Ok(meta) = syn::parse2::<Meta>(group.stream()) else {
            return (1, false);
        };
        let segments = meta.path().segments.iter();
        let name = segments
            .map(|segment| text(&segment.ident))
            .collect::<Vec<_>>()
            .join("::");
        let is_cfg = matches!(name.as_str(), "cfg" | "cfg_attr");
        let is_reason =
            |tree: TokenTree| matches!(tree, TokenTree::Ident(name) if name == "reason");
        self.found.attributes.push(Attribute {
            name,
            line: group.span_open().start().line,
            has_reason: matches!(
                &meta,
                Meta::List(list) if list.tokens.clone().into_iter().any(is_reason)
            ),
        });
        self.tokens(group.stream(), is_cfg);
        (2 + marks, is_cfg && is_test_cfg(&meta))
    }

    /// The name and body of a module for tests. Returns its length in trees, `mod` included.
    fn test_module(&mut self, after: &[TokenTree]) -> usize {
        let [_, TokenTree::Group(body), ..] = after else {
            return 1;
        };
        self.test_modules += 1;
        self.tokens(body.stream(), false);
        self.test_modules -= 1;
        3
    }

    /// The declaration `use ..;` at the start of `trees`. Returns its length in trees.
    fn use_declaration(&mut self, trees: &[TokenTree]) -> usize {
        let Some(end) = trees.iter().position(|tree| is_punct(tree, ';')) else {
            return 1;
        };
        let declaration = trees[..=end].iter().cloned().collect();
        // The pattern of a macro has placeholders.
        let Ok(item) = syn::parse2::<ItemUse>(declaration) else {
            return 1;
        };
        self.use_tree(&item.tree, &[]);
        end + 1
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |ident: &Ident| [prefix, &[text(ident)]].concat();
        match tree {
            UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix);
                }
            }
            UseTree::Glob(glob) => {
                let parts = [prefix, &["*".to_owned()]].concat();
                self.add(parts, glob.star_token.spans[0], false);
            }
            UseTree::Name(name) => self.use_leaf(&name.ident, prefix),
            UseTree::Rename(rename) => self.use_leaf(&rename.ident, prefix),
        }
    }

    /// `self` in a group imports the prefix.
    fn use_leaf(&mut self, ident: &Ident, prefix: &[String]) {
        let mut parts = prefix.to_vec();
        if parts.is_empty() || ident != "self" {
            parts.push(text(ident));
        }
        self.add(parts, ident.span(), false);
    }

    /// The path that starts with `first`, and the input if it is a macro call. Returns its length
    /// in trees.
    fn path(&mut self, first: &Ident, after: &[TokenTree], in_cfg: bool) -> usize {
        let mut parts = vec![text(first)];
        let mut last = first;
        let mut rest = after;
        while let [one, two, TokenTree::Ident(next), more @ ..] = rest
            && is_punct(one, ':')
            && is_punct(two, ':')
        {
            parts.push(text(next));
            last = next;
            rest = more;
        }
        let length = 1 + after.len() - rest.len();
        if in_cfg && parts == ["madsim"] {
            self.found.simulation_cfgs.push(last.span().start().line);
            return length;
        }
        let is_cfg = parts == ["cfg"];
        let [mark, TokenTree::Group(input), ..] = rest else {
            self.add(parts, last.span(), false);
            return length;
        };
        let is_macro = is_punct(mark, '!');
        self.add(parts, last.span(), is_macro);
        if !is_macro {
            return length;
        }
        self.tokens(input.stream(), is_cfg);
        length + 2
    }

    fn add(&mut self, parts: Vec<String>, span: Span, is_macro: bool) {
        self.found.paths.push(Path {
            parts,
            line: span.start().line,
            is_macro,
            in_tests: self.test_modules > 0,
        });
    }
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

fn is_punct(tree: &TokenTree, mark: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// True for a predicate that holds in tests only, and for the `cfg` around it.
fn is_test_cfg(predicate: &Meta) -> bool {
    type Predicates = syn::punctuated::Punctuated<Meta, syn::Token![,]>;
    let Meta::List(list) = predicate else {
        return predicate.path().is_ident("test");
    };
    let Ok(inner) = list.parse_args_with(Predicates::parse_terminated) else {
        return false;
    };
    if list.path.is_ident("any") {
        inner.iter().all(is_test_cfg)
    } else {
        !list.path.is_ident("not") && inner.iter().any(is_test_cfg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<Path> {
        scan(source).expect("Rust").paths
    }

    fn named(source: &str) -> Vec<(String, usize)> {
        let paths = paths(source);
        paths.iter().map(|path| (path.text(), path.line)).collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let source = "use std::{fs, time::{self, Duration as D,\n Instant}, net::*};\n\
                      pub use a::r#b;\nfn f() { c::d::<e::f>(); }";
        let expected = [
            ("std::fs", 1),
            ("std::time", 1),
            ("std::time::Duration", 1),
            ("std::time::Instant", 2),
            ("std::net::*", 2),
            ("pub", 3),
            ("a::b", 3),
            ("fn", 4),
            ("f", 4),
            ("c::d", 4),
            ("e::f", 4),
        ];
        assert_eq!(
            named(source),
            expected.map(|(text, line)| (text.to_owned(), line))
        );
    }

    #[test]
    fn comments_strings_characters_and_lifetimes_name_nothing() {
        let source = r####"
            // tokio::spawn
            /* std::fs /* nested */ std::net */
            /// tokio
            impl<'tokio> A<'tokio> for B {
                m!("tokio \"", r#"tokio " "#, b"tokio", '"', '\'', br##"tokio"# "##, 'é', 1.0e3);
            }
        "####;
        let named: Vec<String> = named(source).into_iter().map(|(text, _)| text).collect();
        assert_eq!(named, ["doc", "impl", "A", "for", "B", "m"]);
    }

    #[test]
    fn macro_input_is_searched() {
        let source = "select! { x = a::b(c::d!(e), 1 != 2) => {} \n\
                      use g::{h, i}; use<'a>; #[ignore] #[allow(j)] cfg!(madsim) }";
        let found = scan(source).expect("Rust");
        let text: Vec<String> = found.paths.iter().map(Path::text).collect();
        let names = ["select", "x", "a::b", "c::d", "e", "g::h", "g::i", "use"];
        assert_eq!(text[..names.len()], names);
        let macros = found
            .paths
            .iter()
            .filter(|path| path.is_macro)
            .map(Path::text);
        assert_eq!(macros.collect::<Vec<_>>(), ["select", "c::d", "cfg"]);
        let attributes = found
            .attributes
            .iter()
            .map(|one| (one.name.as_str(), one.line));
        assert_eq!(
            attributes.collect::<Vec<_>>(),
            [("ignore", 2), ("allow", 2)]
        );
        assert_eq!(found.simulation_cfgs, [2]);
    }

    #[test]
    fn attributes_and_cfgs_are_found() {
        let source = "#![cfg(not(madsim))]\n#[cfg_attr(all(test, madsim), allow(x))]\n\
                      #[expect(y, reason = \"z\")]\n#[madsim::test]\nfn f() { if cfg!(madsim) {} }";
        let found = scan(source).expect("Rust");
        assert_eq!(found.simulation_cfgs, [1, 2, 5]);
        let attributes = found.attributes.iter();
        let attributes: Vec<_> = attributes
            .map(|one| (one.name.as_str(), one.has_reason))
            .collect();
        let expected = [
            ("cfg", false),
            ("cfg_attr", false),
            ("expect", true),
            ("madsim::test", false),
        ];
        assert_eq!(attributes, expected);
    }

    #[test]
    fn modules_for_tests_are_marked() {
        let source = "use a::b; #[cfg(test)] mod tests { fn f() { c::d } } \
                      #[cfg(all(test, not(madsim)))] #[allow(x)] pub mod more { use e::f; } \
                      #[cfg(not(test))] mod kept { use g::h; } \
                      #[cfg(any(test, x))] mod also { use i::j; } #[cfg(test)] mod file; k::l!();";
        let paths = paths(source);
        let kept = paths
            .iter()
            .filter(|path| path.parts.len() > 1 && !path.in_tests);
        assert_eq!(
            kept.map(Path::text).collect::<Vec<_>>(),
            ["a::b", "g::h", "i::j", "k::l"]
        );
    }

    #[test]
    fn source_that_is_not_rust_is_an_error() {
        for source in ["'", "\"", "/*", "fn f( {}", "}"] {
            assert!(scan(source).is_err(), "{source}");
        }
    }
}

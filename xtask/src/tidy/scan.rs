//! Names that Rust code uses, its attributes, and its cfgs of the simulation, as `syn` reads them.
//!
//! Comments and strings name nothing. The input of a macro is not Rust yet: its tokens are searched for paths,
//! attributes and `use` declarations.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Macro, Meta, UseTree};

/// A path in code. `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Its segments; `*` for a glob import.
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
pub struct NamedAttribute {
    /// Its path.
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    /// Has an argument `reason`.
    pub has_reason: bool,
}

/// Everything found in one file, in the order of the syntax tree.
#[derive(Debug, Default)]
pub struct Source {
    /// Paths of code, imports and macro calls.
    pub paths: Vec<Path>,
    /// Attributes.
    pub attributes: Vec<NamedAttribute>,
    /// Lines with `madsim` as a predicate of `cfg`, `cfg_attr` or `cfg!`.
    pub simulation_cfgs: Vec<usize>,
}

impl Path {
    /// The path as written, with `::`.
    pub fn text(&self) -> String {
        self.parts.join("::")
    }

    /// True when the last segments are these.
    pub fn ends_with(&self, parts: &[&str]) -> bool {
        let start = self.parts.len().checked_sub(parts.len());
        start.is_some_and(|start| self.parts[start..] == *parts)
    }
}

/// Reads one file.
///
/// # Errors
/// When the file is not Rust.
pub fn scan(source: &str) -> syn::Result<Source> {
    let file = syn::parse_file(source)?;
    let mut scanner = Scanner::default();
    scanner.visit_file(&file);
    Ok(scanner.found)
}

#[derive(Default)]
struct Scanner {
    found: Source,
    /// Test modules around the current node.
    test_modules: usize,
}

impl<'ast> Visit<'ast> for Scanner {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let is_test = item.attrs.iter().any(is_test_cfg);
        self.test_modules += usize::from(is_test);
        visit::visit_item_mod(self, item);
        self.test_modules -= usize::from(is_test);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
        self.use_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add_path(path, false);
        // Generic arguments hold further paths.
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.add_path(&call.path, true);
        self.tokens(call.tokens.clone(), call.path.is_ident("cfg"));
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        self.meta(&attribute.meta);
    }
}

impl Scanner {
    fn add(&mut self, parts: Vec<String>, span: Span, is_macro: bool) {
        self.found.paths.push(Path {
            parts,
            line: span.start().line,
            is_macro,
            in_tests: self.test_modules > 0,
        });
    }

    fn add_path(&mut self, path: &syn::Path, is_macro: bool) {
        let Some(last) = path.segments.last() else {
            return;
        };
        let parts = path.segments.iter().map(|segment| text(&segment.ident));
        self.add(parts.collect(), last.ident.span(), is_macro);
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

    fn meta(&mut self, meta: &Meta) {
        self.add_path(meta.path(), false);
        let Some(path) = self.found.paths.last() else {
            return;
        };
        let mut attribute = NamedAttribute {
            name: path.text(),
            line: path.line,
            has_reason: false,
        };
        if let Meta::List(list) = meta {
            let is_reason =
                |tree: TokenTree| matches!(tree, TokenTree::Ident(name) if name == "reason");
            attribute.has_reason = list.tokens.clone().into_iter().any(is_reason);
            let is_cfg = matches!(attribute.name.as_str(), "cfg" | "cfg_attr");
            self.tokens(list.tokens.clone(), is_cfg);
        }
        self.found.attributes.push(attribute);
    }

    /// Searches the input of a macro or attribute.
    fn tokens(&mut self, tokens: TokenStream, in_cfg: bool) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = trees.as_slice();
        while let Some((tree, after)) = rest.split_first() {
            let length = match tree {
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), in_cfg);
                    1
                }
                TokenTree::Ident(ident) if ident == "use" => self.use_tokens(rest),
                TokenTree::Ident(ident) => self.path_tokens(ident, after, in_cfg),
                TokenTree::Punct(punct) if punct.as_char() == '#' => self.attribute_tokens(after),
                // A lifetime names nothing.
                TokenTree::Punct(punct) if punct.as_char() == '\'' => 2,
                TokenTree::Punct(_) | TokenTree::Literal(_) => 1,
            };
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// A declaration `use ..;` at the start of `trees`. Returns its length in trees.
    fn use_tokens(&mut self, trees: &[TokenTree]) -> usize {
        let Some(end) = trees.iter().position(|tree| is_punct(tree, ';')) else {
            return 1;
        };
        let declaration = trees[..=end].iter().cloned().collect();
        let Ok(item) = syn::parse2::<ItemUse>(declaration) else {
            return 1;
        };
        self.visit_item_use(&item);
        end + 1
    }

    /// The path that starts with `first`. Returns its length in trees.
    fn path_tokens(&mut self, first: &Ident, after: &[TokenTree], in_cfg: bool) -> usize {
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
        let call = match rest {
            [mark, TokenTree::Group(group), ..] if is_punct(mark, '!') => Some(group),
            _ => None,
        };
        if in_cfg && parts == ["madsim"] {
            self.found.simulation_cfgs.push(last.span().start().line);
            return length;
        }
        let is_cfg = parts == ["cfg"];
        self.add(parts, last.span(), call.is_some());
        let Some(group) = call else {
            return length;
        };
        self.tokens(group.stream(), is_cfg);
        length + 2
    }

    /// An attribute whose `#` stands before `after`. Returns its length in trees.
    fn attribute_tokens(&mut self, after: &[TokenTree]) -> usize {
        let marks = after.iter().take_while(|tree| is_punct(tree, '!')).count();
        let Some(TokenTree::Group(group)) = after.get(marks) else {
            return 1;
        };
        if group.delimiter() != Delimiter::Bracket {
            return 1;
        }
        let Ok(meta) = syn::parse2::<Meta>(group.stream()) else {
            return 1;
        };
        self.meta(&meta);
        2 + marks
    }
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

fn is_punct(tree: &TokenTree, mark: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// `cfg(..)` with a predicate that holds in tests only.
fn is_test_cfg(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else {
        return false;
    };
    list.path.is_ident("cfg")
        && list
            .parse_args::<Meta>()
            .is_ok_and(|meta| implies_test(&meta))
}

fn implies_test(predicate: &Meta) -> bool {
    type Predicates = syn::punctuated::Punctuated<Meta, syn::Token![,]>;
    match predicate {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => {
            let Ok(inner) = list.parse_args_with(Predicates::parse_terminated) else {
                return false;
            };
            if list.path.is_ident("all") {
                inner.iter().any(implies_test)
            } else {
                list.path.is_ident("any") && inner.iter().all(implies_test)
            }
        }
        Meta::NameValue(_) => false,
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
            ("a::b", 3),
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
            fn f<'tokio>(x: &'tokio str) {
                let _ = ("tokio \"", r#"tokio " "#, b"tokio", '"', '\'', br##"tokio"# "##);
                m!("tokio" 'tokio /* tokio */);
            }
        "####;
        let named: Vec<String> = named(source).into_iter().map(|(text, _)| text).collect();
        assert_eq!(named, ["doc", "str", "m"]);
    }

    #[test]
    fn macro_input_is_searched() {
        let source = "fn f() { select! { x = a::b(c::d!(e), 1 != 2) => {} \n\
                      use g::{h, i}; #[ignore] #[allow(j)] cfg!(madsim) } }";
        let names = ["select", "x", "a::b", "c::d", "e", "g::h", "g::i"];
        let found = scan(source).expect("Rust");
        let text: Vec<String> = found.paths.iter().map(Path::text).collect();
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
                      #[cfg(all(test, not(madsim)))] mod more { use e::f; } \
                      #[cfg(not(test))] mod kept { use g::h; } \
                      #[cfg(any(test, x))] mod also { use i::j; }";
        let paths = paths(source);
        let kept = paths
            .iter()
            .filter(|path| path.parts.len() > 1 && !path.in_tests);
        assert_eq!(
            kept.map(Path::text).collect::<Vec<_>>(),
            ["a::b", "g::h", "i::j"]
        );
    }

    #[test]
    fn source_that_is_not_rust_is_an_error() {
        for source in ["use", "use a::{", "'", "\"", "/*", "fn f( {}"] {
            assert!(scan(source).is_err(), "{source}");
        }
    }
}

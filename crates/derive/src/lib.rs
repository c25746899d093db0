//! Derive macros of Piton: `State` and `Element`.
//!
//! They are re-exported by `piton` beside the traits of the same names; use them from there.

mod element;
mod state;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `piton::State` for a struct with named fields: each field of the struct becomes a protected field of the
/// same name.
///
/// How a field is protected follows from its type as it is written: `Vec<_>`, `PagedVec<_>`, `Box<[_]>`, `&mut [_]`,
/// fixed arrays of numbers, and ndarray's `Array…<_>` are arrays of plain numbers; everything else is a value that serde
/// carries. An attribute says otherwise:
///
/// | attribute | the field is |
/// | --- | --- |
/// | `#[piton(array)]` | an array of plain numbers |
/// | `#[piton(value)]` | a value that serde carries |
/// | `#[piton(nest)]` | a state of its own, its fields named `field.inner`; its `prepare` and `restored` are called |
/// | `#[piton(constant)]` | a value that must be the same on resume |
/// | `#[piton(skip)]` | not protected |
/// | `#[piton(rename = "name")]` | protected under another name (together with any of the others but `skip`) |
/// | `#[piton(finite)]` | an array without NaN or infinity (`piton::ArrayField::finite`) |
/// | `#[piton(within = "0.0..=1.0")]` | an array of numbers in this range, both ends included (`piton::ArrayField::within`) |
#[proc_macro_derive(State, attributes(piton))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `piton::Element` for a `#[repr(C)]` struct with named fields, all of them elements and without padding
/// between or after them, so that it can be the element of a protected array.
///
/// The struct must be `Clone` and `Copy`. That it has no padding is checked when it is compiled, which makes it plain
/// old data: `bytemuck::Pod` and `bytemuck::Zeroable` are implemented too. Where they are there already, say
/// `#[piton(pod)]` on the struct.
#[proc_macro_derive(Element, attributes(piton))]
pub fn derive_element(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    element::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// The named fields of a struct, or what to do about it.
fn named_fields<'i>(input: &'i DeriveInput, derived: &str) -> syn::Result<&'i syn::FieldsNamed> {
    let problem = match &input.data {
        syn::Data::Struct(data) => match &data.fields {
            syn::Fields::Named(named) => return Ok(named),
            _ => "needs a struct with named fields: give the fields names, they are what a checkpoint calls them by",
        },
        syn::Data::Enum(_) => "cannot be derived for an enum: put it into a struct as a field",
        syn::Data::Union(_) => "cannot be derived for a union",
    };
    Err(syn::Error::new_spanned(&input.ident, format!("{derived} {problem}")))
}

/// A field's name without the `r#` of raw identifiers.
fn plain_name(ident: &syn::Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}

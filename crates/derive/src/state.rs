//! `#[derive(State)]`: in comes a struct with named fields, out goes its description, field by field.

use proc_macro2::{TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{DeriveInput, Error, Field, GenericArgument, LitStr, PathArguments, Result, Type};

use crate::{named_fields, plain_name};

/// How a field is protected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Array,
    Value,
    Nest,
    Constant,
    Skip,
}

/// What the attributes of a field say.
struct Said {
    way: Way,
    name: String,
    finite: bool,
    within: Option<TokenStream>,
}

pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let ident = &input.ident;
    if let Some(attribute) = input.attrs.iter().find(|attribute| attribute.path().is_ident("piton")) {
        return Err(Error::new_spanned(attribute, "derive(State) knows attributes of fields only"));
    }
    let type_parameters: Vec<_> = input.generics.type_params().map(|parameter| parameter.ident.clone()).collect();
    let mut generics = input.generics.clone();
    let mut describe = Vec::new();
    let mut prepare = Vec::new();
    let mut restored = Vec::new();
    for field in &named_fields(input, "State")?.named {
        let Said { way, name, finite, within } = attributes(field)?;
        let member = field.ident.as_ref().expect("a named field has a name");
        let ty = &field.ty;
        // Errors about the type should point at it.
        let span = ty.span();
        let bound = match way {
            Way::Skip => continue,
            Way::Array => {
                let finite = finite.then(|| quote! { .finite() });
                let within = within.map(|range| quote! { .within(#range) });
                describe.push(quote_spanned! { span => fields.array(#name, &mut self.#member) #finite #within; });
                quote! { ::piton::state::Array }
            }
            Way::Value => {
                describe.push(quote_spanned! { span => fields.value(#name, &mut self.#member); });
                quote! {
                    ::piton::state::__private::serde::Serialize
                    + ::piton::state::__private::serde::de::DeserializeOwned
                    + ::core::marker::Send
                }
            }
            Way::Constant => {
                describe.push(quote_spanned! { span => fields.constant(#name, &self.#member); });
                quote! { ::piton::state::__private::serde::Serialize }
            }
            Way::Nest => {
                describe.push(quote_spanned! { span => fields.nest(#name, &mut self.#member); });
                prepare.push(quote_spanned! { span =>
                    ::piton::State::prepare(&mut self.#member, &saved.nested(#name))?;
                });
                restored.push(quote_spanned! { span => ::piton::State::restored(&mut self.#member); });
                quote! { ::piton::State }
            }
        };
        if mentions(ty, &type_parameters) {
            generics.make_where_clause().predicates.push(syn::parse_quote_spanned! { span => #ty: #bound });
        }
    }
    let hooks = (!prepare.is_empty()).then(|| {
        quote! {
            fn prepare(
                &mut self,
                saved: &::piton::Outline,
            ) -> ::core::result::Result<(), ::piton::Unfit> {
                #(#prepare)*
                ::core::result::Result::Ok(())
            }

            fn restored(&mut self) {
                #(#restored)*
            }
        }
    });
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::piton::State for #ident #type_generics #where_clause {
            fn describe<'piton>(&'piton mut self, fields: &mut ::piton::Fields<'piton>) {
                let _ = &fields;
                #(#describe)*
            }

            #hooks
        }
    })
}

/// How a field is protected, under which name, and which values it may have, by its attributes or else its type and identifier.
fn attributes(field: &Field) -> Result<Said> {
    let mut way = None;
    let mut name = None;
    let (mut finite, mut within) = (false, None);
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("piton")) {
        attribute.parse_nested_meta(|meta| {
            let said = match meta.path.get_ident().map(ToString::to_string).as_deref() {
                Some("array") => Way::Array,
                Some("value") => Way::Value,
                Some("nest") => Way::Nest,
                Some("constant") => Way::Constant,
                Some("skip") => Way::Skip,
                Some("rename") => {
                    let literal: LitStr = meta.value()?.parse()?;
                    let text = literal.value();
                    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
                        let message = "a name has 1 to 255 bytes and no control characters";
                        return Err(Error::new_spanned(literal, message));
                    }
                    return match name.replace(text) {
                        Some(_) => Err(meta.error("`rename` is said twice")),
                        None => Ok(()),
                    };
                }
                Some("finite") => {
                    finite = true;
                    return Ok(());
                }
                Some("within") => {
                    let literal: LitStr = meta.value()?.parse()?;
                    let range = literal.parse::<TokenStream>().ok().filter(is_closed_range);
                    let Some(range) = range else {
                        let message = "a range with both its ends, say `within = \"0.0..=1.0\"`";
                        return Err(Error::new_spanned(literal, message));
                    };
                    return match within.replace(range) {
                        Some(_) => Err(meta.error("`within` is said twice")),
                        None => Ok(()),
                    };
                }
                _ => {
                    return Err(meta.error(
                        "unknown attribute; fields know `array`, `value`, `nest`, `constant`, `skip`, `rename = \"…\"`, `finite`, \
                         `within = \"…\"`",
                    ));
                }
            };
            if way.replace(said).is_some() {
                return Err(meta.error("a field is protected in one way only"));
            }
            Ok(())
        })?;
    }
    if way == Some(Way::Skip) && name.is_some() {
        return Err(Error::new_spanned(field, "`rename` means nothing where the field is skipped"));
    }
    let way = way.unwrap_or_else(|| by_type(&field.ty));
    if way != Way::Array && (finite || within.is_some()) {
        let message =
            "`finite` and `within` are about the numbers of an array; of what only looks otherwise, say `array` too";
        return Err(Error::new_spanned(field, message));
    }
    let ident = field.ident.as_ref().expect("a named field has a name");
    Ok(Said { way, name: name.unwrap_or_else(|| plain_name(ident)), finite, within })
}

/// Whether something stands on both sides of `..=`. What it is, the compiler checks.
fn is_closed_range(range: &TokenStream) -> bool {
    let tokens: Vec<TokenTree> = range.clone().into_iter().collect();
    let is = |token: &TokenTree, sign: char| matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign);
    let dots = tokens.windows(3).position(|three| is(&three[0], '.') && is(&three[1], '.') && is(&three[2], '='));
    dots.is_some_and(|place| place > 0 && place + 3 < tokens.len())
}

/// What a macro can see is only how the type is written.
fn by_type(ty: &Type) -> Way {
    match ty {
        Type::Paren(inner) => by_type(&inner.elem),
        Type::Group(inner) => by_type(&inner.elem),
        Type::Reference(reference) => match &*reference.elem {
            Type::Slice(_) => Way::Array,
            inner => by_type(inner),
        },
        Type::Array(array) if is_number(&array.elem) => Way::Array,
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Way::Value };
            match last.ident.to_string().as_str() {
                "Vec" | "PagedVec" | "Array" | "ArrayD" | "ArrayViewMut" | "ArrayViewMutD" => Way::Array,
                "Array0" | "Array1" | "Array2" | "Array3" | "Array4" | "Array5" | "Array6" => Way::Array,
                "Box" if matches!(first_argument(&last.arguments), Some(Type::Slice(_))) => Way::Array,
                _ => Way::Value,
            }
        }
        _ => Way::Value,
    }
}

fn first_argument(arguments: &PathArguments) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// A number, or a fixed array of such.
fn is_number(ty: &Type) -> bool {
    match ty {
        Type::Array(array) => is_number(&array.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            let names = ["f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "Complex32", "Complex64"];
            names.iter().any(|name| last.ident == name) || last.ident == "Complex"
        }),
        _ => false,
    }
}

/// Whether a type depends on one of the type parameters, and so needs a bound.
fn mentions(ty: &Type, parameters: &[syn::Ident]) -> bool {
    struct Search<'p> {
        parameters: &'p [syn::Ident],
        found: bool,
    }
    impl<'ast> Visit<'ast> for Search<'_> {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            let first = path.segments.first().map(|segment| &segment.ident);
            self.found |= first.is_some_and(|ident| self.parameters.contains(ident));
            syn::visit::visit_path(self, path);
        }
    }
    let mut search = Search { parameters, found: false };
    search.visit_type(ty);
    search.found
}

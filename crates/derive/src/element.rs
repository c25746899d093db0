//! `#[derive(Element)]`: in comes a `#[repr(C)]` struct, out go its kind and the proof that it is plain old data.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Result};

use crate::{named_fields, plain_name};

pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let ident = &input.ident;
    let fields = named_fields(input, "Element")?;
    if !input.generics.params.is_empty() {
        let message = "Element cannot be derived for a generic struct, because whether it has padding is unknown here";
        return Err(Error::new_spanned(&input.generics, message));
    }
    if fields.named.is_empty() {
        return Err(Error::new_spanned(ident, "Element needs at least one field"));
    }
    if !has_c_layout(input)? {
        return Err(Error::new_spanned(ident, "Element needs a fixed layout: add `#[repr(C)]` to the struct"));
    }

    let mut entries = Vec::new();
    let mut sizes = Vec::new();
    let mut proofs = Vec::new();
    for field in &fields.named {
        let name = field.ident.as_ref().expect("a named field has a name");
        let text = plain_name(name);
        let ty = &field.ty;
        entries.push(quote! {
            ::piton::state::KindField {
                name: #text,
                kind: <#ty as ::piton::Element>::KIND,
                offset: ::core::mem::offset_of!(#ident, #name),
            }
        });
        sizes.push(quote! { ::core::mem::size_of::<#ty>() });
        proofs.push(quote_spanned! { ty.span() => must_be_an_element::<#ty>(); });
    }
    let padding = format!(
        "`{ident}` has padding: order its fields from the widest to the narrowest, and fill the rest with a field, \
         say `padding: [u8; N]`"
    );
    let plain_old_data = (!says_pod(input)?).then(|| {
        quote! {
            // SAFETY: every field is plain old data (`must_be_an_element`), the layout is C's, and the assertion
            // below proves that there is no padding between or after the fields. `Copy` is required by the trait.
            unsafe impl ::piton::state::__private::bytemuck::Zeroable for #ident {}
            // SAFETY: as above.
            unsafe impl ::piton::state::__private::bytemuck::Pod for #ident {}
        }
    });
    Ok(quote! {
        const _: () = {
            #plain_old_data

            #[automatically_derived]
            impl ::piton::Element for #ident {
                const KIND: ::piton::Kind = ::piton::Kind::Record {
                    fields: &[#(#entries),*],
                    bytes: ::core::mem::size_of::<#ident>(),
                };
            }

            const fn must_be_an_element<T: ::piton::Element>() {}
            #(#proofs)*
            ::core::assert!(::core::mem::size_of::<#ident>() == 0 #(+ #sizes)*, #padding);
        };
    })
}

fn has_c_layout(input: &DeriveInput) -> Result<bool> {
    let mut found = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("C");
            if meta.path.is_ident("packed") || meta.path.is_ident("align") {
                return Err(meta.error("Element cannot be derived for packed or aligned structs; `#[repr(C)]` alone"));
            }
            Ok(())
        })?;
    }
    Ok(found)
}

fn says_pod(input: &DeriveInput) -> Result<bool> {
    let mut found = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("piton")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("pod") {
                return Err(meta.error("unknown attribute; a struct of derive(Element) knows `pod`"));
            }
            found = true;
            Ok(())
        })?;
    }
    Ok(found)
}

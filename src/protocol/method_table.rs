//! `methods!`: from a table of methods to their types, decoder and encoder.

/// Makes of each row a struct, and of all rows the enum `Method` with its questions, decoder and encoder.
///
/// A row is `Name<'a> = (class, method, "class.method", options) { field: type, … }`. The options are `content` where
/// a content follows, and `ticket` where the fields begin with one, which is skipped and written as 0. The types are
/// the specification's, and the names of [`FieldReader`](super::field_reader::FieldReader)'s functions.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? =
        ($class:literal, $method:literal, $text:literal $(, $option:ident)*)
        { $($(#[$field_doc:meta])* $field:ident : $kind:ident),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name $(<$life>)? {
                $(
                    #[doc = concat!("`", stringify!($field), "`, a ", stringify!($kind), ".")]
                    $(#[$field_doc])*
                    pub $field: field_type!($kind),
                )*
            }

            impl $(<$life>)? $name $(<$life>)? {
                /// Ids of class and method.
                pub const IDS: (u16, u16) = ($class, $method);
                const HAS_CONTENT: bool = has_option!(content $($option)*);
                const HAS_TICKET: bool = has_option!(ticket $($option)*);

                /// Reads the fields, the bytes after the ids.
                #[inline]
                fn decode_fields(fields: & $($life)? [u8]) -> Result<Self, MethodError> {
                    #[allow(unused_mut, reason = "a method may have no fields")]
                    let mut reader = FieldReader::new(fields, !Self::HAS_CONTENT);
                    if Self::HAS_TICKET {
                        reader.short().map_err(|fault| malformed(Self::IDS, "ticket", fault, fields))?;
                    }
                    $(let $field = reader.$kind().map_err(|fault| malformed(Self::IDS, stringify!($field), fault, fields))?;)*
                    match reader.rest().len() {
                        0 => Ok(Self { $($field),* }),
                        count => Err(trailing(Self::IDS, count, fields)),
                    }
                }

                #[inline]
                fn encode(&self, channel: u16, out: &mut Vec<u8>) {
                    #[allow(unused_mut, reason = "a method may have no fields")]
                    let mut writer = FieldWriter::begin(channel, $class, $method, out);
                    if Self::HAS_TICKET {
                        writer.short(0);
                    }
                    $(writer.$kind(self.$field);)*
                    writer.finish();
                }
            }

            impl<'a> From<$name $(<$life>)?> for Method<'a> {
                fn from(method: $name $(<$life>)?) -> Self {
                    Method::$name(method)
                }
            }
        )*

        /// A method with its fields, borrowed from the frame it came in or from what it is made of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method<'a> {
            $(
                #[doc = concat!("`", $text, "`")]
                $name($name $(<$life>)?),
            )*
        }

        impl<'a> Method<'a> {
            /// Reads the payload of a method frame. Tables are checked to their depths; a field that does not fit, or
            /// a byte too many, is an error.
            #[inline]
            pub fn decode(payload: &'a [u8]) -> Result<Self, MethodError> {
                let Some((&[c0, c1, m0, m1], fields)) = payload.split_first_chunk() else {
                    return Err(MethodError::NoIds { payload: Snippet::of(payload) });
                };
                match (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1])) {
                    $(($class, $method) => $name::decode_fields(fields).map(Method::$name),)*
                    (class, method) => Err(MethodError::Unknown { class, method }),
                }
            }

            /// Appends the whole frame, from its kind to its end byte. Short strings are cut to 255 bytes.
            #[inline]
            pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
                match self {
                    $(Method::$name(method) => method.encode(channel, out),)*
                }
            }

            /// Ids of class and method.
            #[inline]
            pub fn ids(&self) -> (u16, u16) {
                match self {
                    $(Method::$name(_) => ($class, $method),)*
                }
            }

            /// The name, such as `queue.declare`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Method::$name(_) => $text,)*
                }
            }

            /// Whether a content follows the method: a header frame, and body frames.
            #[inline]
            pub fn has_content(&self) -> bool {
                match self {
                    $(Method::$name(_) => $name::HAS_CONTENT,)*
                }
            }
        }
    };
}

/// The Rust type of a field, with the lifetime that every row with such a field declares.
macro_rules! field_type {
    (octet) => { u8 };
    (short) => { u16 };
    (long) => { u32 };
    (longlong) => { u64 };
    (bit) => { bool };
    (shortstr) => { &'a [u8] };
    (longstr) => { &'a [u8] };
    (table) => { FieldTableRef<'a> };
}

/// Whether the first word is among the others.
macro_rules! has_option {
    ($wanted:ident) => { false };
    (content content $($rest:ident)*) => { true };
    (ticket ticket $($rest:ident)*) => { true };
    ($wanted:ident $other:ident $($rest:ident)*) => { has_option!($wanted $($rest)*) };
}

pub(super) use {field_type, has_option, methods};

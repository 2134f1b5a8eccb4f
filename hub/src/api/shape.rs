//! What an argument looks like: checked before a function sees it, and told to whoever asks.
//!
//! A shape keeps what it knows and drops the rest: fields of objects that are not declared do not reach a function,
//! whatever they are called. Each has a bound.

use std::fmt;

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::error::Error;

/// Longest text for people: titles, names.
pub(crate) const TITLE_LEN_MAX: usize = 1_024;

/// Longest text for people that is more than a line.
pub(crate) const TEXT_LEN_MAX: usize = 256 << 10;

/// Longest path of a file, as on Linux.
pub(crate) const PATH_LEN_MAX: usize = 4_096;

/// Most elements of a list of identifiers.
pub(crate) const IDS_MAX: usize = 1_000;

/// Latest time, in milliseconds since 1970: the end of what JavaScript can say.
const TIME_MAX: i64 = 8_640_000_000_000_000;

/// The form of a value.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Text of at most so many bytes.
    Text(usize),
    /// An identifier in its written form.
    Id,
    /// An identifier, or an e-mail address.
    IdOrEmail,
    /// A number without a fraction, from the first to the second.
    Int(i64, i64),
    /// Any number that is finite.
    Number,
    /// True or false.
    Bool,
    /// A point in time: milliseconds since 1970.
    Time,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// At most so many of a form.
    List(&'static Self, usize),
    /// One, or a list of at most so many.
    OneOrList(&'static Self, usize),
    /// An object with these fields, and no others.
    Object(&'static [Field]),
    /// Anything that takes at most so many bytes as JSON.
    Any(usize),
}

/// A field of an object.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// What it is called.
    pub name: &'static str,
    /// Its form.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
}

impl Field {
    /// One that must be there.
    pub const fn required(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            required: true,
        }
    }

    /// One that may be left out, or be null.
    pub const fn optional(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            required: false,
        }
    }
}

/// Where a value stands among the arguments.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    within: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Argument(usize),
    Field(&'a str),
    Element(usize),
}

impl<'a> Place<'a> {
    /// The argument with this number.
    pub(crate) fn argument(number: usize) -> Self {
        Self {
            within: None,
            step: Step::Argument(number),
        }
    }

    fn field(&'a self, name: &'a str) -> Self {
        Self {
            within: Some(self),
            step: Step::Field(name),
        }
    }

    fn element(&'a self, number: usize) -> Self {
        Self {
            within: Some(self),
            step: Step::Element(number),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(within) = self.within {
            within.fmt(f)?;
        }
        match self.step {
            Step::Argument(number) => write!(f, "args[{number}]"),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Element(number) => write!(f, "[{number}]"),
        }
    }
}

impl Shape {
    /// The value with what this form knows of it.
    ///
    /// # Errors
    /// When it is not of this form; the error names the place.
    pub(crate) fn read(&self, value: Json, place: Place<'_>) -> Result<Json, Error> {
        let fits = match (*self, &value) {
            (Self::Text(max), Json::String(text)) => {
                return bounded_text(text, max, place).map(|()| value);
            }
            (Self::Id, Json::String(text)) => is_id(text),
            (Self::IdOrEmail, Json::String(text)) => is_id(text) || is_email(text),
            (Self::Int(min, max), Json::Number(_)) => return bounded_int(&value, min, max, place),
            (Self::Time, Json::Number(_)) => return bounded_int(&value, 0, TIME_MAX, place),
            (Self::Number, Json::Number(number)) => number.as_f64().is_some_and(f64::is_finite),
            (Self::Bool, Json::Bool(_)) => true,
            (Self::OneOf(words), Json::String(text)) => words.contains(&text.as_str()),
            (Self::List(shape, max) | Self::OneOrList(shape, max), Json::Array(_)) => {
                return read_list(shape, max, value, place);
            }
            (Self::OneOrList(shape, _), _) => return shape.read(value, place),
            (Self::Object(fields), Json::Object(_)) => return read_object(fields, value, place),
            (Self::Any(max), _) => return bounded_any(value, max, place),
            (
                Self::Text(_)
                | Self::Id
                | Self::IdOrEmail
                | Self::Int(..)
                | Self::Number
                | Self::Bool
                | Self::Time
                | Self::OneOf(_)
                | Self::List(..)
                | Self::Object(_),
                _,
            ) => false,
        };
        if fits {
            Ok(value)
        } else {
            Err(Error::argument(place, format_args!("must be {self}")))
        }
    }

    /// As a JSON schema, for `system.describe`.
    pub fn schema(&self) -> Json {
        match *self {
            Self::Text(max) => json!({"type": "string", "maxLength": max}),
            Self::Id => json!({"type": "string", "format": "uuid"}),
            Self::IdOrEmail => json!({"anyOf": [
                {"type": "string", "format": "uuid"}, {"type": "string", "format": "email"},
            ]}),
            Self::Int(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
            Self::Number => json!({"type": "number"}),
            Self::Bool => json!({"type": "boolean"}),
            Self::Time => json!({"type": "integer", "minimum": 0, "maximum": TIME_MAX,
                "description": "milliseconds since 1970"}),
            Self::OneOf(words) => json!({"enum": words}),
            Self::List(shape, max) => {
                json!({"type": "array", "items": shape.schema(), "maxItems": max})
            }
            Self::OneOrList(shape, max) => {
                json!({"anyOf": [shape.schema(), Self::List(shape, max).schema()]})
            }
            Self::Object(fields) => object_schema(fields),
            Self::Any(max) => {
                json!({"description": format!("anything of at most {max} bytes as JSON")})
            }
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(max) => write!(f, "text of at most {max} bytes"),
            Self::Id => f.write_str("a UUID"),
            Self::IdOrEmail => f.write_str("the id or the e-mail address of an account"),
            Self::Int(min, max) => write!(f, "a whole number from {min} to {max}"),
            Self::Number => f.write_str("a number"),
            Self::Bool => f.write_str("true or false"),
            Self::Time => f.write_str("a time in milliseconds since 1970"),
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Self::List(shape, max) => write!(f, "a list of at most {max}, each {shape}"),
            Self::OneOrList(shape, max) => write!(f, "{shape}, or a list of at most {max}"),
            Self::Object(_) => f.write_str("an object"),
            Self::Any(max) => write!(f, "at most {max} bytes as JSON"),
        }
    }
}

fn bounded_text(text: &str, max: usize, place: Place<'_>) -> Result<(), Error> {
    if text.len() > max {
        let len = text.len();
        return Err(Error::argument(
            place,
            format_args!("is longer than {max} bytes ({len})"),
        ));
    }
    // PostgreSQL does not store it, and nobody means it.
    if text.contains('\0') {
        return Err(Error::argument(place, NULL_CHARACTER));
    }
    Ok(())
}

/// A whole number, also where a client writes it with a fraction of nothing.
fn bounded_int(value: &Json, min: i64, max: i64, place: Place<'_>) -> Result<Json, Error> {
    let exact = value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        format!("{number:.0}").parse().ok()
    });
    exact
        .filter(|number| (min..=max).contains(number))
        .map(Json::from)
        .ok_or_else(|| Error::argument(place, format_args!("must be {}", Shape::Int(min, max))))
}

fn bounded_any(value: Json, max: usize, place: Place<'_>) -> Result<Json, Error> {
    let len = value.to_string().len();
    if len > max {
        return Err(Error::argument(
            place,
            format_args!("takes more than {max} bytes as JSON ({len})"),
        ));
    }
    if has_null_character(&value) {
        return Err(Error::argument(place, NULL_CHARACTER));
    }
    Ok(value)
}

/// What is said of a text with the character that PostgreSQL does not store.
pub(crate) const NULL_CHARACTER: &str = "has the character U+0000, which cannot be stored";

/// Whether a text or a name of a field anywhere in it has the character that PostgreSQL does not store.
pub(crate) fn has_null_character(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
        Json::String(text) => text.contains('\0'),
        Json::Array(elements) => elements.iter().any(has_null_character),
        Json::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || has_null_character(value)),
    }
}

fn read_list(shape: &Shape, max: usize, value: Json, place: Place<'_>) -> Result<Json, Error> {
    let Json::Array(elements) = value else {
        return Err(Error::argument(place, "must be a list"));
    };
    if elements.len() > max {
        let len = elements.len();
        return Err(Error::argument(
            place,
            format_args!("has more than {max} elements ({len})"),
        ));
    }
    let read = |(number, element)| shape.read(element, place.element(number));
    elements
        .into_iter()
        .enumerate()
        .map(read)
        .collect::<Result<Vec<Json>, Error>>()
        .map(Json::Array)
}

fn read_object(fields: &[Field], value: Json, place: Place<'_>) -> Result<Json, Error> {
    let Json::Object(mut given) = value else {
        return Err(Error::argument(place, "must be an object"));
    };
    let mut known = Map::new();
    for field in fields {
        let place = place.field(field.name);
        let value = given.remove(field.name).filter(|value| !value.is_null());
        match value {
            Some(value) => {
                let value = field.shape.read(value, place)?;
                known.insert(field.name.to_owned(), value);
            }
            None if field.required => {
                return Err(Error::argument(
                    place,
                    format_args!("is required: {}", field.shape),
                ));
            }
            None => {}
        }
    }
    Ok(Json::Object(known))
}

fn object_schema(fields: &[Field]) -> Json {
    let properties: Map<String, Json> = fields
        .iter()
        .map(|field| (field.name.to_owned(), field.shape.schema()))
        .collect();
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// Whether text can be an address. Whether it is one, only a letter can tell.
pub(crate) fn is_email(text: &str) -> bool {
    let plain = text.len() <= 254
        && text
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"".contains(c));
    let parts = text.rsplit_once('@');
    plain
        && parts.is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len())
                && !local.contains('@')
                && domain.contains('.')
                && domain.split('.').all(|label| !label.is_empty())
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";

    const PERSON: Shape = Shape::Object(&[
        Field::required("name", Shape::Text(5)),
        Field::optional("age", Shape::Int(0, 150)),
        Field::optional("friends", Shape::List(&Shape::Id, 2)),
    ]);

    fn read(shape: Shape, value: Json) -> Result<Json, String> {
        shape
            .read(value, Place::argument(0))
            .map_err(|error| error.text)
    }

    #[test]
    fn values_of_the_form_are_kept() {
        for (shape, value) in [
            (Shape::Text(3), json!("abc")),
            (Shape::Id, json!(ID)),
            (Shape::IdOrEmail, json!(ID)),
            (Shape::IdOrEmail, json!("a.b+c@example.org")),
            (Shape::Int(-1, 1), json!(-1)),
            (Shape::Number, json!(1.5)),
            (Shape::Bool, json!(true)),
            (Shape::Time, json!(1_700_000_000_000_i64)),
            (Shape::OneOf(&["a", "b"]), json!("b")),
            (Shape::List(&Shape::Bool, 2), json!([true, false])),
            (Shape::OneOrList(&Shape::Id, 2), json!(ID)),
            (Shape::OneOrList(&Shape::Id, 2), json!([ID, ID])),
            (Shape::Any(20), json!({"a": [1, null]})),
        ] {
            assert_eq!(read(shape, value.clone()), Ok(value));
        }
        assert_eq!(read(Shape::Int(0, 9), json!(3.0)), Ok(json!(3)));
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one row for each way to be wrong")]
    fn other_values_are_refused_by_name() {
        for (shape, value, text) in [
            (
                Shape::Text(3),
                json!("abcd"),
                "args[0]: is longer than 3 bytes (4)",
            ),
            (
                Shape::Text(3),
                json!(1),
                "args[0]: must be text of at most 3 bytes",
            ),
            (
                Shape::Text(3),
                json!("a\0"),
                "args[0]: has the character U+0000, which cannot be stored",
            ),
            (Shape::Id, json!("x"), "args[0]: must be a UUID"),
            (
                Shape::IdOrEmail,
                json!("a@b"),
                "args[0]: must be the id or the e-mail address of an account",
            ),
            (
                Shape::Int(0, 9),
                json!(10),
                "args[0]: must be a whole number from 0 to 9",
            ),
            (
                Shape::Int(0, 9),
                json!(0.5),
                "args[0]: must be a whole number from 0 to 9",
            ),
            (Shape::Bool, json!("true"), "args[0]: must be true or false"),
            (
                Shape::OneOf(&["a", "b"]),
                json!("c"),
                "args[0]: must be one of a, b",
            ),
            (
                Shape::List(&Shape::Bool, 1),
                json!([true, true]),
                "args[0]: has more than 1 elements (2)",
            ),
            (
                Shape::List(&Shape::Bool, 9),
                json!([true, 1]),
                "args[0][1]: must be true or false",
            ),
            (
                Shape::OneOrList(&Shape::Id, 2),
                json!([ID, "x"]),
                "args[0][1]: must be a UUID",
            ),
            (
                Shape::Any(5),
                json!("abcdef"),
                "args[0]: takes more than 5 bytes as JSON (8)",
            ),
            (PERSON, json!([]), "args[0]: must be an object"),
            (
                PERSON,
                json!({}),
                "args[0].name: is required: text of at most 5 bytes",
            ),
            (
                PERSON,
                json!({"name": null}),
                "args[0].name: is required: text of at most 5 bytes",
            ),
            (
                PERSON,
                json!({"name": "x", "friends": ["y"]}),
                "args[0].friends[0]: must be a UUID",
            ),
        ] {
            assert_eq!(read(shape, value), Err(text.to_owned()));
        }
    }

    #[test]
    fn what_is_not_declared_is_dropped() {
        let key = crate::auth::token::random_text(8);
        let value = json!({"name": "x", "age": null, "account_id": ID, (key): 1});
        assert_eq!(read(PERSON, value), Ok(json!({"name": "x"})));
    }

    #[test]
    fn schemas_say_what_is_checked() {
        assert_eq!(
            PERSON.schema(),
            json!({
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 5},
                    "age": {"type": "integer", "minimum": 0, "maximum": 150},
                    "friends": {"type": "array", "items": {"type": "string", "format": "uuid"}, "maxItems": 2},
                },
                "required": ["name"],
            })
        );
    }

    #[test]
    fn addresses_are_plausible() {
        for address in ["a@b.c", "first.last+tag@sub.example.org", "ü@example.org"] {
            assert!(is_email(address), "{address}");
        }
        for text in [
            "",
            "a",
            "a@b",
            "@b.c",
            "a@",
            "a@b.",
            "a@.c",
            "a b@c.d",
            "a@b.c\r\nBcc: x@y.z",
            "a@b@c.d",
            "<a@b.c>",
            "a@b.c,d@e.f",
        ] {
            assert!(!is_email(text), "{text}");
        }
    }

    proptest! {
        /// What was read is read again as it is.
        #[test]
        fn reading_is_idempotent(name in ".{0,6}", age in any::<i32>(), other in ".{0,6}") {
            let value = json!({"name": name, "age": age, "other": other});
            if let Ok(known) = read(PERSON, value) {
                prop_assert_eq!(read(PERSON, known.clone()), Ok(known));
            }
        }
    }
}

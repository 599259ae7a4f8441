//! Flowcept's filters over documents, as far as its LMDB database answers them: MongoDB's form, with `$and`, `$or` and comparisons of
//! fields. A field of a map is named with a dot. Pure.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// What documents are asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// All of these hold.
    All(Vec<Filter>),
    /// One of these holds.
    Any(Vec<Filter>),
    /// The field of this name is so.
    Field(String, Test),
}

/// What a field is compared with. One that is not there is null.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `$eq`, or the value alone; with several, `$in`.
    Is(Vec<Value>),
    /// `$ne`, `$nin`.
    IsNot(Vec<Value>),
    /// `$gt`, `$gte`, `$lt`, `$lte`: the order is one of these. What has no order, as a number and a text, is no match.
    Compares(Value, &'static [Ordering]),
}

const OPERATORS: &str = "$eq, $ne, $gt, $gte, $lt, $lte, $in and $nin";

impl Filter {
    /// Reads a filter; what is wrong with it.
    pub fn read(filter: &Value) -> Result<Self, String> {
        let map = filter.as_object().ok_or_else(|| format!("a filter is a map, and {filter} is none"))?;
        let parts: Result<Vec<Vec<Self>>, String> = map.iter().map(|(name, value)| part(name, value)).collect();
        Ok(Self::All(parts?.concat()))
    }

    /// Whether a document is asked for.
    pub fn matches(&self, document: &Map<String, Value>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(document)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(document)),
            Self::Field(name, test) => test.holds(field(document, name).unwrap_or(&Value::Null)),
        }
    }

    /// The text that a field has in every document that is asked for, if there is such a one.
    pub fn only(&self, name: &str) -> Option<&str> {
        match self {
            Self::All(parts) => parts.iter().find_map(|part| part.only(name)),
            Self::Field(of, Test::Is(values)) if of == name => match &values[..] {
                [Value::String(text)] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }
}

fn part(name: &str, value: &Value) -> Result<Vec<Filter>, String> {
    let several = || -> Result<Vec<Filter>, String> {
        let list = value.as_array().ok_or_else(|| format!("{name} takes a list of filters, and {value} is none"))?;
        list.iter().map(Filter::read).collect()
    };
    match name {
        "$and" => several(),
        "$or" => Ok(vec![Filter::Any(several()?)]),
        _ if name.starts_with('$') => Err(format!("{name} is no operator here: there are $and and $or")),
        _ => {
            let Some(tests) = value.as_object() else {
                return Ok(vec![Filter::Field(name.into(), Test::Is(vec![value.clone()]))]);
            };
            if tests.is_empty() {
                return Err(format!("{name} is compared with nothing: there are {OPERATORS}"));
            }
            tests.iter().map(|(operator, to)| Ok(Filter::Field(name.into(), test(name, operator, to)?))).collect()
        }
    }
}

fn test(name: &str, operator: &str, to: &Value) -> Result<Test, String> {
    let list = || to.as_array().cloned().ok_or_else(|| format!("{operator} of {name} takes a list, and {to} is none"));
    Ok(match operator {
        "$eq" => Test::Is(vec![to.clone()]),
        "$ne" => Test::IsNot(vec![to.clone()]),
        "$in" => Test::Is(list()?),
        "$nin" => Test::IsNot(list()?),
        "$gt" => Test::Compares(to.clone(), &[Ordering::Greater]),
        "$gte" => Test::Compares(to.clone(), &[Ordering::Greater, Ordering::Equal]),
        "$lt" => Test::Compares(to.clone(), &[Ordering::Less]),
        "$lte" => Test::Compares(to.clone(), &[Ordering::Less, Ordering::Equal]),
        _ => return Err(format!("{name} cannot be asked for {operator}: there are {OPERATORS}")),
    })
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Is(values) => values.iter().any(|other| are_equal(value, other)),
            Self::IsNot(values) => !values.iter().any(|other| are_equal(value, other)),
            Self::Compares(to, orders) => compared(value, to).is_some_and(|order| orders.contains(&order)),
        }
    }
}

/// 1 and 1.0 are the same number.
fn are_equal(one: &Value, other: &Value) -> bool {
    one == other || compared(one, other) == Some(Ordering::Equal)
}

/// The order of numbers, and of texts.
pub fn compared(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

/// The field of a document, or of the maps in it: `custom_metadata.process.exit_code`.
pub fn field<'a>(document: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    document.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        field(document.get(first)?.as_object()?, rest)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_filter_is_told() {
        let wrong = |filter: Value| Filter::read(&filter).expect_err("because it is wrong");
        assert_eq!(wrong(json!([1])), "a filter is a map, and [1] is none");
        assert_eq!(wrong(json!({"$not": {}})), "$not is no operator here: there are $and and $or");
        assert_eq!(wrong(json!({"$or": {}})), "$or takes a list of filters, and {} is none");
        assert_eq!(wrong(json!({"a": {"$in": 1}})), "$in of a takes a list, and 1 is none");
        assert_eq!(
            wrong(json!({"$and": [{"a": {"$regex": "x"}}]})),
            format!("a cannot be asked for $regex: there are {OPERATORS}")
        );
        assert_eq!(wrong(json!({"a": {}})), format!("a is compared with nothing: there are {OPERATORS}"));
    }

    #[test]
    fn fields_of_maps_and_what_all_have() {
        let document = json!({"a": {"b": {"c": 1}}, "d": "x"});
        let document = document.as_object().expect("because it is one");
        let matches = |filter: Value| Filter::read(&filter).expect("because it is right").matches(document);
        assert!(matches(json!({"a.b.c": 1.0, "d": {"$gte": "x", "$lt": "y"}, "e": null})));
        assert!(
            !matches(json!({"a.b.d": {"$lt": 1}}))
                && !matches(json!({"d": {"$gt": 1}}))
                && !matches(json!({"$or": []}))
        );
        let only = |filter: Value| Filter::read(&filter).expect("because it is right").only("d").map(str::to_string);
        assert_eq!(only(json!({"a": 1, "$and": [{"d": "x"}]})).as_deref(), Some("x"));
        assert_eq!(only(json!({"$or": [{"d": "x"}, {"a": 1}]})), None);
    }
}

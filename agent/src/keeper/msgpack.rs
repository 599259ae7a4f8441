//! msgpack, read where it lies: a value is a slice of the message, and nothing is taken apart before it is asked for (reference: the
//! specification of MessagePack, of 2017). Pure.

use rmp::Marker;

/// What begins a value, or is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    Boolean(bool),
    Integer(i64),
    /// One that is above those.
    Unsigned(u64),
    Real(f64),
    /// UTF-8, if its sender is right.
    Text(&'a [u8]),
    Binary,
    /// Of an extension, by its type.
    Extension(i8),
    /// So many values follow.
    List(usize),
    /// So many pairs of values follow.
    Map(usize),
}

impl<'a> Value<'a> {
    /// Its text, if it is one.
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

const TORN: &str = "it ends within a value";

/// Takes the value that comes next, of a list or a map only how many follow; why there is none.
// Who calls it needs little of that each time: inlined, a message of 2.7 kB becomes its row in three quarters of the time.
#[inline(always)]
pub(super) fn next<'a>(bytes: &mut &'a [u8]) -> Result<Value<'a>, &'static str> {
    let [marker] = number(bytes)?;
    Ok(match Marker::from_u8(marker) {
        Marker::Null => Value::Nil,
        Marker::True => Value::Boolean(true),
        Marker::False => Value::Boolean(false),
        Marker::FixPos(small) => Value::Integer(small.into()),
        Marker::FixNeg(small) => Value::Integer(small.into()),
        Marker::U8 => Value::Integer(u8::from_be_bytes(number(bytes)?).into()),
        Marker::U16 => Value::Integer(u16::from_be_bytes(number(bytes)?).into()),
        Marker::U32 => Value::Integer(u32::from_be_bytes(number(bytes)?).into()),
        Marker::U64 => {
            let number = u64::from_be_bytes(number(bytes)?);
            i64::try_from(number).map_or(Value::Unsigned(number), Value::Integer)
        }
        Marker::I8 => Value::Integer(i8::from_be_bytes(number(bytes)?).into()),
        Marker::I16 => Value::Integer(i16::from_be_bytes(number(bytes)?).into()),
        Marker::I32 => Value::Integer(i32::from_be_bytes(number(bytes)?).into()),
        Marker::I64 => Value::Integer(i64::from_be_bytes(number(bytes)?)),
        Marker::F32 => Value::Real(f32::from_be_bytes(number(bytes)?).into()),
        Marker::F64 => Value::Real(f64::from_be_bytes(number(bytes)?)),
        Marker::FixStr(length) => Value::Text(part(bytes, length.into())?),
        Marker::Str8 => Value::Text(sized::<1>(bytes)?),
        Marker::Str16 => Value::Text(sized::<2>(bytes)?),
        Marker::Str32 => Value::Text(sized::<4>(bytes)?),
        Marker::Bin8 => sized::<1>(bytes).map(|_| Value::Binary)?,
        Marker::Bin16 => sized::<2>(bytes).map(|_| Value::Binary)?,
        Marker::Bin32 => sized::<4>(bytes).map(|_| Value::Binary)?,
        Marker::FixExt1 => extension(bytes, 1)?,
        Marker::FixExt2 => extension(bytes, 2)?,
        Marker::FixExt4 => extension(bytes, 4)?,
        Marker::FixExt8 => extension(bytes, 8)?,
        Marker::FixExt16 => extension(bytes, 16)?,
        Marker::Ext8 => length::<1>(bytes).and_then(|length| extension(bytes, length))?,
        Marker::Ext16 => length::<2>(bytes).and_then(|length| extension(bytes, length))?,
        Marker::Ext32 => length::<4>(bytes).and_then(|length| extension(bytes, length))?,
        Marker::FixArray(count) => Value::List(count.into()),
        Marker::Array16 => Value::List(length::<2>(bytes)?),
        Marker::Array32 => Value::List(length::<4>(bytes)?),
        Marker::FixMap(count) => Value::Map(count.into()),
        Marker::Map16 => Value::Map(length::<2>(bytes)?),
        Marker::Map32 => Value::Map(length::<4>(bytes)?),
        Marker::Reserved => return Err("no value begins with 0xc1"),
    })
}

/// Takes a value with all that is in it, as it lies there.
pub(super) fn whole<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (begin, mut open) = (*bytes, 1);
    while open > 0 {
        open -= 1;
        open += match next(bytes)? {
            Value::List(count) => count,
            Value::Map(count) => 2 * count,
            _ => 0,
        };
    }
    Ok(&begin[..begin.len() - bytes.len()])
}

fn part<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], &'static str> {
    bytes.split_off(..length).ok_or(TORN)
}

fn number<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (number, rest) = bytes.split_first_chunk().ok_or(TORN)?;
    *bytes = rest;
    Ok(*number)
}

/// A length that takes so many bytes.
fn length<const N: usize>(bytes: &mut &[u8]) -> Result<usize, &'static str> {
    Ok(number::<N>(bytes)?.into_iter().fold(0, |length, byte| length << 8 | usize::from(byte)))
}

/// What follows its length.
fn sized<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let length = length::<N>(bytes)?;
    part(bytes, length)
}

fn extension<'a>(bytes: &mut &'a [u8], length: usize) -> Result<Value<'a>, &'static str> {
    let kind = i8::from_be_bytes(number(bytes)?);
    part(bytes, length).map(|_| Value::Extension(kind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value of msgpack, as the library has it that others use.
    fn any_value() -> impl Strategy<Value = rmpv::Value> {
        let leaf = prop_oneof![
            Just(rmpv::Value::Nil),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<i16>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f32>().prop_map(rmpv::Value::F32),
            any::<f64>().prop_map(rmpv::Value::F64),
            ".{0,40}".prop_map(Into::into),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(rmpv::Value::Binary),
            (any::<i8>(), prop::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(kind, data)| rmpv::Value::Ext(kind, data)),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..20);
            prop_oneof![
                prop::collection::vec(inner, 0..20).prop_map(rmpv::Value::Array),
                pairs.prop_map(rmpv::Value::Map)
            ]
        })
    }

    /// The same value, by what [`next`] gives.
    fn read(bytes: &mut &[u8]) -> rmpv::Value {
        let before = *bytes;
        match next(bytes).expect("because it is whole") {
            Value::Nil => rmpv::Value::Nil,
            Value::Boolean(is) => is.into(),
            Value::Integer(number) => number.into(),
            Value::Unsigned(number) => number.into(),
            Value::Real(number) if before[0] == 0xca => rmpv::Value::F32(number as f32),
            Value::Real(number) => number.into(),
            Value::Text(text) => std::str::from_utf8(text).expect("because it was").into(),
            Value::Binary | Value::Extension(_) => {
                rmpv::decode::read_value(&mut &before[..before.len() - bytes.len()]).expect("because it is whole")
            }
            Value::List(count) => rmpv::Value::Array((0..count).map(|_| read(bytes)).collect()),
            Value::Map(count) => rmpv::Value::Map((0..count).map(|_| (read(bytes), read(bytes))).collect()),
        }
    }

    /// What is shorter in another form is not written so by that library.
    #[test]
    fn lengths_have_their_width() {
        let cases: [(&[u8], Value<'_>); 9] = [
            (b"\xda\x00\x02ab", Value::Text(b"ab")),
            (b"\xdb\x00\x00\x00\x02ab", Value::Text(b"ab")),
            (b"\xc6\x00\x00\x00\x02ab", Value::Binary),
            (b"\xc8\x00\x02\xfbab", Value::Extension(-5)),
            (b"\xc9\x00\x00\x00\x02\xfbab", Value::Extension(-5)),
            (b"\xdc\x01\x02", Value::List(258)),
            (b"\xdd\x01\x02\x03\x04", Value::List(0x0102_0304)),
            (b"\xde\x01\x02", Value::Map(258)),
            (b"\xdf\x01\x02\x03\x04", Value::Map(0x0102_0304)),
        ];
        for (mut bytes, wanted) in cases {
            assert_eq!((next(&mut bytes), bytes), (Ok(wanted), &b""[..]));
        }
    }

    proptest! {
        #[test]
        fn it_reads_what_others_write(value in any_value(), rest in prop::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).expect("because memory takes all");
            let length = bytes.len();
            bytes.extend(&rest);
            let mut left = &bytes[..];
            prop_assert_eq!(whole(&mut left), Ok(&bytes[..length]));
            prop_assert_eq!(left, &rest[..]);
            // A NaN equals nothing: by its bytes.
            let mut again = Vec::new();
            rmpv::encode::write_value(&mut again, &read(&mut &bytes[..length])).expect("because memory takes all");
            prop_assert_eq!(again, &bytes[..length]);
            for torn in 0..length {
                prop_assert_eq!(whole(&mut &bytes[..torn]), Err(TORN));
            }
        }
    }
}

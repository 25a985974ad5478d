//! The part of pickle that `torch.save` needs for a dict of tensors.
//!
//! A pickle is a program for a small stack machine, and `GLOBAL` followed by `REDUCE` calls any function of
//! Python's by its name. Here there are no functions: a name that is none of [`Global`] ends the reading, and
//! those that are make values of this file. Nothing is allocated by a number that the pickle claims, containers
//! lie in one list (so that no depth of nesting is recursed into), and a reference costs no copy.
//!
//! Source: CPython, `Lib/pickletools.py`; PyTorch, `torch/_weights_only_unpickler.py`.

use std::collections::HashMap;

use lightglm_core::WeightDtype;

/// Elements that tensors are parts of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// The precision; torch's word for one that is not read.
    pub(super) dtype: Result<WeightDtype, &'static str>,
    /// Bytes of an element.
    pub(super) size: usize,
    /// The member that holds it.
    pub(super) key: String,
    /// Elements.
    pub(super) numel: usize,
}

/// A tensor: which elements of which storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorRecord {
    pub(super) storage: Storage,
    /// The first element.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements from one to the next along each axis.
    pub(super) strides: Vec<usize>,
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Result<WeightDtype, &'static str>, usize),
}

#[derive(Clone, Copy, Debug)]
enum Value<'p> {
    None,
    Bool,
    Int(i64),
    Float,
    Text(&'p str),
    Global(Global),
    /// A tuple or a list.
    Items(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

/// Names and tensors of the dict that `pickle` is, in its order.
///
/// # Errors
/// What it is instead, as the end of a sentence that begins with the pickle's name.
pub(super) fn unpickle(pickle: &[u8]) -> Result<Vec<(String, TensorRecord)>, String> {
    let mut machine = Machine { rest: pickle, len: pickle.len(), ..Machine::default() };
    let Value::Dict(top) = machine.run()? else { return Err("is no dict of tensors".to_owned()) };
    let entries = machine.dicts[top].iter().map(|(name, value)| match (name, value) {
        (Value::Text(name), Value::Tensor(at)) => {
            Ok(((*name).to_owned(), machine.tensors[*at].clone()))
        }
        (Value::Text(name), _) => Err(format!("has `{name}`, which is no tensor")),
        _ => Err("has a key that is no text".to_owned()),
    });
    entries.collect()
}

#[derive(Default)]
struct Machine<'p> {
    rest: &'p [u8],
    len: usize,
    stack: Vec<Value<'p>>,
    /// Where each open `MARK` stands in the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'p>>,
    items: Vec<Vec<Value<'p>>>,
    dicts: Vec<Vec<(Value<'p>, Value<'p>)>>,
    storages: Vec<Storage>,
    tensors: Vec<TensorRecord>,
}

impl<'p> Machine<'p> {
    fn run(&mut self) -> Result<Value<'p>, String> {
        loop {
            let at = self.len - self.rest.len();
            let [opcode] = self.take()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode).map_err(|reason| format!("{reason} (byte {at})"))?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        let value = match opcode {
            // PROTO, FRAME: what follows is read all the same.
            0x80 => return self.take::<1>().map(drop),
            0x95 => return self.take::<8>().map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool,
            b'K' => Value::Int(self.take::<1>()?[0].into()),
            b'M' => Value::Int(u16::from_le_bytes(self.take()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.take()?).into()),
            0x8a => self.long()?,
            b'G' => {
                self.take::<8>()?;
                Value::Float
            }
            b'X' => {
                let len = u32::from_le_bytes(self.take()?) as usize;
                self.text(len)?
            }
            0x8c => {
                let [len] = self.take()?;
                self.text(len.into())?
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Value::Global(global(module, name)?)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => Value::Global(global(module, name)?),
                _ => return Err("names something that is no text".to_owned()),
            },
            b'}' => self.new_dict(),
            b']' | b')' => self.new_items(Vec::new()),
            b't' | b'l' => {
                let items = self.since_mark()?;
                self.new_items(items)
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(empty)?;
                self.open(start)?;
                let items = self.stack.split_off(start);
                self.new_items(items)
            }
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'0' => return self.pop().map(drop),
            b'a' | b'e' | b's' | b'u' | b'b' => return self.mutate(opcode),
            b'q' | b'r' | 0x94 => {
                let key = match opcode {
                    b'q' => self.take::<1>()?[0].into(),
                    b'r' => u32::from_le_bytes(self.take()?),
                    _ => self.memo.len() as u32,
                };
                let top = self.pop()?;
                self.memo.insert(key, top);
                top
            }
            b'h' => {
                let [key] = self.take()?;
                self.recalled(key.into())?
            }
            b'j' => {
                let key = u32::from_le_bytes(self.take()?);
                self.recalled(key)?
            }
            other => return Err(format!("has the instruction {other:#04x}, which is not read")),
        };
        self.stack.push(value);
        Ok(())
    }

    /// What changes the list or the dict below it: APPEND(S), SETITEM(S), BUILD.
    fn mutate(&mut self, opcode: u8) -> Result<(), String> {
        let given = match opcode {
            b'e' | b'u' => self.since_mark()?,
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            // BUILD sets attributes (a state dict's `_metadata`), which no tensor is among.
            _ => vec![self.pop()?],
        };
        match (opcode, self.stack.last()) {
            (b'a' | b'e', Some(&Value::Items(at))) => self.items[at].extend(given),
            (b's' | b'u', Some(&Value::Dict(at))) if given.len().is_multiple_of(2) => {
                self.dicts[at].extend(given.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            (b'b', Some(Value::Dict(_))) => {}
            _ => return Err("changes something that is no list and no dict".to_owned()),
        }
        Ok(())
    }

    /// A storage, of `("storage", type, key, device, elements)`.
    fn persistent(&mut self) -> Result<Value<'p>, String> {
        let arguments = self.pop_items()?;
        match self.items[arguments][..] {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype, size)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(numel),
            ] => {
                let numel = usize::try_from(numel).map_err(|_| below_zero("elements"))?;
                self.storages.push(Storage { dtype, size, key: key.to_owned(), numel });
                Ok(Value::Storage(self.storages.len() - 1))
            }
            _ => Err("refers to something that is no storage".to_owned()),
        }
    }

    /// Calls one of the few functions that there are.
    fn reduce(&mut self) -> Result<Value<'p>, String> {
        let arguments = self.pop_items()?;
        let Value::Global(function) = self.pop()? else {
            return Err("calls something that is no function".to_owned());
        };
        let arguments = &self.items[arguments];
        match (function, &arguments[..]) {
            (Global::OrderedDict, []) => Ok(self.new_dict()),
            // Pairs, as Python 2 and some writers have them: nobody saves tensors so.
            (Global::OrderedDict, _) => Err("makes a dict of something".to_owned()),
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => Ok(*tensor),
            (
                Global::RebuildTensor,
                [
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Items(shape),
                    Value::Items(strides),
                    ..,
                ],
            ) => {
                let tensor = TensorRecord {
                    storage: self.storages[*storage].clone(),
                    offset: usize::try_from(*offset).map_err(|_| below_zero("offset"))?,
                    shape: self.sizes(*shape)?,
                    strides: self.sizes(*strides)?,
                };
                self.tensors.push(tensor);
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            (function, _) => Err(format!("calls {function:?} with other arguments")),
        }
    }

    fn sizes(&self, items: usize) -> Result<Vec<usize>, String> {
        let size = |value: &Value<'_>| match value {
            Value::Int(size) => usize::try_from(*size).map_err(|_| below_zero("size")),
            _ => Err("has a size that is no number".to_owned()),
        };
        self.items[items].iter().map(size).collect()
    }

    fn new_dict(&mut self) -> Value<'p> {
        self.dicts.push(Vec::new());
        Value::Dict(self.dicts.len() - 1)
    }

    fn new_items(&mut self, items: Vec<Value<'p>>) -> Value<'p> {
        self.items.push(items);
        Value::Items(self.items.len() - 1)
    }

    fn recalled(&self, key: u32) -> Result<Value<'p>, String> {
        self.memo.get(&key).copied().ok_or_else(|| format!("recalls {key}, which is nothing"))
    }

    /// LONG1: as many bytes as the first says, little-endian; of numbers beyond 64 bits none is a size.
    fn long(&mut self) -> Result<Value<'p>, String> {
        let [len] = self.take()?;
        let bytes = self.slice(len.into())?;
        let fill = if bytes.last().is_some_and(|last| *last >= 0x80) { 0xff } else { 0 };
        let mut number = [fill; 8];
        let kept = bytes.len().min(8);
        number[..kept].copy_from_slice(&bytes[..kept]);
        match bytes[kept..].iter().all(|byte| *byte == fill) {
            true => Ok(Value::Int(i64::from_le_bytes(number))),
            false => Err("has a number of more than 64 bits".to_owned()),
        }
    }

    fn text(&mut self, len: usize) -> Result<Value<'p>, String> {
        let text = std::str::from_utf8(self.slice(len)?);
        text.map(Value::Text).map_err(|_| "has a text that is not UTF-8".to_owned())
    }

    fn line(&mut self) -> Result<&'p str, String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or_else(cut_short)?;
        let line = self.slice(end)?;
        self.take::<1>()?;
        std::str::from_utf8(line).map_err(|_| "has a name that is not UTF-8".to_owned())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn slice(&mut self, len: usize) -> Result<&'p [u8], String> {
        let (first, rest) = self.rest.split_at_checked(len).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(first)
    }

    fn pop(&mut self) -> Result<Value<'p>, String> {
        self.open(self.stack.len().checked_sub(1).ok_or_else(empty)?)?;
        self.stack.pop().ok_or_else(empty)
    }

    /// Refuses to take what stands below an open mark.
    fn open(&self, start: usize) -> Result<(), String> {
        match self.marks.last() {
            Some(&mark) if start < mark => Err(empty()),
            _ => Ok(()),
        }
    }

    fn pop_items(&mut self) -> Result<usize, String> {
        match self.pop()? {
            Value::Items(at) => Ok(at),
            _ => Err("has arguments that are no tuple".to_owned()),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'p>>, String> {
        let mark = self.marks.pop().ok_or_else(empty)?;
        Ok(self.stack.split_off(mark))
    }
}

fn cut_short() -> String {
    "ends too early".to_owned()
}

fn empty() -> String {
    "takes what is not there".to_owned()
}

fn below_zero(what: &str) -> String {
    format!("has a number of {what} below zero")
}

/// What the pickle may call `module.name`.
fn global(module: &str, name: &str) -> Result<Global, String> {
    use WeightDtype::{Bf16, F16, F32};
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch" | "torch.cuda", storage) => match storage {
            "FloatStorage" => Global::Storage(Ok(F32), 4),
            "HalfStorage" => Global::Storage(Ok(F16), 2),
            "BFloat16Storage" => Global::Storage(Ok(Bf16), 2),
            "DoubleStorage" => Global::Storage(Err("F64"), 8),
            "LongStorage" => Global::Storage(Err("I64"), 8),
            "IntStorage" => Global::Storage(Err("I32"), 4),
            "ShortStorage" => Global::Storage(Err("I16"), 2),
            "CharStorage" => Global::Storage(Err("I8"), 1),
            "ByteStorage" => Global::Storage(Err("U8"), 1),
            "BoolStorage" => Global::Storage(Err("BOOL"), 1),
            _ => return Err(refused(module, name)),
        },
        _ => return Err(refused(module, name)),
    })
}

fn refused(module: &str, name: &str) -> String {
    format!("calls `{module}.{name}`, which no dict of tensors needs; it was not run")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pickle: &[u8]) -> String {
        unpickle(pickle).unwrap_err()
    }

    #[test]
    fn nothing_is_called() {
        // `os.system("true")`, in protocols 0 and 4, and by way of what is allowed.
        let calls: [&[u8]; 4] = [
            b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
            b"\x80\x02cbuiltins\neval\n.",
            b"\x80\x02}X\x01\x00\x00\x00actorch.serialization\nload\n)Rs.",
        ];
        for call in calls {
            let error = error(call);
            assert!(error.contains("it was not run"), "{error}");
        }
    }

    #[test]
    fn programs_that_are_no_dict() {
        let cases: [(&[u8], &str); 12] = [
            (b"", "ends too early"),
            (b"\x80", "ends too early"),
            (b".", "not there"),
            (b"N.", "no dict"),
            (b"(u.", "no list and no dict"),
            (b"}(Nu.", "no list and no dict"),
            (b"}(\x85.", "not there"),
            (b"h\x07.", "recalls 7"),
            (b"}X\xff\xff\xff\xff.", "ends too early"),
            (b"}K\x01K\x02s.", "a key that is no text"),
            (b"}X\x01\x00\x00\x00aNs.", "`a`, which is no tensor"),
            (b"ccollections\nOrderedDict\nNR.", "no tuple"),
        ];
        for (pickle, reason) in cases {
            let error = error(pickle);
            assert!(error.contains(reason), "{pickle:?}: {error}");
        }
        assert_eq!(unpickle(b"\x80\x02}q\x00."), Ok(Vec::new()));
    }

    /// Nesting costs no stack, and references no memory.
    #[test]
    fn deep_and_wide() {
        let mut deep = vec![b'N'];
        deep.extend([0x85; 1_000_000]);
        deep.push(b'.');
        assert!(error(&deep).contains("no dict"));
        let mut wide = vec![b')'];
        for _ in 0..100 {
            // Memoize, recall, pair: twice as large each time, were it copied.
            wide.extend(b"q\x00h\x00\x86");
        }
        wide.push(b'.');
        assert!(error(&wide).contains("no dict"));
    }
}

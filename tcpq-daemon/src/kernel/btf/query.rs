//! The questions about functions, tracepoints and enums. `member` has the ones about structs.

use super::{
    Btf, BtfError, TypeId,
    record::{Kind, Record},
};

/// How far types are followed into each other: through typedefs and qualifiers, through the
/// dimensions of an array, into anonymous members. The kernel's own limit is 32
/// (`MAX_RESOLVE_DEPTH`), so that nothing it accepts is refused here, and a cycle ends.
pub(super) const MAX_DEPTH: u32 = 32;

impl Btf {
    /// True where the kernel has a function of this name that a program may be attached to, as far
    /// as its types tell.
    pub fn has_function(&self, name: &str) -> bool {
        self.named(name, &[Kind::Func]).next().is_some()
    }

    /// How many parameters the function has, a variadic rest not counted.
    ///
    /// Nothing where two functions of this name disagree: a program made for the wrong one would
    /// load and read some other register as its argument or as the return value.
    pub fn function_arity(&self, name: &str) -> Option<usize> {
        unanimous(
            self.named(name, &[Kind::Func])
                .map(|(_, function)| self.record(function.target())?.parameter_count()),
        )
    }

    /// Whether the function returns anything: a program that asks for the value of one that does
    /// not would load, and read what the register happens to hold.
    ///
    /// Nothing where two functions of this name disagree.
    pub fn function_returns(&self, name: &str) -> Option<bool> {
        unanimous(self.named(name, &[Kind::Func]).map(|(_, function)| {
            let prototype = self.record(function.target())?;
            prototype.parameter_count()?;
            Some(self.resolve(prototype.target()).ok()?.is_some())
        }))
    }

    /// How many arguments a program on this tracepoint gets.
    ///
    /// The kernel names the tracepoint's callback type `btf_trace_NAME`; its first parameter is
    /// the callback's own data, which no program sees.
    pub fn tracepoint_arity(&self, name: &str) -> Option<usize> {
        let typedef = format!("btf_trace_{name}");
        unanimous(self.named(&typedef, &[Kind::Typedef]).map(|(id, _)| {
            let pointer = self.resolve(id).ok()?.filter(|it| it.kind() == Some(Kind::Ptr))?;
            let prototype = self.resolve(pointer.target()).ok()??;
            prototype.parameter_count()?.checked_sub(1)
        }))
    }

    /// The value of an enum's variant. Without the enum's name all enums are searched, also those
    /// without a name, and the first one that has the variant answers.
    ///
    /// BTF tells signed enums apart since kernel 6.0 only; before that a negative value comes out
    /// as the unsigned number of the same bits. Nothing for a value above `i64::MAX`.
    pub fn enum_value(&self, enum_name: Option<&str>, variant: &str) -> Option<i64> {
        const KINDS: [Kind; 2] = [Kind::Enum, Kind::Enum64];
        if let Some(name) = enum_name {
            return self
                .named(name, &KINDS)
                .find_map(|(_, record)| self.value_in(&record, variant))?;
        }
        self.types.iter().find_map(|&at| {
            let record = Record::read(&self.data, at as usize)?;
            self.value_in(&record, variant)
        })?
    }

    /// Nothing where the enum lacks the variant; nothing inside where its value is too large.
    #[expect(clippy::option_option, reason = "a variant that is found ends the search")]
    fn value_in(&self, record: &Record<'_>, variant: &str) -> Option<Option<i64>> {
        record.variants().find_map(|(name, value)| self.name_is(name, variant).then_some(value))
    }

    /// What is behind typedefs and qualifiers; nothing for `void`.
    pub(super) fn resolve(&self, start: TypeId) -> Result<Option<Record<'_>>, BtfError> {
        let mut id = start;
        for _ in 0..MAX_DEPTH {
            if id == TypeId(0) {
                return Ok(None);
            }
            let record = self.record(id).ok_or(BtfError::DanglingType { id: id.0 })?;
            if !record.kind().is_some_and(Kind::is_transparent) {
                return Ok(Some(record));
            }
            id = record.target();
        }
        Err(BtfError::Endless { id: start.0 })
    }
}

/// What all say, if all say the same.
fn unanimous<T: PartialEq>(mut answers: impl Iterator<Item = Option<T>>) -> Option<T> {
    let first = answers.next()??;
    answers.all(|answer| answer.as_ref() == Some(&first)).then_some(first)
}

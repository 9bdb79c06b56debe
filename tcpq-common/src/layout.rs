//! The one macro that makes a struct a wire type.

/// Declares `#[repr(C)]` structs that may cross the kernel boundary.
///
/// The derives fail to compile on implicit padding, references, `bool` or any
/// other type with invalid bit patterns. With feature `user` the struct also
/// becomes an aya map key or value.
#[macro_export]
macro_rules! wire {
    ($( $(#[$meta:meta])* pub struct $name:ident { $( $(#[$fmeta:meta])* pub $field:ident : $ty:ty, )* } )*) => {$(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            ::zerocopy::FromBytes, ::zerocopy::IntoBytes,
            ::zerocopy::Immutable, ::zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name { $( $(#[$fmeta])* pub $field: $ty, )* }

        impl $name {
            /// All bytes zero.
            pub const ZERO: Self = Self { $( $field: <$ty as $crate::layout::Zero>::ZERO, )* };
        }

        impl $crate::layout::Zero for $name {
            const ZERO: Self = Self::ZERO;
        }

        // SAFETY: the derives above prove that every bit pattern is valid and
        // that there is no padding to leak.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    )*};
}

/// A type whose all-zero value can be named in a constant.
pub trait Zero {
    /// All bytes zero.
    const ZERO: Self;
}

macro_rules! zero_ints {
    ($($ty:ty),*) => { $( impl Zero for $ty { const ZERO: Self = 0; } )* };
}
zero_ints!(u8, u16, u32, u64, i32);

impl<T: Zero + Copy, const N: usize> Zero for [T; N] {
    const ZERO: Self = [T::ZERO; N];
}

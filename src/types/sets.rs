//! Small sets as bit masks: nodes by rank or id, and shard indexes, both 0..32.

use serde::{Deserialize, Serialize};

macro_rules! bit_set {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub u32);

        impl $name {
            /// The empty set.
            pub const EMPTY: Self = Self(0);

            /// The set {0, …, count - 1}; `count` is at most 32.
            #[must_use]
            pub const fn first(count: u32) -> Self {
                assert!(count <= 32, "bit sets hold 32 members");
                if count == 32 { Self(u32::MAX) } else { Self((1 << count) - 1) }
            }

            /// The set {index}; `index` is below 32.
            #[must_use]
            pub const fn one(index: u8) -> Self {
                assert!(index < 32, "bit sets hold 32 members");
                Self(1 << index)
            }

            /// Members.
            #[must_use]
            pub const fn count(self) -> u32 {
                self.0.count_ones()
            }

            /// No members.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Is `index` a member? False from 32 up.
            #[must_use]
            pub const fn contains(self, index: u8) -> bool {
                index < 32 && self.0 & (1 << index) != 0
            }

            /// Is every member of `other` a member of `self`?
            #[must_use]
            pub const fn contains_all(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Members of either.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Members of both.
            #[must_use]
            pub const fn intersection(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// Members of `self` that are not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Adds `index`, which is below 32.
            pub const fn insert(&mut self, index: u8) {
                self.0 |= Self::one(index).0;
            }

            /// Removes `index`.
            pub const fn remove(&mut self, index: u8) {
                if index < 32 {
                    self.0 &= !(1 << index);
                }
            }

            /// The members, ascending.
            pub fn iter(self) -> impl Iterator<Item = u8> {
                (0..32).filter(move |&index| self.contains(index))
            }
        }

        impl FromIterator<u8> for $name {
            fn from_iter<I: IntoIterator<Item = u8>>(indexes: I) -> Self {
                let mut set = Self::EMPTY;
                for index in indexes {
                    set.insert(index);
                }
                set
            }
        }
    };
}

bit_set! {
    /// A set of node ids.
    NodeSet
}
bit_set! {
    /// A set of shard indexes.
    ShardSet
}

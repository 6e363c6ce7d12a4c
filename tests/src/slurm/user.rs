//! Who may use a cluster.

/// A user whom all machines of a cluster know, and this machine need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The administrator.
    Root,
    /// Somebody.
    Ada,
    /// Somebody else.
    Ben,
}

impl User {
    pub(super) const ALL: [Self; 3] = [Self::Root, Self::Ada, Self::Ben];

    /// The user's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Ada => "ada",
            Self::Ben => "ben",
        }
    }

    /// The user's number, and that of a group with nobody else in it.
    #[must_use]
    pub fn uid(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Ada => 61_001,
            Self::Ben => 61_002,
        }
    }
}

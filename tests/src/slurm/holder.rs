//! Processes that keep namespaces up.

use std::process::{Child, Command};

use crate::spawn::spawn;

/// A process that is killed and waited for when this is dropped, and by the kernel if the test is
/// killed.
#[derive(Debug)]
pub(super) struct Holder(Child);

impl Holder {
    pub(super) fn start(command: Command) -> anyhow::Result<Self> {
        Ok(Self(spawn(command)?))
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    pub(super) fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

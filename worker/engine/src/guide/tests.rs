//! What guided text is like, and what guides are refused.

mod hostile;
mod masks;
mod texts;

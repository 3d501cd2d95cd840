//! Helpers that the whole-member tests share.

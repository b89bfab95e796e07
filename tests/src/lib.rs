//! Integration tests of the whole workspace live in `it/`, in one binary; this library is empty.

//! The encoder for the CPU: fused operations with their backward passes over texts without padding.
//!
//! It computes what [`crate::Encoder`] says in plain tensor operations, on the same weights; tests hold the two together.

pub(crate) mod attention;
pub(crate) mod encoder;
pub(crate) mod product;
pub(crate) mod rows;

#[cfg(test)]
mod tests;

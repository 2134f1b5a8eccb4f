//! The log: all streams of a node in one sequence of segments.

mod bytes;
mod done;
mod frame;
mod position;
mod queue;
mod scan;
mod segment;
mod segments;
mod writer;

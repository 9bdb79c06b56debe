//! Is the reader right, and does it survive whatever it is given?

mod builder;
mod damage;
mod functions;
mod fuzz;
mod members;
mod real;

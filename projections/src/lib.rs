//! The shop's read models: one file each.
//!
//! A projection is a pure fold of the shop's events into documents. What it shows is decided by the events alone;
//! when a fold or a document's shape changes, the projection's version is raised and the view is built anew.

mod customers;
mod orders;
mod products;
mod stock;

#[cfg(test)]
pub mod days;
#[cfg(test)]
mod declarations;
#[cfg(test)]
mod fold;
#[cfg(test)]
mod tutorial;

use daybook_core::Domain;

pub use customers::{CustomerView, Customers};
pub use orders::{OrderView, Orders};
pub use products::{ProductView, Products};
pub use stock::{Stock, StockView};

/// Adds the shop's views to a domain.
pub fn register(domain: Domain) -> Domain {
    domain.projection::<Products>().projection::<Stock>().projection::<Orders>().projection::<Customers>()
}

//! What happens to a product. Stream `product-<id>`.

use daybook_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Money;

/// A product came into the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductCreated {
    /// The product.
    pub product_id: Uuid,
    /// The number that the business knows it by; no two products share one.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// The part of the catalogue that it is found in.
    pub category: String,
    /// The list price of one.
    pub price: Money,
    /// How it is taxed.
    pub tax_category: TaxCategory,
}

impl Event for ProductCreated {
    const TYPE: &'static str = "product.created";
    const VERSION: u32 = 1;
}

/// How a product is taxed. The rate that goes with it depends on where and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaxCategory {
    /// At the standard rate.
    Standard,
    /// At a reduced rate: books, food.
    Reduced,
    /// At no rate.
    Zero,
}

daybook_core::event_set! {
    /// What happens to a product.
    pub enum ProductEvent { ProductCreated }
}

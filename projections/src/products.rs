//! The catalogue, for everybody.

use daybook_core::{Access, Envelope, Field, FieldKind, Keys, Projection, ProjectionSpec};
use daybook_events::{Money, ProductEvent, TaxCategory};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A product of the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProductView {
    /// The product.
    pub product_id: Uuid,
    /// The number that the business knows it by.
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

/// The view `products`.
#[derive(Debug)]
pub struct Products;

impl Projection for Products {
    type Event = ProductEvent;
    type View = ProductView;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "products",
            version: 1,
            summary: "The catalogue.",
            category: "product",
            fields: &[
                Field { name: "sku", path: &["sku"], kind: FieldKind::Text },
                Field { name: "name", path: &["name"], kind: FieldKind::Text },
                Field { name: "category", path: &["category"], kind: FieldKind::Text },
                Field { name: "price", path: &["price", "amount"], kind: FieldKind::Integer },
            ],
            indexes: &[&["category", "name"], &["category", "price"]],
            access: Access::anyone(),
            owner: None,
        }
    }

    fn keys(event: &Envelope<'_, ProductEvent>, keys: &mut Keys) {
        keys.add(event.record.stream.id());
    }

    fn categories() -> &'static [&'static str] {
        &["product"]
    }

    fn apply(_: &str, view: &mut Option<ProductView>, event: &Envelope<'_, ProductEvent>) {
        match &event.event {
            ProductEvent::ProductCreated(created) => {
                *view = Some(ProductView {
                    product_id: created.product_id,
                    sku: created.sku.clone(),
                    name: created.name.clone(),
                    category: created.category.clone(),
                    price: created.price,
                    tax_category: created.tax_category,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fold::{History, TEA, document, tea};

    #[test]
    fn a_product_is_shown_as_it_was_created() {
        let changed = History::new().add("product", TEA, tea()).fold::<Products>();
        assert_eq!(
            document(&changed, TEA),
            json!({
                "product_id": TEA, "sku": "TEA-1", "name": "Assam", "category": "Tea",
                "price": {"amount": 1290, "currency": "EUR"}, "tax_category": "reduced",
            })
        );
        assert_eq!(changed[0].revision.get(), 1);
    }
}

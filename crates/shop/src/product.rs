//! Products.

use daybook_core::{
    Access, Aggregate, Command, Context, Decision, Entity, NotLoaded, Reads, Rejection, Role, StreamId,
};
use daybook_events::{Currency, Money, ProductCreated, ProductEvent, TaxCategory};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text::one_line;

/// A product.
#[derive(Debug, Clone, Default)]
pub struct Product {
    /// How it is listed in the catalogue, since it was created.
    pub listing: Option<Listing>,
}

/// How a product is listed: what an order freezes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its number.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// The list price of one.
    pub price: Money,
}

impl Aggregate for Product {
    const CATEGORY: &'static str = "product";
    type Event = ProductEvent;

    fn apply(&mut self, event: &ProductEvent) {
        match event {
            ProductEvent::ProductCreated(created) => {
                self.listing =
                    Some(Listing { sku: created.sku.clone(), name: created.name.clone(), price: created.price });
            }
        }
    }
}

/// Puts a product into the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct CreateProduct {
    /// The product's id; left out, a new one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub product_id: Option<Uuid>,
    /// The number that the business knows it by. No two products share one.
    #[garde(length(chars, min = 1, max = 40), custom(one_line))]
    pub sku: String,
    /// What it is called.
    #[garde(length(chars, min = 1, max = 100), custom(one_line))]
    pub name: String,
    /// The part of the catalogue that it is to be found in.
    #[garde(length(chars, min = 1, max = 100), custom(one_line))]
    pub category: String,
    /// The list price of one.
    #[garde(dive)]
    pub price: Price,
    /// How it is taxed.
    #[garde(skip)]
    pub tax_category: TaxCategory,
}

/// A price, as it comes in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// How many minor units of the currency (cents).
    #[garde(range(min = 1, max = 100_000_000_000_i64))]
    pub amount: i64,
    /// The currency's ISO 4217 code.
    #[garde(pattern(r"^[A-Z]{3}$"))]
    pub currency: String,
}

impl Price {
    fn money(&self) -> Result<Money, Rejection> {
        let currency = self.currency.parse().ok().filter(Currency::is_in_use);
        let unknown = || Rejection::rule("unknown_currency", "ISO 4217 has no such currency in use.");
        Ok(Money::new(self.amount, currency.ok_or_else(|| unknown().field("price.currency"))?))
    }
}

impl CreateProduct {
    fn product_id(&self, context: &Context) -> Uuid {
        self.product_id.unwrap_or(context.fresh_id)
    }
}

impl Command for CreateProduct {
    const NAME: &'static str = "product.create";
    const ACCESS: Access = Access::roles(&[Role::Staff]);
    type Model = Entity<Product>;

    fn target(&self, context: &Context) -> StreamId {
        StreamId::new(Product::CATEGORY, self.product_id(context))
    }

    fn load(&self, reads: &mut Reads<'_>, context: &Context) -> Result<Entity<Product>, NotLoaded> {
        reads.get(self.product_id(context))
    }

    fn handle(&self, product: &Entity<Product>, context: &Context) -> Result<Decision, Rejection> {
        if product.exists() {
            return Err(Rejection::conflict("product_exists", "A product with this id was created before.")
                .field("product_id"));
        }
        let sku_taken =
            Rejection::conflict("sku_taken", format!("Another product has the number `{}`.", self.sku))
                .field("sku");
        let created = ProductCreated {
            product_id: self.product_id(context),
            sku: self.sku.clone(),
            name: self.name.clone(),
            category: self.category.clone(),
            price: self.price.money()?,
            tax_category: self.tax_category,
        };
        Ok(Decision::new().emit(product, created).claim(product, "product.sku", &self.sku, sku_taken))
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::{Actor, ClaimChange, Scenario, event};

    use super::*;

    const TEA: Uuid = Uuid::from_u128(1);

    fn create() -> CreateProduct {
        CreateProduct {
            product_id: Some(TEA),
            sku: "TEA-1".into(),
            name: "Assam".into(),
            category: "Tea".into(),
            price: Price { amount: 1290, currency: "EUR".into() },
            tax_category: TaxCategory::Reduced,
        }
    }

    fn created(product_id: Uuid) -> ProductCreated {
        ProductCreated {
            product_id,
            sku: "TEA-1".into(),
            name: "Assam".into(),
            category: "Tea".into(),
            price: Money::new(1290, "EUR".parse().expect("a currency")),
            tax_category: TaxCategory::Reduced,
        }
    }

    fn wrong_fields(command: &CreateProduct) -> Vec<String> {
        match command.validate() {
            Ok(()) => Vec::new(),
            Err(report) => report.iter().map(|(path, _)| path.to_string()).collect(),
        }
    }

    #[test]
    fn a_product_is_created_and_holds_its_number() {
        Scenario::new().when(create()).then([event::<Product>(TEA, created(TEA))]);
        let decision = Scenario::new().when(create()).decision();
        let [ClaimChange::Take { name, key, holder, taken }] = &decision.claims[..] else {
            panic!("not one claim but {:?}", decision.claims)
        };
        assert_eq!((*name, key.as_str(), holder), ("product.sku", "TEA-1", &StreamId::new("product", TEA)));
        assert_eq!(taken.code, "sku_taken");
    }

    #[test]
    fn a_product_without_an_id_gets_a_new_one() {
        let fresh = Uuid::from_u128(0xf0);
        let command = CreateProduct { product_id: None, ..create() };
        Scenario::new().when(command).then([event::<Product>(fresh, created(fresh))]);
    }

    #[test]
    fn a_product_is_created_once() {
        Scenario::new().given::<Product>(TEA, [created(TEA)]).when(create()).then_rejected("product_exists");
    }

    #[test]
    fn a_price_is_in_a_currency_that_is_in_use() {
        let mut command = create();
        command.price.currency = "ZZZ".to_owned();
        Scenario::new().when(command).then_rejected("unknown_currency");
    }

    #[test]
    fn only_staff_create_products() {
        let given = |role| Scenario::new().actor(Actor::Account { id: Uuid::from_u128(9), roles: vec![role] });
        for role in [Role::Customer, Role::Analyst, Role::Operator] {
            given(role).when(create()).then_denied();
        }
        for role in [Role::Staff, Role::Admin] {
            given(role).when(create()).then([event::<Product>(TEA, created(TEA))]);
        }
    }

    #[test]
    fn what_is_out_of_range_is_not_valid() {
        assert_eq!(wrong_fields(&create()), [""; 0]);
        for amount in [i64::MIN, -1, 0, 100_000_000_001, i64::MAX] {
            let price = Price { amount, currency: "EUR".into() };
            assert_eq!(wrong_fields(&CreateProduct { price, ..create() }), ["price.amount"], "{amount}");
        }
        for currency in ["", "eur", "EURO", "E1R", "EUR\n"] {
            let price = Price { amount: 1, currency: currency.into() };
            assert_eq!(wrong_fields(&CreateProduct { price, ..create() }), ["price.currency"], "{currency:?}");
        }
        assert_eq!(wrong_fields(&CreateProduct { sku: "x".repeat(41), ..create() }), ["sku"]);
        assert_eq!(wrong_fields(&CreateProduct { name: " ".into(), ..create() }), ["name"]);
        assert_eq!(wrong_fields(&CreateProduct { category: "a\nb".into(), ..create() }), ["category"]);
    }
}

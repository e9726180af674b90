//! What the projections declare can be indexed, and what is personal cannot.

use daybook_core::{AnyProjection, Field, FieldKind, projection};
use std::sync::Arc;

use crate::{Customers, Orders, Products, Stock};

fn projections() -> [Arc<dyn AnyProjection>; 4] {
    [projection::<Products>(), projection::<Stock>(), projection::<Orders>(), projection::<Customers>()]
}

#[test]
fn every_declared_field_is_in_the_documents_and_of_its_kind() {
    for projection in projections() {
        for field in projection.spec().fields {
            assert_eq!(projection.shape().check(field), Ok(()), "{}", projection.spec().name);
        }
    }
}

#[test]
fn no_personal_field_can_be_declared() {
    let mut personal = Vec::new();
    for projection in projections() {
        for property in projection.shape().properties().iter().filter(|property| property.is_personal) {
            let name = &*property.name.clone().leak();
            let path = &*vec![name].leak();
            let refused = projection.shape().check(&Field { name, path, kind: FieldKind::Text });
            assert!(refused.is_err_and(|reason| reason.contains("personal")), "{name}");
            personal.push(name);
        }
    }
    personal.sort_unstable();
    assert_eq!(personal, ["cancellation_reason", "email", "name", "phone"]);
}

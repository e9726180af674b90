//! The catalogue of the demonstration.

/// A product of the demonstration.
pub(super) struct Item {
    pub(super) sku: &'static str,
    pub(super) name: &'static str,
    pub(super) category: &'static str,
    /// Cents.
    pub(super) price: i64,
    pub(super) tax_category: &'static str,
    /// How many arrive.
    pub(super) stock: i64,
}

const fn item(
    category: &'static str,
    tax_category: &'static str,
    sku: &'static str,
    name: &'static str,
    price: i64,
    stock: i64,
) -> Item {
    Item { sku, name, category, price, tax_category, stock }
}

/// The products. What has a stock below ten is scarce.
pub(super) const CATALOGUE: [Item; 20] = [
    item("Tea", "reduced", "TEA-ASSAM-250", "Assam, second flush, 250 g", 1290, 120),
    item("Tea", "reduced", "TEA-SENCHA-100", "Sencha, first harvest, 100 g", 1450, 80),
    item("Tea", "reduced", "TEA-EARLGREY-250", "Earl Grey with bergamot oil, 250 g", 1150, 150),
    item("Tea", "reduced", "TEA-GYOKURO-50", "Gyokuro, shaded three weeks, 50 g", 2890, 6),
    item("Tea", "reduced", "TEA-ROOIBOS-250", "Rooibos, unfermented, 250 g", 890, 100),
    item("Coffee", "reduced", "COF-YIRGA-500", "Yirgacheffe, washed, 500 g", 1690, 90),
    item("Coffee", "reduced", "COF-HUILA-500", "Huila, honey process, 500 g", 1590, 90),
    item("Coffee", "reduced", "COF-GEISHA-250", "Geisha, single estate, 250 g", 4200, 5),
    item("Coffee", "reduced", "COF-DECAF-500", "Decaffeinated with spring water, 500 g", 1490, 60),
    item("Coffee", "reduced", "COF-ESPRESSO-1000", "House espresso, 1 kg", 2390, 140),
    item("Tableware", "standard", "TAB-MUG-STONE", "Stoneware mug, 300 ml", 1850, 75),
    item("Tableware", "standard", "TAB-POT-GLASS", "Glass teapot with strainer, 1 l", 3490, 40),
    item("Tableware", "standard", "TAB-KYUSU", "Kyusu, hand-thrown, 280 ml", 8900, 4),
    item("Tableware", "standard", "TAB-DRIPPER", "Porcelain dripper, size 02", 2450, 55),
    item("Tableware", "standard", "TAB-KETTLE", "Gooseneck kettle, 0.9 l", 6990, 30),
    item("Books", "reduced", "BOK-TEA-ATLAS", "An Atlas of Tea", 3400, 35),
    item("Books", "reduced", "BOK-ROASTING", "Roasting at Home", 2200, 50),
    item("Books", "reduced", "BOK-KEEPING", "The Merchant's Daybook, a history", 2800, 45),
    item("Books", "zero", "BOK-SAMPLER", "The Sampler, tasting notes", 900, 200),
    item("Books", "reduced", "BOK-CERAMICS", "Ceramics for the Table, signed copy", 5600, 3),
];

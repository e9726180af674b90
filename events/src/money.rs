//! Money: whole minor units of one currency, never a fraction, never a float.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The code of a currency in the shape of ISO 4217: three capital letters (`EUR`). Which codes are in use changes
/// with the world, and what was recorded stays readable, so any three make a code; new prices are only taken in one
/// that [is in use](Self::is_in_use).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// The codes of ISO 4217 that are money in use: without funds, metals, and codes for testing.
const IN_USE: &str = "\
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY \
    COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR \
    ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK \
    MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF \
    SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU \
    UZS VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

/// A text that is not a [`Currency`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a currency is three capital letters, like EUR")]
pub struct CurrencyError;

impl Currency {
    /// The regular expression of a currency's code.
    pub const PATTERN: &'static str = "^[A-Z]{3}$";

    /// Whether ISO 4217 (as of 2026) lists it as money that is in use.
    pub fn is_in_use(&self) -> bool {
        IN_USE.split_ascii_whitespace().any(|code| code == self.as_str())
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self(code)),
            _ => Err(CurrencyError),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = CurrencyError;

    fn try_from(text: String) -> Result<Self, CurrencyError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "An ISO 4217 currency code.",
            "type": "string",
            "pattern": Self::PATTERN,
        })
    }
}

/// An amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// How many minor units of the currency (cents).
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

/// Why two amounts do not make a third.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// It is more than 64 bits hold.
    #[error("the amount is too large")]
    Overflow,
    /// They are of different currencies.
    #[error("{0} and {1} do not add up")]
    Mixed(Currency, Currency),
}

impl Money {
    /// So many minor units of a currency.
    pub const fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// This and another amount.
    ///
    /// # Errors
    ///
    /// When they are of different currencies or come to more than 64 bits hold.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed(self.currency, other.currency));
        }
        self.with(i128::from(self.amount) + i128::from(other.amount))
    }

    /// This amount, so many times.
    ///
    /// # Errors
    ///
    /// When it comes to more than 64 bits hold.
    pub fn times(self, count: i64) -> Result<Self, MoneyError> {
        self.with(i128::from(self.amount) * i128::from(count))
    }

    fn with(self, amount: i128) -> Result<Self, MoneyError> {
        let amount = i64::try_from(amount).map_err(|_| MoneyError::Overflow)?;
        Ok(Self { amount, ..self })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn eur(amount: i64) -> Money {
        Money::new(amount, "EUR".parse().expect("a currency"))
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!("EUR".parse::<Currency>().map(String::from), Ok("EUR".to_owned()));
        for text in ["", "EU", "EURO", "eur", "E R", "ÄB", "€"] {
            assert_eq!(text.parse::<Currency>(), Err(CurrencyError), "{text:?}");
        }
    }

    #[test]
    fn currencies_do_not_mix() {
        let dollar = Money::new(1, "USD".parse().expect("a currency"));
        assert_eq!(eur(1).plus(dollar), Err(MoneyError::Mixed(eur(1).currency, dollar.currency)));
    }

    #[test]
    fn money_is_read_as_it_was_written_and_nothing_else_is() {
        let json = r#"{"amount":1999,"currency":"EUR"}"#;
        assert_eq!(serde_json::from_str::<Money>(json).expect("money"), eur(1999));
        assert_eq!(serde_json::to_string(&eur(1999)).expect("JSON"), json);
        for json in [
            r#"{"amount":19.99,"currency":"EUR"}"#,
            r#"{"amount":1,"currency":"eur"}"#,
            r#"{"amount":1}"#,
            r#"{"amount":1,"currency":"EUR","minor":true}"#,
        ] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn a_sum_is_exact_or_an_error(a: i64, b: i64) {
            prop_assert_eq!(eur(a).plus(eur(b)).ok().map(|sum| sum.amount), a.checked_add(b));
        }

        #[test]
        fn a_product_is_exact_or_an_error(a: i64, count: i64) {
            prop_assert_eq!(eur(a).times(count).ok().map(|product| product.amount), a.checked_mul(count));
        }
    }
}

//! Currencies and amounts of money, as whole numbers only.
//!
//! Owns how many decimal places a currency has, by ISO 4217, and every conversion of an amount. Nothing here is ever
//! a floating point number, and nothing wraps: what does not fit is an error.

use std::fmt;

/// Currencies without smaller units.
const WHOLE: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";

/// Currencies with cents or the like.
const HUNDREDTHS: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV \
     BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN \
     ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR \
     KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN \
     NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP \
     SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES \
     WST XCD XCG YER ZAR ZMW ZWG";

/// Currencies with thousandths.
const THOUSANDTHS: &str = "BHD IQD JOD KWD LYD OMR TND";

/// Currencies with ten-thousandths.
const TEN_THOUSANDTHS: &str = "CLF UYW";

/// Decimal places of the thousandths that WhatsApp carries.
const MILLE: u32 = 3;

/// The most decimal places of an amount that is understood: a divisor of ten digits does not fit WhatsApp's.
const PLACES: u32 = 9;

/// How many decimal places a currency has; `None` where ISO 4217 has no such currency.
pub fn places(currency: &str) -> Option<u32> {
    let all = [WHOLE, "", HUNDREDTHS, THOUSANDTHS, TEN_THOUSANDTHS];
    (0..)
        .zip(all)
        .find(|(_, codes)| codes.split(' ').any(|code| code == currency))
        .filter(|_| !currency.is_empty())
        .map(|(places, _)| places)
}

/// So many smallest units of a currency, of so many decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    units: i64,
    places: u32,
}

/// Why WhatsApp can't carry an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountError {
    /// It has more decimal places than thousandths have.
    Fraction,
    /// It is more thousandths than WhatsApp counts.
    TooLarge,
}

impl fmt::Display for AmountError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Fraction => "must be a whole number of thousandths of the currency",
            Self::TooLarge => "must have at most 9223372036854775807 thousandths of the currency",
        })
    }
}

impl Amount {
    /// So many units; `None` for a negative amount, or one of more places than anybody has.
    pub fn new(units: i64, places: u32) -> Option<Self> {
        (units >= 0 && places <= PLACES).then_some(Self { units, places })
    }

    /// So many thousandths; `None` where they are too many.
    pub fn of_thousandths(thousandths: u64) -> Option<Self> {
        Self::new(thousandths.try_into().ok()?, MILLE)
    }

    /// A value over a divisor, which is a power of ten; `None` where it is none.
    pub fn of_fraction(value: i64, divisor: u32) -> Option<Self> {
        let places = divisor.checked_ilog10()?;
        (divisor == 10_u32.pow(places)).then(|| Self::new(value, places))?
    }

    /// The smallest units.
    pub fn units(self) -> i64 {
        self.units
    }

    /// Their decimal places.
    pub fn places(self) -> u32 {
        self.places
    }

    /// What the units are to be divided by.
    pub fn divisor(self) -> u32 {
        10_u32.pow(self.places)
    }

    /// The same amount with so many places, or with as few more as it takes to tell it whole, or with as many as
    /// there is room for.
    pub fn with_places(mut self, places: u32) -> Self {
        while self.places > places && self.units % 10 == 0 {
            self.units /= 10;
            self.places -= 1;
        }
        while self.places < places.min(PLACES)
            && let Some(units) = self.units.checked_mul(10)
        {
            self.units = units;
            self.places += 1;
        }
        self
    }

    /// The same amount in thousandths.
    pub fn thousandths(self) -> Result<u64, AmountError> {
        let told = self.with_places(MILLE);
        if told.places > MILLE {
            return Err(AmountError::Fraction);
        }
        if told.places < MILLE {
            return Err(AmountError::TooLarge);
        }
        u64::try_from(told.units).map_err(|_| AmountError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_currency_has_its_places() {
        for (code, known) in [
            ("JPY", Some(0)),
            ("BRL", Some(2)),
            ("KWD", Some(3)),
            ("CLF", Some(4)),
            ("XXX", None),
            ("brl", None),
            ("", None),
            ("BRL USD", None),
        ] {
            assert_eq!(places(code), known, "{code}");
        }
        let all = [WHOLE, HUNDREDTHS, THOUSANDTHS, TEN_THOUSANDTHS].join(" ");
        let codes: Vec<_> = all.split(' ').collect();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
        let shaped =
            |code: &&str| code.len() == 3 && code.bytes().all(|one| one.is_ascii_uppercase());
        assert!(codes.iter().all(shaped));
    }

    #[test]
    fn amounts_become_thousandths() {
        let thousandths = |units, places| Amount::new(units, places).unwrap().thousandths();
        assert_eq!(thousandths(1_050, 2), Ok(10_500));
        assert_eq!(thousandths(7, 0), Ok(7_000));
        assert_eq!(thousandths(12_340, 4), Ok(1_234));
        assert_eq!(thousandths(12_345, 4), Err(AmountError::Fraction));
        assert_eq!(thousandths(i64::MAX, 3), Ok(i64::MAX as u64));
        assert_eq!(thousandths(i64::MAX, 2), Err(AmountError::TooLarge));
        assert_eq!(
            thousandths(i64::MAX / 10, 2),
            Ok((i64::MAX / 10 * 10) as u64)
        );
    }

    #[test]
    fn what_is_no_amount_is_none() {
        assert_eq!(Amount::new(-1, 2), None);
        assert_eq!(Amount::new(1, 10), None);
        assert_eq!(Amount::of_thousandths(u64::MAX), None);
        for divisor in [0, 2, 99, 101, u32::MAX] {
            assert_eq!(Amount::of_fraction(1, divisor), None, "{divisor}");
        }
        assert_eq!(
            Amount::of_fraction(5, 1_000_000_000).map(Amount::places),
            Some(9)
        );
        assert_eq!(Amount::of_fraction(-5, 100), None);
    }

    /// Whether two amounts are the same, by numbers that have room for both.
    fn same(one: Amount, other: Amount) -> bool {
        let whole = |amount: Amount| i128::from(amount.units) * 10_i128.pow(PLACES - amount.places);
        whole(one) == whole(other)
    }

    proptest! {
        #[test]
        fn no_conversion_changes_an_amount(units in 0..=i64::MAX, places in 0..=PLACES, wanted in 0..=12_u32) {
            let amount = Amount::new(units, places).unwrap();
            let other = amount.with_places(wanted);
            prop_assert!(same(amount, other), "{amount:?} is not {other:?}");
            // And back as far as that goes.
            prop_assert!(same(other.with_places(places), amount));
            let fraction = Amount::of_fraction(amount.units(), amount.divisor());
            prop_assert_eq!(fraction, Some(amount));
        }

        #[test]
        fn thousandths_come_back_as_they_were(units in 0..=i64::MAX, places in 0..=4_u32) {
            let amount = Amount::new(units, places).unwrap();
            match amount.thousandths() {
                Ok(thousandths) => {
                    let back = Amount::of_thousandths(thousandths).unwrap();
                    prop_assert!(same(back, amount));
                    prop_assert_eq!(back.with_places(places), amount);
                }
                Err(AmountError::Fraction) => prop_assert!(places == 4 && units % 10 != 0),
                Err(AmountError::TooLarge) => {
                    prop_assert!(i128::from(units) * 10_i128.pow(3 - places) > i128::from(i64::MAX));
                }
            }
        }

        #[test]
        fn no_sender_makes_it_panic(value in any::<i64>(), divisor in any::<u32>(), thousandths in any::<u64>()) {
            let amounts = [Amount::of_fraction(value, divisor), Amount::of_thousandths(thousandths)];
            for amount in amounts.into_iter().flatten() {
                prop_assert!(same(amount, amount.with_places(2)));
            }
        }
    }
}
